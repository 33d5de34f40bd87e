"""`mnerkit import`: weights in the form that authors released become a run that scores and predicts."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import mnerkit
from mnerkit import registry
from mnerkit.cli import main
from mnerkit.errors import CheckpointError
from mnerkit.methods import checkpoint
from mnerkit.runs.imports import weight_file
from mnerkit.runs.imports.weight_file import read_weights, without_prefix
from mnerkit.towers import owner

ROOT = Path(__file__).resolve().parents[1]
PLACES = [folder / "shared" / "parity" for folder in ROOT.parents]
CASES = next((place for place in PLACES if place.is_dir()), PLACES[0])
METHODS = sorted(name for name, plugin in registry.plugins().items() if plugin.released_module is not None)
need_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"there are no parity cases in {CASES}")

Weights = dict[str, Tensor]


# ------------------------------------------------------------------ parity cases, saved as the authors would


def in_parallel(weights: Weights, path: Path) -> list[Path]:
    """As `DataParallel` names them."""
    torch.save({f"module.{name}": value for name, value in weights.items()}, path / "best.pth")
    return [path / "best.pth"]


def beside_the_optimiser(weights: Weights, path: Path) -> list[Path]:
    content = {"epoch": 3, "state_dict": {f"model.{name}": value for name, value in weights.items()}, "optimizer": {}}
    torch.save(content, path / "best.pt")
    return [path / "best.pt"]


def as_safetensors(weights: Weights, path: Path) -> list[Path]:
    save_file({name: value.contiguous() for name, value in weights.items()}, path / "model.safetensors")
    return [path / "model.safetensors"]


def in_two_files(weights: Weights, path: Path) -> list[Path]:
    """As torch wrote them before release 1.6."""
    names = sorted(weights)
    for file, part in (("pytorch_model.bin", names[::2]), ("pytorch_encoder.bin", names[1::2])):
        torch.save({name: weights[name] for name in part}, path / file, _use_new_zipfile_serialization=False)
    return [path / "pytorch_model.bin", path / "pytorch_encoder.bin"]


WAYS = (in_parallel, beside_the_optimiser, as_safetensors, in_two_files)


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The comparison of a method's parity case: `parity("umgf", folder)`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in [name for name in sys.modules if name.split(".")[0] == "parity_methods"]:
        monkeypatch.delitem(sys.modules, name)

    def of(name: str, number: int = 0) -> Any:
        method_class: Any = importlib.import_module(f"parity_methods.{name}").Method
        case_class: Any = importlib.import_module("parity_methods.case").Case
        made = method_class(case_class(CASES / name / f"case{number}.json"))
        if (vision := made.vision()) is not None:  # the case gives a tower's states, not its weights
            restore = owner.tower_from_state

            def restored(state: dict[str, Any], **options: Any) -> Any:
                return vision if state["family"] == type(vision).__name__ else restore(state, **options)

            monkeypatch.setattr(owner, "vision_tower", lambda *_, **__: vision)
            monkeypatch.setattr(owner, "tower_from_state", restored)
        return made

    return of


def imported(parity: Any, folder: Path, save: Callable[[Weights, Path], list[Path]], *others: str) -> Path:
    """Import a case's weights by the command; the folders of its towers are gone afterwards."""
    towers = folder / "towers"
    towers.mkdir()
    options = {"dropout": 0.0, **parity.options(towers)}
    files = save(parity.case.weights, folder)
    words = ["import", parity.plugin, *map(str, files), "--out", str(folder / "run")]
    for name, value in options.items():
        words += [f"--model.{name}", str(value).removeprefix("random:")]
    assert main([*words, "--tags", ",".join(parity.case.tags), *others]) == 0
    shutil.rmtree(towers)
    return folder / "run"


