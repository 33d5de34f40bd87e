"""The grid: what becomes a run, which runs are one, and what a run is told apart by."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit import registry
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads import head_options
from mnerkit.reproduce.experiments import experiment_files, printed, profiles
from mnerkit.reproduce.experiments.profiles import papers_model
from mnerkit.reproduce.training import dotted, merged, text_of
from mnerkit.runs import identity
from tests.reproduce.small import EXPERIMENTS, MINI, TABLE, built, finish


def resolved(*words: str) -> dict[str, Any]:
    return configuration_of(["fit", *words]).content


def test_corpora_collapse_and_identical_runs_are_one(folder: Path) -> None:
    made = built(folder)
    table = made.tables["paper/table1"]
    bert, crf, umt = ([cell for cell in table.cells if cell.row == row] for row in range(3))
    # two corpora, two figures each: one run of the probe
    assert len({digest for cell in bert for digest in cell.runs}) == 1
    assert [cell.of for cell in crf[4:]] == [((1, 0), (1, 2)), ((1, 1), (1, 3))]
    assert {cell.reason for cell in umt} == {"UMT is not here"}
    assert table.rows[2]["printed_only"] == "UMT is not here"
    assert [(cell.figure.value, cell.figure.raw) for cell in crf[:2]] == [(None, None), (12.0, "12")]
    # softmax, CRF, and CRF with two other dropouts: that of the sweep's best is the default of plugin bert
    swept = made.tables["paper/sweep"]
    assert swept.points == (0.0, 0.2, 0.4)
    assert swept.cells[1].runs == crf[0].runs
    assert len(made.runs) == 4
    assert [run.seed for run in made.needed(["paper/table1"])] == [0, 0]


@pytest.mark.parametrize(
    ("score", "wanted"), [("true", None), ("1e999", None), ("NaN", None), ('"7"', None), ("7", 7.0)]
)
def test_a_score_that_is_no_number_fills_no_cell(
    folder: Path, tmp_path: Path, score: str, wanted: float | None
) -> None:
    made = built(folder, "paper/sweep", out=tmp_path)
    run = made.runs[made.tables["paper/sweep"].cells[0].runs[0]]
    done = finish(run.training.command)
    done.metrics_file.write_text(done.metrics_file.read_text().replace("50.0", score))
    assert run.score("test", "f1") == wanted


def test_seeds_multiply_runs_and_not_cells(folder: Path) -> None:
    made = built(folder, "paper/table1", seeds=[3, 5])
    cell = made.tables["paper/table1"].cells[0]
    assert [made.runs[digest].seed for digest in cell.runs] == [3, 5]
    assert [run.seed for run in made.needed(["paper/table1"])] == [3, 3, 5, 5]


def test_the_paper_s_seeds_are_those_of_the_experiment(folder: Path) -> None:
    (folder / "profiles" / "all.yaml").write_text(MINI.replace("seeds: [0]", "seeds: paper").replace("points: 3\n", ""))
    made = built(folder, profile="all")
    assert len(made.tables["paper/table1"].cells[0].runs) == 2
    assert made.tables["paper/sweep"].points == (0.0, 0.1, 0.2, 0.3, 0.4)


def test_an_ablation_wins_over_a_config_file(folder: Path) -> None:
    """A file given as `--config` wins over `--ablation`, which would then be no ablation."""
    (folder / "own.yaml").write_text("plugin: bert\nmodel: {head: {name: crf}, dropout: 0.3}\n")
    (folder / "profiles" / "mini.yaml").write_text(MINI.replace("bert: {}", "bert: {configs: {'*': own.yaml}}"))
    made = built(folder, "paper/table1")
    run = made.runs[made.tables["paper/table1"].cells[0].runs[0]]
    config = resolved(*run.training.command[1:])
    assert (config["model"]["head"]["name"], config["model"]["dropout"]) == ("softmax", 0.3)
    assert config["ablation"] == "softmax"


def test_a_run_that_another_needs_comes_first_and_decides_it(folder: Path, tmp_path: Path) -> None:
    first = "bilstm: {}\n  gifr: {first: {plugin: relevance, file: relevance.jsonl, option: data.relevance}}"
    (folder / "profiles" / "mini.yaml").write_text(MINI.replace("bilstm: {}", first))
    text = TABLE.replace("plugin: bert}", "plugin: gifr}")
    (folder / "paper" / "table1.yaml").write_text(text)
    made = built(folder, "paper/table1", out=tmp_path)
    runs = made.needed(["paper/table1"])
    assert [run.plugin for run in runs] == ["bert", "relevance", "gifr"]
    command = runs[2].training.command
    file = command[command.index("--data.relevance") + 1]
    assert file == str(runs[1].folder.path / "relevance.jsonl")


def root_with(folder: Path, *corpora: str) -> str:
    """A root below which these corpora lie, of a post a split."""
    for name in corpora:
        (folder / "root" / name).mkdir(parents=True)
        for split in ("train", "valid", "test"):
            (folder / "root" / name / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\n")
    return str(folder / "root")


def test_a_corpus_that_is_not_there_leaves_its_cells_as_printed(folder: Path, tmp_path: Path) -> None:
    text = MINI.replace("corpora:\n  posts: {data.corpus: probe, data.variant: default}\n", "")
    (folder / "profiles" / "mini.yaml").write_text(text)
    made = built(folder, "paper/table1", root=root_with(tmp_path, "twitter2015"))
    cells = [cell for cell in made.tables["paper/table1"].cells if cell.row == 0]
    assert [bool(cell.runs) for cell in cells] == [True, True, False, False, False, False]
    assert "no annotation files of twitter2017" in str(cells[2].reason)
    assert cells[5].reason == cells[2].reason  # the mean of both
    with pytest.raises(UsageError, match="--root DIR"):
        built(folder, "paper/table1")


def test_options_of_a_corpus_are_those_of_its_runs(folder: Path, tmp_path: Path) -> None:
    text = MINI.replace("bert: {}", "bert: {by_corpus: {twitter2015: {model.lr: 0.007}}}")
    (folder / "profiles" / "mini.yaml").write_text(text)
    assert all(
        "--model.lr" not in run.training.command for run in built(folder, "paper/table1").runs.values()
    )  # on the probe
    text = text.replace("corpora:\n  posts: {data.corpus: probe, data.variant: default}\n", "")
    (folder / "profiles" / "mini.yaml").write_text(text)
    root = root_with(tmp_path, "twitter2015", "twitter2017")
    runs = built(folder, "paper/table1", root=root).runs.values()
    assert {(run.corpus, "--model.lr" in run.training.command) for run in runs} == {
        ("twitter2015", True),
        ("twitter2017", False),
    }


def test_options_of_an_ablation_are_those_of_its_rows(tmp_path: Path) -> None:
    made = built(EXPERIMENTS, "gmf/table2", profile="tweets", tower="FOLDER", root=root_with(tmp_path, "twitter2015"))
    table = made.tables["gmf/table2"]
    names = ("GVATT-HBiLSTM-CRF", "GVATT-BERT-CRF")
    rows = {row.name: number for number, row in enumerate(table.experiment.rows) if row.name in names}
    trained, differs = {}, {}
    for name, row in rows.items():
        cell = next(cell for cell in table.cells if cell.row == row and cell.runs)
        trained[name], differs[name] = made.runs[cell.runs[0]].training.configuration().content, str(cell.differs)
    assert [trained[name]["model"]["text"] for name in names] == ["bilstm", "FOLDER"]
    assert [trained[name]["trainer"]["max_epochs"] for name in names] == [15, 2]
    assert ["text tower: FOLDER" in differs[name] for name in names] == [False, True]


def test_a_profile_differs_on_some_data(folder: Path) -> None:
    said = "seconds: 1\ndiffers: [all]\ndiffers_on: {posts: [posts], fewshot: [few]}"
    (folder / "profiles" / "mini.yaml").write_text(MINI.replace("seconds: 1", said))
    cells = built(folder, "paper/sweep").tables["paper/sweep"].cells
    assert {cell.differs for cell in cells} == {("all", "posts")}


@pytest.mark.parametrize("corpus", ["twitter2015", "twitter2017"])
def test_real_tweets_have_the_temperature_of_gmf_s_paper(corpus: str) -> None:
    said = profiles.load("tweets", EXPERIMENTS).plugins["gmf"].by_corpus[corpus]
    assert said == {"model.tau": papers_model(EXPERIMENTS, "gmf", corpus, "gmf")["tau"]}


def test_a_baseline_has_the_tower_of_the_paper_whose_table_it_is_in() -> None:
    bert = profiles.load("paper", EXPERIMENTS).plugins["bert"]
    towers = {paper: papers_model(EXPERIMENTS, "bert", "twitter2017", paper)["text"] for paper in printed.PAPERS}
    assert towers == {
        "gei": "bert-base-cased",
        "gifr": "bert-base-uncased",
        "gmf": "bert-base-uncased",
        "mgips_cl": "bert-base-uncased",
        "mousing": "bert-base-cased",
    }
    for paper in ("gmf", "mgips_cl"):  # a baseline has the paper's own rate and tower
        ours = papers_model(EXPERIMENTS, paper, "twitter2017", paper)
        own = papers_model(EXPERIMENTS, "bert", "twitter2017", paper)
        assert all(own[name] == ours[name] for name in ("text", "lr", "head_lr", "weight_decay", "warmup"))
    assert bert.config("twitter2015", "gmf") != bert.config("twitter2017", "gmf")
    assert bert.config("mner-mi", "gmf") == bert.config("mner-mi", "gei")  # of others those of all papers


def test_fewer_seeds_than_the_paper_s_are_told_and_a_seed_given_twice_is_one(folder: Path) -> None:
    def differs(*seeds: int) -> set[tuple[str, ...]]:
        made = built(folder, "paper/table1", seeds=list(seeds))
        return {cell.differs for cell in made.tables["paper/table1"].cells}

    assert differs() == differs(7) == differs(7, 7) == {("seeds: 1, not 2",)}
    assert differs(0, 1) == differs(3, 4, 5) == {()}
    made = built(folder, "paper/sweep", seeds=[3, 3])
    assert all(len(cell.runs) == 1 for cell in made.tables["paper/sweep"].cells)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("gmf/table2", {"tower": "bert-base-uncased"}, ["pictures: their captions in place of them"]),
        (
            "gmf/table2",
            {"tower": "roberta-base", "vision": "resnet50"},
            ["text tower: roberta-base, not the paper's"],
        ),
        (
            "gmf/table2",
            {"tower": "bert-base-uncased", "vision": "resnet18"},
            ["vision tower: resnet18, not the paper's"],
        ),
        (  # whose file says ${model.text} of the vision tower
            "mousing/table2",
            {"tower": "openai/clip-vit-large-patch14", "vision": "openai/clip-vit-large-patch14"},
            [],
        ),
    ],
)
def test_towers_are_compared_with_those_of_the_papers(
    name: str, given: dict[str, str], wanted: list[str], tmp_path: Path
) -> None:
    for corpus in ("twitter2015", "twitter2017"):
        (tmp_path / corpus).mkdir()
        for split in ("train", "valid", "test"):
            (tmp_path / corpus / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\n")
    table = built(EXPERIMENTS, name, profile="tweets", root=str(tmp_path), **given).tables[name]
    (row,) = [number for number, each in enumerate(table.rows) if each["name"] in ("GMF", "MOUSING (as printed)")]
    said = {reason for cell in table.cells if cell.row == row for reason in cell.differs}
    assert sorted(each for each in said if each.startswith(("text tower", "vision tower", "pictures"))) == wanted
    # GMF's paper has one seed, too
    seeds = {each for each in said if each.startswith("seeds")}
    assert seeds == (set() if name == "gmf/table2" else {"seeds: 1, not 3"})


def test_a_wrong_option_names_its_file(folder: Path) -> None:
    path = folder / "paper" / "sweep.yaml"
    path.write_text(path.read_text().replace("model.dropout", "model.dropuot"))
    with pytest.raises(DataError, match=r"sweep\.yaml: BERT-CRF.*model\.dropuot.*Did you mean '--model.dropout'"):
        built(folder, "paper/sweep")


def test_rows_of_some_profiles_only_say_why(folder: Path) -> None:
    row = "plugin: bert, only: [paper], why: too large}"
    (folder / "profiles" / "paper.yaml").write_text(MINI)
    (folder / "paper" / "table1.yaml").write_text(TABLE.replace("plugin: bert}", row))
    made = built(folder, "paper/table1")
    assert made.tables["paper/table1"].rows[1]["printed_only"] == "too large"


@pytest.mark.parametrize(
    ("name", "row", "why"),
    [
        ("gmf/table4", "w/o CSA", "captions have no maps"),
        ("gei/table1", "+Image Region", "captions have words in place of objects and of regions"),
    ],
)
def test_a_row_that_captions_can_t_show_is_run_with_pictures(name: str, row: str, why: str, tmp_path: Path) -> None:
    for corpus in ("twitter2015", "twitter2017"):
        (tmp_path / corpus).mkdir()
        for split in ("train", "valid", "test"):
            (tmp_path / corpus / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\n")

    def said(profile: str, vision: str | None = None) -> list[str | None]:
        made = built(EXPERIMENTS, name, profile=profile, root=str(tmp_path), tower="tiny", vision=vision)
        return [each["printed_only"] for each in made.tables[name].rows if each["name"] == row]

    (reason,) = said("tweets")
    assert str(reason).startswith(why)
    assert said("tweets", "resnet50") == said("paper") == said("mini") == [None]


def test_identity_is_what_decides_figures_and_nothing_else(tmp_path: Path) -> None:
    plain = resolved("--plugin", "bert", "--model.dropout", "0.1")

    def digest(*words: str) -> str:
        return identity.digest_of(resolved("--plugin", "bert", "--model.dropout", "0.1", *words))

    same = identity.digest_of(plain)
    # what the class, or the head, would take anyway; a float that is whole; where and how fast things are read
    for words in (
        ["--model.word_pool", "first"],
        ["--model.head.constrain_bio", "false"],
        ["--data.train_fraction", "1"],
        ["--trainer.gradient_clip_val", "5"],
        ["--data.workers", "2"],
        ["--data.cache", "none"],
        ["--data.root", str(tmp_path)],
        ["--logger", "wandb", "--wandb.group", "g"],
        ["--trainer.enable_progress_bar", "false"],
        ["--ablation", "bilstm", "--model.bilstm_after_encoder", "false"],
    ):
        assert digest(*words) == same, words
    other = [
        ["--model.word_pool", "mean"],
        ["--model.head", "softmax"],
        ["--model.head.constrain_bio", "true"],
        ["--data.limit", "10"],
        ["--seed", "1"],
        ["--trainer.max_epochs", "1"],
        ["--ablation", "bilstm"],
    ]
    assert len({same, *(digest(*words) for words in other)}) == 1 + len(other)


def test_a_tower_in_a_folder_is_known_by_its_files_not_its_place(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"other" if name == "c" else b"weights")
    a, b, c = (
        identity.digest_of(resolved("--plugin", "bert", "--model.text", str(tmp_path / name)))
        for name in ("a", "b", "c")
    )
    assert a == b != c


def test_data_and_behaviour_numbers_are_part_of_a_run_s_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(root: Path, word: str) -> None:
        (root / "twitter2015").mkdir(parents=True)
        for split in ("train", "valid", "test"):
            (root / "twitter2015" / f"{split}.txt").write_text(f"IMGID:{split}\n{word}\tB-PER\n")

    for name, word in (("a", "Ada"), ("c", "Bob")):
        write(tmp_path / name, word)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    words = ["--plugin", "bert", "--data.corpus", "twitter2015", "--data.root"]
    a, b, c = (identity.digest_of(resolved(*words, str(tmp_path / name))) for name in ("a", "b", "c"))
    assert a == b != c
    seen = {a}
    for kind in (registry.get("bert").options_class, head_options("crf")):
        with monkeypatch.context() as patch:
            patch.setattr(kind, "behaviour", kind.behaviour + 1)
            seen.add(identity.digest_of(resolved(*words, str(tmp_path / "a"))))
    monkeypatch.setattr(identity, "BEHAVIOUR", identity.BEHAVIOUR + 1)
    assert len({*seen, identity.digest_of(resolved(*words, str(tmp_path / "a")))}) == 4


def test_captions_crops_and_files_count_by_what_they_hold(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "twitter2015").mkdir(parents=True)
    (root / "twitter2015_images").mkdir()
    (root / "captions").mkdir()
    crops = root / "twitter2015_aux_images"
    (crops / "train" / "crops").mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (root / "twitter2015" / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\n")

    def digest(*words: str) -> str:
        identity._corpus_digest.cache_clear()
        identity.content_of.cache_clear()
        return identity.digest_of(resolved(*words, "--data.corpus", "twitter2015", "--data.root", str(root)))

    seen = {digest("--plugin", "hvpnet")}
    for path, content in (
        (root / "captions" / "twitter2015.txt", "train.jpg :a cat\nvalid.jpg :a dog\n"),
        (root / "captions" / "twitter2015.txt", "train.jpg :a dog\nvalid.jpg :a cat\n"),  # of other pictures
        (root / "twitter2015" / "twitter2015_train_dict.pth", "one"),
        (root / "twitter2015" / "twitter2015_train_dict.pth", "two"),
        (crops / "train" / "crops" / "a.jpg", "a crop"),
    ):
        path.write_text(content)
        seen.add(digest("--plugin", "hvpnet"))
    assert len(seen) == 6
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    told = set()
    for content in ("<a/>", "<b/>"):
        (boxes / "train.xml").write_text(content)
        told.add(digest("--plugin", "hvpnet", "--data.boxes", str(boxes)))
        (tmp_path / "vectors.txt").write_text(content)
        told.add(digest("--plugin", "bilstm", "--model.vectors", str(tmp_path / "vectors.txt")))
        (tmp_path / "rankings.jsonl").write_text(content)
        ranked = ["--model.preference", "file", "--model.rankings", str(tmp_path / "rankings.jsonl")]
        told.add(digest("--plugin", "relevance", *ranked))
    assert len(told) == 6
    before = digest("--plugin", "bilstm", "--model.vectors", str(tmp_path / "vectors.txt"))
    (tmp_path / "vectors.txt").rename(tmp_path / "moved.txt")
    assert digest("--plugin", "bilstm", "--model.vectors", str(tmp_path / "moved.txt")) == before


@pytest.mark.parametrize("name", ["mini", "tweets", "paper"])
def test_every_plugin_of_the_experiments_has_settings_in_every_profile(name: str) -> None:
    profile = profiles.load(name, EXPERIMENTS)
    asked = {row.plugin for each in experiment_files.load_all(EXPERIMENTS).values() for row in each.rows if row.plugin}
    assert asked <= set(profile.plugins)


def test_profiles_say_what_is_wrong_with_them(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no profile 'minni'.*Did you mean 'mini'"):
        profiles.load("minni", folder)
    path = folder / "profiles" / "mini.yaml"
    for old, new, said in (
        ("bilstm: {}", "bilstn: {}", r"no plugin 'bilstn'\. Did you mean 'bilstm'"),
        ("bilstm: {}", "bilstm: {option: {}}", r"no key 'option'\. Did you mean 'options'"),
        ("bilstm: {}", "bilstm: {configs: {'*': none.yaml}}", r"no file .*none\.yaml"),
        ("bilstm: {}", "bilstm: {paper_configs: {paper: {'*': none.yaml}}}", r"paper_configs: no file .*none\.yaml"),
        ("bilstm: {}", "bilstm: {paper_configs: {papr: {}}}", r"paper_configs: no folder .*papr"),
        ("bilstm: {}", "bilstm: {by_corpus: {twitter217: {}}}", r"no corpus 'twitter217'\. Did you mean 'twitter2017'"),
        ("bilstm: {}", "bilstm: {by_corpus: {2015: {}}}", r"by_corpus: 2015 must be a text, got 2015"),
        ("bilstm: {}", "bilstm: {by_ablation: {lstm: {}}}", r"no ablation 'lstm'"),
        ("  posts:", "  post:", r"corpora: post must be one of .*'post'\. Did you mean 'posts'"),
        ("seeds: [0]", "seeds: all", r"seeds must be a list or 'paper', got 'all'"),
        ("points: 3", "points: 0", r"points must be 1 or more, got 0"),
        (
            "posts: {data.corpus: probe, data.variant: default}",
            "posts: probe",
            r"corpora: posts must be a mapping, got 'probe'",
        ),
        (
            "seconds: 1",
            "seconds: 1\ndiffers_on: {fewshots: [a]}",
            r"differs_on: fewshots must be one of .*'fewshots'\. Did you mean 'fewshot'",
        ),
        ("seconds: 1", "seconds: 1\ndiffers_on: {posts: [a: b]}", r"posts\[0\] must be a text, got \{"),
        ("seconds: 1", "seconds: 1\ndiffers: [seeds: one]", r"differs\[0\] must be a text, got \{"),
    ):
        path.write_text(MINI.replace(old, new))
        with pytest.raises(DataError, match=said):
            profiles.load("mini", folder)


NAMES = st.sampled_from(["model.head", "model.head.a", "model.lr", "data.limit"])
LAYER = st.dictionaries(NAMES, st.sampled_from(["x", "y"]))


@given(LAYER, LAYER)
def test_a_later_layer_wins_and_another_head_leaves_no_option_behind(
    below: dict[str, str], above: dict[str, str]
) -> None:
    found = merged(below, above)
    assert all(found[name] == value for name, value in above.items())
    for name, value in found.items():
        assert value == above.get(name, below.get(name))
    if "model.head" in above and above["model.head"] != below.get("model.head"):
        assert ("model.head.a" in found) == ("model.head.a" in above)
    assert set(found) <= {*below, *above}


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["lr", "dropout", "hidden"]), st.floats(1e-6, 1e3) | st.booleans() | st.none()))
def test_options_come_back_from_a_command_as_they_were(values: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    content: dict[str, Any] = {"model": values} if values else {}
    words = [f"{name}={text_of(value)}" for name, value in dotted(content).items()]
    found: Any = OmegaConf.to_container(OmegaConf.from_dotlist(words))
    assert found == content


def test_an_ablation_s_head_is_the_option_that_names_it() -> None:
    content = {"model": {"head": {"name": "softmax", "dropout": 0.1}, "gate": False}}
    assert dotted(content) == {"model.head": "softmax", "model.head.dropout": 0.1, "model.gate": False}
