"""Few-shot tagging, every system on the same episodes: `make bench-fewshot ROOT=<folder of the corpora>`.

Nine systems on the frozen states of the packaged MiniLM (captions are MOUSING's image nodes), six splits of four types
into two for training and two for testing, three seeds, five support posts in all (`total`) or for each type
(`per_type`), every eligible test post once as query. Dev (source types) selects, test is looked at once.

With `--tower trained` the tower is first trained on the source types (one seed), then frozen.

A cell is one run of `mnerkit fit`. Its figures are kept in `benchmarks/results/fewshot-<corpus>-<tower>.jsonl` and it
is skipped from then on, until its configuration, the data or a source file that it uses changes. Stop it when you like;
the same command goes on.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench_quality import minilm

from mnerkit import registry
from mnerkit.data.corpora import TYPES, load_corpus
from mnerkit.data.episodes import two_type_splits
from mnerkit.provenance import source_digest
from mnerkit.runs import RunFolder, deciding, write_lines, write_text
from mnerkit.tagging.heads import HEADS
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS = (0, 1, 2)
SUPPORTS = ("total", "per_type")

# readings of MOUSING's paper, chosen on dev posts (README.md of the plugin), the same for all splits and ablations
MOUSING = {
    "--model.vision": "tiny",
    "--model.image_nodes": "captions",
    "--model.hidden": "384",
    "--model.kl_width": "128",
    "--model.edge_sim": "zscore_block",
    "--model.delta": "1.5",
    "--model.neighbourhood": "original",
    "--model.residual": "true",
    "--model.head": "prototype_crf",
    "--model.head.distance": "cosine",
    "--model.head.dist_scale": "30",
    "--model.head.proto_classes": "io",
    "--model.head.o_proto": "nearest",
    "--model.lr": "5.0e-4",
    "--model.warmup": "0.05",
    "--data.episodes_per_epoch": "100",
    "--data.dev_episodes": "100",
    "--trainer.max_epochs": "3",
    "--trainer.gradient_clip_val": "1.0",
}
FROZEN = {"--model.freeze": "true", "--data.dev_episodes": "100", "--trainer.max_epochs": "1"}
# on dev better than Euclidean distances to one prototype a BIO tag
PROTOTYPE = {"--model.head.distance": "cosine", "--model.head.proto_classes": "io"}
SYSTEMS: dict[str, tuple[str, dict[str, str]]] = {
    "MOUSING": ("mousing", MOUSING),
    "w/o Image": ("mousing", {**MOUSING, "--ablation": "no_image"}),
    "w/o Intervention": ("mousing", {**MOUSING, "--ablation": "no_intervention"}),
    "w/o Multi-view": ("mousing", {**MOUSING, "--ablation": "no_multiview"}),
    "w/o MCIS": ("mousing", {**MOUSING, "--ablation": "no_mcis"}),
    "prototype": ("bert", {**FROZEN, "--model.head": "prototype", **PROTOTYPE}),
    "nearest": ("bert", {**FROZEN, "--model.head": "nearest"}),
    "struct": ("bert", {**FROZEN, "--model.head": "struct"}),
    "finetune": ("bert", {**FROZEN, "--model.head": "finetune"}),
}
BASELINES = ("prototype", "nearest", "struct", "finetune")
# the tower that `--tower trained` trains on the source types, with the softmax that NNShot drops afterwards
TRAINING = {
    "--model.head": "nearest",
    "--model.tower_lr": "1.0e-4",
    "--model.head_lr": "2.0e-3",
    "--trainer.max_epochs": "2",
    "--trainer.gradient_clip_val": "1.0",
}


@dataclass(frozen=True)
class Cell:
    """One run: a system on one split, with one seed and one reading of K."""

    system: str
    split: str
    seed: int
    support: str

    @property
    def name(self) -> str:
        """Plain name of its run folder."""
        plain = self.system.replace("/", "").replace(" ", "-").lower()
        return f"{plain}-{self.split}-{self.support}-s{self.seed}"


@dataclass(frozen=True)
class Bench:
    """What all cells share."""

    corpus: str
    root: str
    runs: str
    tower: str

    def argv(self, cell: Cell) -> list[str]:
        """The command of a cell, from `fit` on."""
        plugin, options = SYSTEMS[cell.system]
        argv = ["fit", "--plugin", plugin, "--seed", str(cell.seed), "--test", "--name", cell.name]
        argv += ["--runs_dir", self.runs, "--data.corpus", self.corpus, "--data.root", self.root]
        argv += ["--model.text", self.text(cell), "--data.train_types", cell.split, "--data.support", cell.support]
        argv += ["--data.k_shot", "5", "--data.eval_episodes", "all_queries", "--trainer.enable_progress_bar", "false"]
        return argv + [word for pair in options.items() for word in pair]

    def text(self, cell: Cell) -> str:
        """Folder of the text tower."""
        return str(minilm() if self.tower == "frozen" else self.trained(cell.split))

    def trained(self, split: str) -> Path:
        """Folder of the tower trained on a split, named by all that decides its weights."""
        facts = [
            TRAINING,
            _data(self.corpus, self.root),
            _sources("mnerkit_plugins.bert", "mnerkit.tagging.heads.nearest"),
        ]
        name = hashlib.sha256(json.dumps([*facts, _weights()]).encode()).hexdigest()[:12]
        return Path(self.runs) / "towers" / f"{split}-{name}"

    def folder(self, cell: Cell) -> RunFolder:
        """Where the run of a cell lies."""
        return RunFolder(Path(self.runs) / SYSTEMS[cell.system][0] / self.corpus / cell.name)

    def digest(self, cell: Cell) -> str:
        """Digest of all that decides a cell's figures: configuration, data and sources; not where things lie."""
        from mnerkit.cli import options

        config = deciding(options.resolve(options.parse("fit", self.argv(cell)[1:])).config)
        config["data"].pop("root")
        config["model"]["text"] = self.tower
        plugin = registry.get(SYSTEMS[cell.system][0])
        head = HEADS[config["model"]["head"]["name"]].partition(":")[0]
        facts = [config, _data(self.corpus, self.root), _sources(plugin.entry.module.rpartition(".")[0], head)]
        facts += [_weights(), TRAINING if self.tower == "trained" else None]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@cache
