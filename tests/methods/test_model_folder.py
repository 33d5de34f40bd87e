"""Models that travel: saved, pushed and loaded again they predict the same, and hostile folders end in one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import mnerkit
from mnerkit import registry
from mnerkit.cli import main
from mnerkit.errors import CheckpointError, UsageError
from mnerkit.methods import checkpoint, model_folder
from mnerkit.methods.model_card import scores_beside
from mnerkit.towers import hub as tower_hub
from tests.hub_stand_in import TOKEN, Hub, running

KEPT = Path(__file__).resolve().parents[1] / "kept"
POSTS = [json.loads(line) for line in (KEPT / "posts" / "posts.jsonl").read_text("utf-8").splitlines()]
TOWERS = str(KEPT / "towers")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of an earlier release: pieces with a CRF, pictures in a frozen local CLIP, few-shot."""
    folder = tmp_path_factory.mktemp("kept")
    for plugin, head in (("bert", "crf"), ("hvpnet", "crf"), ("mousing", "prototype"), ("bilstm", "softmax")):
        with tarfile.open(KEPT / "0.1.0" / f"{plugin}.tar.xz") as archive:
            members = [each for each in archive.getmembers() if each.name.startswith(f"{head}/")]
            archive.extractall(folder / plugin, members, filter="data")
        (folder / plugin / head).rename(folder / f"{plugin}-{head}")
    return folder