@need_cases
@pytest.mark.parametrize("name", METHODS)
def test_imported_weights_compute_what_the_authors_model_did(
    parity: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    case = parity(name)
    run = imported(case, tmp_path, WAYS[METHODS.index(name) % len(WAYS)])
    record = json.loads((run / "metrics.json").read_text())["imported"]
    assert ("repaired" in record) == (name == "mgips_cl")
    assert {name: tower["weights"] for name, tower in record["towers"].items()} == {
        "text": "imported",
        "vision": "imported" if case.vision() is None else "own",
    }
    method: Any = checkpoint.load(run)
    for tower in method.towers.values():
        if hasattr(getattr(tower, "model", None), "set_attn_implementation"):
            tower.model.set_attn_implementation("eager")  # the only one that returns attention
    group = "quiet" if "quiet" in case.groups else case.main  # without noise
    case.groups, case.gradients = {group: {}}, {}
    case.method, case.extra = lambda _: method, lambda: {}
    computed = {each: value for each, value in case.compute().items() if each.startswith(("output/", f"{case.main}/"))}
    compared: Any = importlib.import_module("parity_methods.comparing").compared
    rows = [
        compared(each, value, case.case.tensors[each], case.tolerances)
        for each, value in computed.items()
        if each in case.case.tensors
    ]
    assert any("loss" in row.name for row in rows) and len(rows) >= 3
    assert [row for row in rows if not row.passes] == []


@need_cases
def test_an_imported_run_is_listed_predicts_and_is_scored(
    parity: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = imported(parity("mkgformer"), tmp_path, in_parallel)
    report = capsys.readouterr().out
    assert "differently" not in report
    assert "imported weights" in report and "2 weights: BERT computes a pooled vector" in report
    assert "not known: test posts among them" in report

    posts = tmp_path / "posts.jsonl"
    posts.write_text('{"id": "1", "text": "a b a"}\n{"id": "2", "words": ["a", "Ann"]}\n')
    assert main(["predict", "--ckpt_path", str(run), "--input", str(posts), "--output", str(tmp_path / "out")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert {entity["type"] for row in rows for entity in row["entities"]} <= {"PER", "LOC", "ORG", "MISC"}

    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["imported"]["files"][0]["name"] == "best.pth"
    assert metrics["imported"]["files"][0]["content"].startswith("file ") and metrics["seed"] is None
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["plugin"] == "mkgformer" and row["state"] == "imported" and row["corpus"] == "unknown"
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 1
    assert "was imported and is not scored yet" in capsys.readouterr().err

    assert main(["test", "--ckpt_path", str(run)]) == 2
    assert "imported without a corpus" in capsys.readouterr().err
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, split in enumerate(("train", "valid", "test")):
        (corpus / f"{split}.txt").write_text(f"IMGID:{number}\na\tB-PER\nb{number}\tO\n\n")
    assert main(["test", "--ckpt_path", str(run), "--data.corpus", str(corpus)]) == 0
    said = capsys.readouterr()
    assert "the posts that it was trained on are not known" in said.err and "F1" in said.out
    assert any(key.startswith("test@") for key in json.loads((run / "metrics.json").read_text()))
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 0

    assert main(["runs", "repeat", str(run)]) == 2
    assert "imported, not trained by mnerkit" in capsys.readouterr().err
    where = ["--runs_dir", str(tmp_path / "runs"), "--name", "run"]
    own = tmp_path / "runs" / "mkgformer" / "unknown" / "run"
    shutil.copytree(run, own)
    assert main(["fit", "--config", str(run / "config.yaml"), *where]) == 2  # it is not taken for one that was trained
    assert "another --name, or --overwrite" in capsys.readouterr().err


@need_cases
def test_the_authors_tags_and_a_corpus_are_kept_and_only_a_run_is_replaced(
    parity: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = parity("tpm_mi")
    run = imported(case, tmp_path, in_parallel, "--data.corpus", "mner-mi")
    assert mnerkit.load(str(run)).types == ("MISC", "PER", "ORG", "LOC")  # MIS in the authors' code
    assert mnerkit.load_run(run).config["data"]["corpus"] == "mner-mi"
    again = ["import", "tpm_mi", str(tmp_path / "best.pth"), "--out", str(run)]
    assert main(again) == 2
    assert "exists; give another folder, or --overwrite" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert main([*again[:-1], str(tmp_path / "mine"), "--overwrite"]) == 2
    assert "files that are not a run's" in capsys.readouterr().err and (tmp_path / "mine" / "thesis.tex").exists()
    case.options(tmp_path)
    options = {"text": tmp_path / "bert", "vision": tmp_path / "vit", "heads": 8}
    words = [word for name, value in options.items() for word in (f"--model.{name}", str(value))]
    assert main([*again, "--overwrite", *words]) == 0  # with the authors' tags
    assert mnerkit.load(str(run)).types == ("MISC", "PER", "ORG", "LOC")


@need_cases
def test_a_vision_tower_is_that_of_the_files_or_its_own(
    parity: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import resnet18

    case = parity("umt")
    monkeypatch.undo()  # a real ResNet
    towers = tmp_path / "bert"
    options = {**case.options(towers), "text": towers, "vision": "random:resnet18"}
    words = [word for name, value in options.items() for word in (f"--model.{name}", str(value))]
    wide = {f"vismap2text{end}.weight": torch.randn(32, 512) for end in ("", "_v2")}
    torch.save({**case.case.weights, **wide}, tmp_path / "pytorch_model.bin")
    trunk = {f"resnet.{name}": torch.rand_like(each.float()) for name, each in resnet18().state_dict().items()}
    torch.save(trunk, tmp_path / "pytorch_encoder.bin")
    files = [str(tmp_path / name) for name in ("pytorch_model.bin", "pytorch_encoder.bin")]
    command = ["import", "umt", *files, "--out", str(tmp_path / "b"), *words]
    assert main(command) == 0
    report = capsys.readouterr().out
    assert "vision tower random:resnet18: imported weights" in report and "classifier" in report
    tower: Any = checkpoint.load(tmp_path / "b").towers["vision"]
    assert torch.equal(tower.stem[0].weight, trunk["resnet.conv1.weight"])
    assert torch.equal(tower.stages[1][0].bn1.running_var, trunk["resnet.layer2.0.bn1.running_var"])

    command[5] = str(tmp_path / "c")
    torch.save({name: each for name, each in trunk.items() if "mean" not in name}, tmp_path / "pytorch_encoder.bin")
    assert main(command) == 1
    assert "nothing is there for encoder.sight.reads.stages.0.0.bn1.running_mean" in capsys.readouterr().err
    torch.save({"gate.bias": torch.ones(1)}, tmp_path / "pytorch_encoder.bin")
    assert main(command) == 1
    assert "holds gate.bias, which a file before it holds, too" in capsys.readouterr().err


@need_cases
def test_what_does_not_fit_is_named_in_a_line(
    parity: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = parity("hvpnet")
    text = case.options(tmp_path / "bert")["text"].removeprefix("random:")
    weights = case.case.weights

    def refused(changed: Weights, *others: str, name: str = "hvpnet") -> str:
        torch.save(changed, tmp_path / "w.pth")
        words = ["import", name, str(tmp_path / "w.pth"), "--out", str(tmp_path / "run"), "--model.text", text]
        assert main([*words, *others]) != 0
        assert not (tmp_path / "run").exists()
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    others = {name: value for name, value in weights.items() if name != "gates.0.bias"}
    line = refused({**others, "fc2.weight": torch.zeros(1), "encoder_conv.0.bias": torch.zeros(3)})
    assert "unknown are fc2.weight" in line and "encoder.to_slices.0.bias (3,), not" in line
    assert "encoder.gate.map.bias" in line
    assert "nothing is there for encoder.text.model.encoder.layer.0" in refused(
        {name: value for name, value in weights.items() if ".layer.0." not in name}
    )
    assert "no released weights of umgf: resnet.fc.weight is not there; unknown are" in refused(weights, name="umgf")
    assert "score 13 tags, and there are 11" in refused(weights, "--tags", "PAD,O,B-A,I-A,B-B,I-B,B-C,I-C,X,CLS,SEP")
    assert "they lack I-A, PAD" in refused(weights, "--tags", "O", "B-A", "X", "CLS", "SEP")
    assert "they have twice O" in refused(weights, "--tags", "PAD,O,O,B-A,I-A,X,CLS,SEP")
    embeddings = "bert.embeddings.word_embeddings.weight"
    line = refused({**weights, embeddings: torch.zeros(100, 40)})
    assert "has 120 pieces, and the weights have 100" in line
    line = refused({**weights, "fc.weight": torch.zeros(())})
    assert "no released weights of hvpnet" in line
    line = refused({**weights, "crf.transitions": torch.zeros(2, 2)})
    assert "no released weights of hvpnet" in line
    assert "no option --model.hiden" in refused(weights, "--model.hiden", "3")


@pytest.mark.parametrize("name", ["structshot", "nearest", "bert", "no_such"])
def test_methods_without_released_weights_say_which_have_some(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", name, str(tmp_path / "w.pth"), "--out", str(tmp_path / "run")]) == 2
    assert "umgf" in capsys.readouterr().err


def test_the_help_names_methods_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    page = capsys.readouterr().out
    assert "mkgformer" in page and "--tags" in page and "--model.text" in page
    assert main(["import", "umgf"]) == 2
    assert main(["import", "umgf", "x.pth", "--out", "y", "--lr", "3"]) == 2
    assert main(["import", "umgf", "x.pth", "--out", "y", "--trainer.max_epochs", "3"]) == 2
    assert "has no effect on `mnerkit import`" in capsys.readouterr().err


# ------------------------------------------------------------------ files of weights

SOME: Weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "n": torch.tensor(3)}


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    def save(content: Any, name: str = "w.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    yield save


@pytest.mark.parametrize(
    "wrapped", [lambda each: each, *(lambda each, key=key: {key: each, "epoch": 3} for key in weight_file.WRAPPERS)]
)
def test_a_state_dict_is_read_whatever_it_is_wrapped_in(saved: Callable[..., Path], wrapped: Any) -> None:
    numbers = {"b.position_ids": torch.arange(3), "half": torch.ones(2, dtype=torch.float16)}
    read = read_weights(saved(wrapped(SOME | numbers)))
    assert read.keys() == {*SOME, "half"}
    assert all(torch.equal(read[name], value) for name, value in SOME.items())
    assert read["half"].dtype == torch.float32


def test_a_common_prefix_goes_where_names_are_known_without_it() -> None:
    known = {"model.a", "model.b"}

    def unknown(names: Any) -> list[str]:
        return [name for name in names if name not in known]

    one = torch.zeros(1)
    assert without_prefix({"module.net.model.a": one, "module.net.model.b": one}, unknown).keys() == known
    assert without_prefix({"module.net.a": one, "module.net.b": one}, unknown).keys() == {
        "module.net.a",
        "module.net.b",
    }
    assert without_prefix({"module.model.a": one, "module.model.b": one}, unknown).keys() == known
    assert without_prefix({"model.a": one}, unknown).keys() == {"model.a"}
    assert without_prefix({"a": one}, unknown).keys() == {"a"}
    assert without_prefix({}, unknown) == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"a": torch.tensor([float("nan")])}, "a holds numbers that are not finite"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a: expected a dense tensor"),
        ({"a": torch.ones(1), "b": "x"}, "b is no tensor"),
        ({"a": torch.ones(1), 3: torch.ones(1)}, "3 is no name of a weight"),
        ({"a" * 201: torch.ones(1)}, "is no name of a weight"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "no tensor of plain numbers"),
        ({"a": torch.zeros(1).expand(1 << 20, 1 << 12)}, "of which few are stored"),
        ({"epoch": 3}, "holds no state dict"),
        ([torch.ones(1)], "holds no state dict"),
        ({"args": argparse.Namespace(lr=1), "model": {}}, "give a file of model.state_dict()"),
        (torch.nn.Linear(1, 1), "give a file of model.state_dict()"),
    ],
)
def test_what_is_no_plain_state_dict_is_refused(saved: Callable[..., Path], content: Any, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem.replace("(", r"\(").replace(")", r"\)")) as refusal:
        read_weights(saved(content))
    assert "\n" not in str(refusal.value)


def test_files_that_are_missing_damaged_too_large_or_of_another_kind_are_refused(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="weights come from files"):
        read_weights(saved(SOME, "w.zip"))
    path = saved(SOME)
    content = bytearray(path.read_bytes())
    place = content.find(torch.ones(2).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):  # which torch would read
        read_weights(path)
    (tmp_path / "w.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_weights(tmp_path / "w.safetensors")
    monkeypatch.setattr(weight_file, "MAX_TENSORS", 2)
    with pytest.raises(CheckpointError, match="3 tensors, more than 2"):
        read_weights(saved(SOME))
    monkeypatch.setattr(weight_file, "MAX_BYTES", 20)
    with pytest.raises(CheckpointError, match="more than the 0 MiB"):
        read_weights(saved(SOME))