def _data(corpus: str, root: str) -> str:
    content = load_corpus(corpus, root=root)
    captions = sorted(
        {image.caption or "" for posts in content.splits.values() for post in posts for image in post.images}
    )
    return content.digest + hashlib.sha256("\n".join(captions).encode()).hexdigest()


@cache
def _weights() -> str:
    return hashlib.sha256((minilm() / "model.safetensors").read_bytes()).hexdigest()


@cache
def _sources(plugin: str, head: str) -> str:
    return source_digest([plugin, head, "mnerkit.cli.assembly"])


def cells(names: Sequence[str], seeds: Sequence[int], supports: Sequence[str]) -> list[Cell]:
    """All cells, a whole sweep of one seed after the other, so that a bench that is cut off can be read."""
    splits = list(two_type_splits(TYPES))
    return [
        Cell(system, split, seed, support)
        for seed in seeds
        for support in supports
        for split in splits
        for system in names
    ]


def run(task: tuple[Bench, Cell, str]) -> dict[str, Any]:
    """Run a cell in this process; its figures, or its error."""
    bench, cell, digest = task
    from mnerkit.cli import main as mnerkit

    started, used, said = time.time(), time.process_time(), io.StringIO()
    folder = bench.folder(cell)
    if folder.path.is_dir():  # of an older state of the sources, or cut off
        shutil.rmtree(folder.path)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = mnerkit(bench.argv(cell))
    row: dict[str, Any] = {**asdict(cell), "digest": digest, "seconds": round(time.time() - started, 1)}
    row["seconds_cpu"] = round(time.process_time() - used, 1)
    if code:
        return {**row, "error": said.getvalue().strip().split("\n")[-1]}
    metrics = folder.metrics()
    row |= {"best_epoch": metrics["best_epoch"], "seconds_train": metrics["seconds"]["train"]}
    row["dev"] = metrics["dev"]["f1"]
    kept = ("f1", "precision", "recall", "f1_low", "f1_high", "f1_episode", "episodes")
    row["test"] = {key: metrics["test"][key] for key in kept}
    row["counts"] = _counts(folder)
    for each in (folder.best, folder.last):  # the figures and predictions are kept
        each.unlink(missing_ok=True)
    return row