@pytest.fixture(scope="module")
def saved(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of bert with a CRF, saved."""
    target = tmp_path_factory.mktemp("saved") / "model"
    return mnerkit.load(checkpoints / "bert-crf", TOWERS).save_pretrained(target)


def predicted(predictor: Any) -> list[dict[str, Any]]:
    return predictor.predict(POSTS, images=KEPT / "posts" / "pictures")


@pytest.mark.parametrize("name", ["bert-crf", "hvpnet-crf", "mousing-prototype", "bilstm-softmax"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_saved_model_predicts_the_same_without_the_towers_of_this_machine(
    name: str, checkpoints: Path, tmp_path: Path
) -> None:
    original = mnerkit.load(checkpoints / name, TOWERS)
    wanted = predicted(original)
    assert any(row["entities"] for row in wanted)
    folder = original.save_pretrained(tmp_path / "model")
    again = mnerkit.load(folder)
    assert predicted(again) == wanted
    second = again.save_pretrained(tmp_path / "second", name="model")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    files = [path.name for path in folder.iterdir()]
    assert not {".ckpt", ".bin", ".pkl", ".pt"} & {Path(file).suffix for file in files}
    assert str(tmp_path) not in (folder / "mnerkit.json").read_text() and str(KEPT) not in "".join(
        path.read_text() for path in folder.glob("*.json")
    )


def test_a_frozen_tower_of_the_hub_stays_a_name_with_its_revision_unless_asked(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = mnerkit.load(checkpoints / "mousing-prototype", TOWERS)
    name, tower = next((name, tower) for name, tower in predictor.method.towers.items() if tower.external)
    tower.spec, tower.revision = "someone/clip", "f" * 40
    named = predictor.save_pretrained(tmp_path / "named")
    described = json.loads((named / "mnerkit.json").read_text())["towers"][name]
    assert (described["spec"], described["revision"], described["external"]) == ("someone/clip", "f" * 40, True)
    front = yaml.safe_load((named / "README.md").read_text().split("---\n")[1])
    assert front["base_model"] == ["someone/clip"] and f"revision {'f' * 40}" in (named / "README.md").read_text()
    copied = predictor.save_pretrained(tmp_path / "copied", copy_towers=True)
    size = sum(value.numel() for value in tower.state_dict().values())
    counts = [
        sum(value.numel() for value in load_file(each / "model.safetensors").values()) for each in (named, copied)
    ]
    assert counts[1] - counts[0] == size
    # from its place on this machine, where its name can't be reached
    shutil.copytree(KEPT / "towers" / "clip", tmp_path / "towers" / "clip")
    assert mnerkit.load(named, str(tmp_path / "towers")).method.towers[name].revision == "f" * 40


def test_the_commands_take_a_saved_model_where_they_take_a_checkpoint(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "in.txt"
    texts.write_text("Kevin Durant leaves Oklahoma\n")
    assert main(["predict", str(saved), "--input", str(texts), "--output", str(tmp_path / "out.jsonl")]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["words"][0] == "Kevin"
    quick = ["--data.limit", "16", "--trainer.enable_progress_bar", "false"]
    for verb in ("validate", "test"):
        assert main([verb, str(saved), *quick]) == 0
    assert main(["draw", "adjacency", "--ckpt_path", str(saved), "--out", str(tmp_path / "d")]) == 2  # bert has none
    capsys.readouterr()
    assert main(["save", str(saved), str(tmp_path / "again")]) == 0
    assert 'mnerkit.load("' in capsys.readouterr().out
    for argv in (["save", str(saved)], ["save", str(saved), str(saved)], ["save", str(saved), "--push", "noname"]):
        assert main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_card_has_the_scores_of_the_run_with_all_they_depend_on(tmp_path: Path) -> None:
    with tarfile.open(KEPT / "0.1.0" / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = mnerkit.load_run(tmp_path / "finished" / "cross" / "probe" / "finished")
    folder = run.save_pretrained(tmp_path / "model", tower_dir=TOWERS)
    metrics, text = run.metrics, (folder / "README.md").read_text()
    figures = scores_beside(run.path).splits["test"]  # type: ignore[union-attr]
    assert figures["f1"] == metrics["test"]["f1"] and figures["f1_low"] <= figures["f1"] <= figures["f1_high"]
    for part in (
        f"{figures['f1']:.2f} [{figures['f1_low']:.2f}, {figures['f1_high']:.2f}]",
        metrics["protocol"]["digest"],
        "| seed | 3 |",
        "conlleval",
        f'mnerkit.load("{folder.name}")',
    ):
        assert part in text
    front = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert front.library_name == "mnerkit" and front.datasets == ["probe"] and "f1" in front.metrics
    values = [
        each.metric_value for each in front.eval_results if (each.dataset_split, each.metric_type) == ("test", "f1")
    ]
    assert values == [pytest.approx(metrics["test"]["f1"] / 100, abs=1e-4)]


def test_a_folder_that_is_not_empty_is_replaced_on_demand_and_only_if_it_is_a_model(
    saved: Path, tmp_path: Path
) -> None:
    predictor, target = mnerkit.load(saved), tmp_path / "model"
    predictor.save_pretrained(target)
    with pytest.raises(UsageError, match="not empty"):
        predictor.save_pretrained(target)
    predictor.save_pretrained(target, overwrite=True)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds thesis\.tex"):
        predictor.save_pretrained(target, overwrite=True)
    assert (target / "thesis.tex").is_file() and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_there_stays_itself(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    predictor = mnerkit.load(saved)
    predictor.save_pretrained(tmp_path / "link")
    monkeypatch.chdir(tmp_path / "disk")
    predictor.save_pretrained(".", overwrite=True)
    files = sorted(path.name for path in saved.iterdir())
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == files and (tmp_path / "link").is_symlink()
    assert mnerkit.load(tmp_path / "link").types == predictor.types
    with pytest.raises(UsageError, match="a revision is for a name on the hub"):
        mnerkit.load(tmp_path / "link", revision="main")


def test_whoever_may_read_the_description_may_read_the_weights(saved: Path) -> None:
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


# ---------------------------------------------------------------------- hostile folders


def described(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    """A change of mnerkit.json."""

    def act(folder: Path) -> None:
        content = json.loads((folder / "mnerkit.json").read_text())
        change(content)
        (folder / "mnerkit.json").write_text(json.dumps(content))

    return act


def tensors(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    """A change of a file of tensors, whose digest is right again."""

    def act(folder: Path) -> None:
        content = load_file(folder / file)
        change(content)
        save_file(content, folder / file)
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        described(lambda c: c["files"].update({file: digest}))(folder)

    return act


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "unknown key": (described(lambda c: c.update(run="rm")), "no key 'run'"),
    "unknown key of a tower": (described(lambda c: c["towers"]["text"].update(code="x")), "no key 'code'"),
    "unknown option": (described(lambda c: c["config"]["data"].update(corpsu=1)), "Did you mean '--data.corpus'"),
    "wrong option": (described(lambda c: c["config"]["data"].update(object_score="x")), "--data.object_score"),
    "later format": (described(lambda c: c.update(format=2, mnerkit="9.1")), "saved in format 2, by mnerkit 9.1"),
    "no format": (described(lambda c: c.pop("format")), "describes no saved model"),
    "path": (
        described(lambda c: c["files"].update({"../x.json": "0" * 64})),
        r"files: \.\./x\.json is no file of a saved",
    ),
    "tokenizer elsewhere": (
        described(lambda c: c["towers"]["text"]["reader"].update(tokenizer="../../passwd")),
        "is no name of a tokenizer's file",
    ),
    "no plugin": (
        described(lambda c: (c["config"].update(plugin="gizmo"), c.update(distribution="mner-gizmo 0.3"))),
        r"plugin 'gizmo', which is not installed: install mner-gizmo \(0.3\)",
    ),
    "flipped bit": (lambda f: flip(f / "model.safetensors"), "is not the file that was saved"),
    "left to git": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    "missing file": (lambda f: (f / "data.safetensors").unlink(), "data.safetensors is missing"),
    "weights missing": (tensors("model.safetensors", lambda c: c.pop(next(iter(c)))), "does not fit the model"),
    "not finite": (tensors("model.safetensors", lambda c: next(iter(c.values())).fill_(float("nan"))), "not finite"),
    "keys of posts": (tensors("data.safetensors", lambda c: c.update(trained_on=torch.zeros(2, 2))), "trained_on"),
    "no keys of posts": (tensors("data.safetensors", lambda c: c.pop("repeats")), "no whole model: .*repeats"),
    "pickle": (lambda f: (f / "mnerkit.json").write_bytes(b"\x80\x04cos\nsystem\n."), "mnerkit.json is damaged"),
    "deep": (lambda f: (f / "mnerkit.json").write_text("[" * 100_000), "mnerkit.json is damaged"),
    "twice": (lambda f: (f / "mnerkit.json").write_text('{"format": 1, "format": 1}'), "stands there twice"),
    "list": (lambda f: (f / "mnerkit.json").write_text("[]"), "describes no saved model"),
    "large": (lambda f: os.truncate(f / "mnerkit.json", 65 << 20), "more than the 64 MiB"),
}


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_folder_ends_in_one_line(case: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    act, message = HOSTILE[case]
    act(folder)
    with pytest.raises(CheckpointError, match=message) as refused:
        content = checkpoint.read(folder)
        checkpoint.restore(registry.get("bert").load()(), content)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_pictures_and_posts_of_a_support_are_checked(checkpoints: Path, tmp_path: Path) -> None:
    folder = mnerkit.load(checkpoints / "mousing-prototype", TOWERS).save_pretrained(tmp_path / "model")
    support = json.loads((folder / "support.json").read_text())
    support[0]["images"] = [{"name": "x", "pixels": "trained_on", "caption": None}]
    (folder / "support.json").write_text(json.dumps(support))
    with pytest.raises(CheckpointError, match=r"support\.json is not the file that was saved"):
        checkpoint.read(folder)
    digest = hashlib.sha256((folder / "support.json").read_bytes()).hexdigest()
    described(lambda c: c["files"].update({"support.json": digest}))(folder)
    with pytest.raises(CheckpointError, match="a picture is"):
        checkpoint.read(folder)


# ---------------------------------------------------------------------- the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in of the hub, which this process takes for the hub; its cache is new."""
    constants = huggingface_hub.constants
    with running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        tower_hub.hub_reachable.cache_clear()
        yield server
        tower_hub.hub_reachable.cache_clear()


def test_a_model_that_was_pushed_loads_from_the_hub_and_predicts_the_same(
    hub: Hub, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = mnerkit.load(saved)
    wanted = predicted(predictor)
    name = predictor.push_to_hub("someone/tweets")
    repo, revision = name.split("@")
    assert repo == "someone/tweets" and [*hub.commits[repo]] == [revision]
    assert set(hub.commits[repo][revision]) == {path.name for path in saved.iterdir()}
    assert b'mnerkit.load("someone/tweets")' in hub.commits[repo][revision]["README.md"]
    hub.commit(repo, {"extra.py": b"import os"})
    assert predicted(mnerkit.load("someone/tweets")) == wanted
    assert predicted(mnerkit.load("someone/tweets", revision=revision)) == wanted
    assert not any("extra.py" in each or "README" in each for each in hub.asked if each.startswith("GET"))
    # offline, from the cache
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    tower_hub.hub_reachable.cache_clear()
    assert predicted(mnerkit.load("someone/tweets")) == wanted
    assert main(["predict", name, "--text", "Kevin Durant leaves Oklahoma"]) == 0


def test_the_command_pushes_and_what_the_hub_refuses_is_one_line(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", str(saved), "--push", "someone/tweets"]) == 0
    assert 'load it with mnerkit.load("someone/tweets@' in capsys.readouterr().out
    hub.commit("someone/other", {"config.json": b"{}"})
    hub.commit("someone/large", {"mnerkit.json": b"{}", "tokenizer.json": b" " * (model_folder.MAX_TEXT + 1)})
    cases = {
        "someone/nothing": "no checkpoint or folder is called so, nor a model of the hub",
        "someone/tweets@abc": "not this revision",
        "someone/other": "no model that mnerkit saved",
        "someone/large": "tokenizer.json has 64 MiB, more than",
    }
    for name, message in cases.items():
        assert main(["predict", name, "--text", "x"]) == 1
        line = capsys.readouterr().err
        assert message in line and line.count("\n") == 1
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["save", str(saved), "--push", "someone/tweets"]) == 2
    assert "hf auth login" in capsys.readouterr().err