def _counts(folder: RunFolder) -> str:
    """`gold,predicted,correct` entities of each episode, in order of their numbers, packed (see `unpacked`)."""
    from mnerkit.tagging.comparison import read_answers

    answers = sorted(read_answers(folder.path / "predictions.test.jsonl"), key=lambda each: each.episode or 0)
    text = " ".join(f"{len(a.gold)},{len(a.said)},{len(a.gold & a.said)}" for a in answers)
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(counts: str) -> list[list[int]]:
    """Gold, predicted and correct entities of each episode."""
    text = zlib.decompress(base64.b85decode(counts)).decode()
    return [[int(number) for number in each.split(",")] for each in text.split()]


def train_towers(bench: Bench, splits: Iterable[str]) -> None:
    """Train MiniLM on the source types of each split (`--tower trained`), and keep it as a folder."""
    from mnerkit.cli import main as mnerkit
    from mnerkit.tagging.checkpoint import load

    for split in splits:
        folder = bench.trained(split)
        if (folder / "config.json").is_file():
            continue
        print(f"training the tower on {split}", flush=True)
        name = f"tower-{folder.name}"
        argv = ["fit", "--plugin", "bert", "--name", name, "--runs_dir", bench.runs, "--data.corpus", bench.corpus]
        argv += ["--data.root", bench.root, "--model.text", str(minilm()), "--trainer.enable_progress_bar", "false"]
        argv += ["--data.train_types", split, *[word for pair in TRAINING.items() for word in pair]]
        if code := mnerkit(argv):
            sys.exit(code)
        tower = load(RunFolder(Path(bench.runs) / "bert" / bench.corpus / name).best).towers["text"]
        draft = folder.with_name(f".{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(minilm(), draft)
        tower.model.save_pretrained(draft)  # type: ignore[operator,union-attr]
        draft.rename(folder)


def sweep(bench: Bench, wanted: list[Cell], path: Path, jobs: int) -> dict[Cell, dict[str, Any]]:
    """Run the cells that are not done yet; every finished one is on disk at once."""
    known = {(row["system"], row["split"], row["seed"], row["support"]): row for row in _read(path)}
    digests = {cell: bench.digest(cell) for cell in wanted}
    done = {
        cell: known[key]
        for cell in wanted
        if (key := (cell.system, cell.split, cell.seed, cell.support)) in known
        and known[key]["digest"] == digests[cell]
    }
    left = [(bench, cell, digests[cell]) for cell in wanted if cell not in done]
    print(f"{len(wanted)} cells, {len(done)} done before, {len(left)} to run in {jobs} processes", flush=True)
    started, failed = time.time(), 0
    # a process each: importing takes seconds, and a cell not much longer
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(left)) or 1) as pool:
        for number, row in enumerate(pool.imap_unordered(run, left), start=1):
            cell = Cell(row["system"], row["split"], row["seed"], row["support"])
            said = row.get("error") or f"test F1 {row['test']['f1']:5.1f}"
            rest = (time.time() - started) / number * (len(left) - number)
            print(
                f"{number}/{len(left)} {cell.name}: {said} ({row['seconds']:.0f} s; {rest / 60:.0f} min left)",
                flush=True,
            )
            if "error" in row:
                failed += 1
                continue
            done[cell] = row
            known[cell.system, cell.split, cell.seed, cell.support] = row
            write_lines(path, known.values())
    if failed:
        print(f"{failed} cells failed; the same command tries them again")
    return done


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text("utf-8").split("\n") if line)


def report(
    done: dict[Cell, dict[str, Any]], names: Sequence[str], supports: Sequence[str], seeds: Sequence[int]
) -> str:
    """A table for each reading of K: test F1 of each split, mean over seeds, and the average with its interval."""
    from mnerkit.tagging.intervals import mean_interval

    splits = list(two_type_splits(TYPES))
    parts = []
    for support in supports:
        rows: list[list[Any]] = []
        for system in names:
            of = {
                (cell.split, cell.seed): row
                for cell, row in done.items()
                if (cell.system, cell.support) == (system, support)
            }
            whole = [seed for seed in seeds if all((split, seed) in of for split in splits)]
            if not whole:
                continue
            averages = [sum(of[split, seed]["test"]["f1"] for split in splits) / len(splits) for seed in whole]
            mean = mean_interval(averages)
            dev = sum(of[split, seed]["dev"] for split in splits for seed in whole) / len(splits) / len(whole)
            each = [sum(of[split, seed]["test"]["f1"] for seed in whole) / len(whole) for split in splits]
            half = "" if mean.half is None else f"{mean.half:.1f}"
            rows.append([system, *each, mean.mean, half, len(whole), dev])
        if rows:
            head = ["system", *splits, "Avg", "+-", "seeds", "dev (source)"]
            parts.append(f"support: {support}, 5 posts, every eligible test post once\n{table(head, rows)}")
            parts.append("\n".join(_paired(done, names, support, splits)))
    return "\n\n".join(part for part in parts if part)


def _paired(
    done: dict[Cell, dict[str, Any]], names: Sequence[str], support: str, splits: Sequence[str]
) -> Iterator[str]:
    """MOUSING against every other system, over all episodes that both have been asked."""
    import numpy as np

    from mnerkit.tagging.significance import paired_counts_test

    for other in names:
        rows = []
        for cell, row in done.items():
            if (cell.system, cell.support) != ("MOUSING", support) or other == "MOUSING":
                continue
            twin = done.get(Cell(other, cell.split, cell.seed, support))
            if twin is None:
                continue
            for (gold, *of_a), (same, *of_b) in zip(unpacked(twin["counts"]), unpacked(row["counts"]), strict=True):
                if gold != same:
                    raise SystemExit(f"{cell.name} and {other} were asked different episodes")
                rows.append([gold, *of_a, *of_b])
        if rows:
            test = paired_counts_test(np.array(rows))
            yield (
                f"MOUSING - {other}: {test['difference']:+.2f} pooled F1 (95 % {test['low']:+.2f} to "
                f"{test['high']:+.2f}, p = {test['p']:.4f}, {len(rows)} episodes)"
            )


def main() -> int:
    """Run what is left, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the corpora and captions")
    parser.add_argument("--corpus", default="twitter2017", choices=["twitter2015", "twitter2017"])
    parser.add_argument(
        "--tower",
        default="frozen",
        choices=["frozen", "trained"],
        help="MiniLM as it is, or trained on the source types",
    )
    parser.add_argument("--runs", default="runs/bench-fewshot", help="where the runs lie")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2; with --tower trained 0")
    parser.add_argument("--supports", nargs="+", default=list(SUPPORTS), choices=SUPPORTS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at once, one thread each")
    parser.add_argument("--report", action="store_true", help="print the tables of what is there, run nothing")
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    seeds = asked.seeds or (SEEDS if asked.tower == "frozen" else (0,))
    wanted = cells(asked.systems, seeds, asked.supports)
    bench = Bench(asked.corpus, asked.root, str(Path(asked.runs) / f"{asked.corpus}-{asked.tower}"), asked.tower)
    path = RESULTS / f"fewshot-{asked.corpus}-{asked.tower}.jsonl"
    whole = (asked.systems, asked.supports, asked.seeds) == (list(SYSTEMS), list(SUPPORTS), None)
    if asked.report:
        done = {Cell(*(row[key] for key in ("system", "split", "seed", "support"))): row for row in _read(path)}
        stale = sum(row["digest"] != bench.digest(cell) for cell, row in done.items())
        if stale:
            print(f"{stale} of {len(done)} rows were measured before the sources, settings or data changed")
    else:
        if asked.tower == "trained":
            train_towers(bench, two_type_splits(TYPES))
        done = sweep(bench, wanted, path, asked.jobs)
    said = report(done, asked.systems, asked.supports, seeds)
    print(said)
    if whole:
        write_text(path.with_suffix(".txt"), said + "\n")
    return 0 if asked.report or len(done) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
