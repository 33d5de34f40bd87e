"""`mnerkit new`: a minimal method and forks, as distributions and in a checkout."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnerkit import registry, scaffold
from mnerkit.cli import main

ROOT = Path(__file__).resolve().parents[2]
METADATA = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('.')"


def installed(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A distribution as `pip install -e` leaves it: its folder on the path, with metadata made of `pyproject.toml`."""
    subprocess.run([sys.executable, "-c", METADATA], cwd=folder, check=True, capture_output=True)
    patch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a checkout of mnerkit without its code."""
    for name in ("setup.cfg", "ruff.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "plugins").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_fork_computes_what_its_parent_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fork"
    assert main(["new", "stroke_gate", "--from", "hvpnet", "--package", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"pip install -e {folder}" in said and "mnerkit fit --plugin stroke_gate" in said
    installed(folder, monkeypatch)
    assert registry.get("stroke_gate").distribution == "stroke_gate-mner 0.1.0"
    assert "hvpnet` of mnerkit 0.1.0" in (folder / "stroke_gate_mner" / "README.md").read_text()

    monkeypatch.syspath_prepend(str(ROOT / "tests" / "golden"))
    harness, golden = importlib.import_module("harness"), importlib.import_module("golden_files")
    options = importlib.import_module("cases").CASES["hvpnet/crf"].options
    parent, first = harness.fit(tmp_path / "a", options, tmp_path / "cache")
    fork, second = harness.fit(tmp_path / "b", {**options, "plugin": "stroke_gate"}, tmp_path / "cache")
    assert len(second.losses["train/loss"]) > 1 and second.losses == first.losses
    assert (fork / "predictions.dev.jsonl").read_bytes() == (parent / "predictions.dev.jsonl").read_bytes()
    assert list(golden.differences(golden.read()["hvpnet/crf"], harness.values(fork, second))) == []

    # a fork of it can rely on what it relies on
    scaffold.new_distribution("second_gate", tmp_path / "second", "stroke_gate")
    assert 'dependencies = ["mnerkit", "stroke_gate-mner"]' in (tmp_path / "second" / "pyproject.toml").read_text()


def test_a_minimal_method_passes_the_tests_that_come_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "minimal"
    assert main(["new", "minimal", "--package", str(folder)]) == 0
    installed(folder, monkeypatch)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", str(folder)]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # learning, answers, its ablation, values of options, heads, documentation
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20 and "skipped" not in done.stdout


@pytest.mark.parametrize("parent", registry.plugins())
def test_a_fork_of_any_plugin_stands_alone(parent: str, tmp_path: Path) -> None:
    scaffold.new_distribution("my_fork", tmp_path / "my_fork", parent)
    own, original = tmp_path / "my_fork" / "my_fork_mner", registry.get(parent).folder
    assert {each.name for each in own.iterdir()} == {each.name for each in original.iterdir()} - {"__pycache__"}
    for path in own.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        compile(text, path, "exec")
        assert "mnerkit_plugins" not in text and len(text.splitlines()) == len(
            (original / path.name).read_text(encoding="utf-8").splitlines()
        )


@pytest.mark.parametrize("parent", [None, "relevance"])
def test_in_a_checkout_setup_cfg_gets_its_lines_in_order(
    parent: str | None, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkout / "setup.cfg").read_text().splitlines()
    assert main(["new", "fresh", *(["--from", parent] if parent else [])]) == 0
    assert "make install" in capsys.readouterr().out
    lines = (checkout / "setup.cfg").read_text().splitlines()
    kind = "method:FreshMethod" if parent else "tagger:FreshTagger"
    added = ["    mnerkit_plugins.fresh", f"    fresh = mnerkit_plugins.fresh.{kind}"]
    assert [line for line in lines if line not in before] == added
    assert [line for line in lines if line not in added] == before
    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg")
    for block in (setup["options"]["packages"], setup["options.entry_points"]["mnerkit.plugins"]):
        assert block.split("\n") == sorted(block.split("\n"))
    for argv in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *argv, "plugins"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    # a second time nothing is written over
    (checkout / "plugins" / "fresh" / "model.py").write_text("mine")
    assert main(["new", "fresh"]) == 2
    assert "there already" in capsys.readouterr().err
    assert (checkout / "plugins" / "fresh" / "model.py").read_text() == "mine"
    assert (checkout / "setup.cfg").read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["MyGate"], "lower-case"),
        (["my-gate"], "lower-case"),
        (["../gate"], "lower-case"),
        (["class"], "can't name a plugin"),
        (["hvpnet"], "installed already, by mnerkit"),
        (["text"], "TextOptions"),
        (["gate", "--from", "hvpnett"], "Did you mean 'hvpnet'?"),
        (["gate", "--form", "hvpnet"], "Did you mean '--from'?"),
        ([], "NAME"),
    ],
)
def test_a_mistake_gets_one_line_and_nothing_is_written(
    argv: list[str], said: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkout / "setup.cfg").read_bytes()
    for place in ([], ["--package", "there"]):
        assert main(["new", *argv, *place]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not list((checkout / "plugins").iterdir()) and not (checkout / "there").exists()
    assert (checkout / "setup.cfg").read_bytes() == before


def test_outside_a_checkout_it_asks_for_a_folder_and_takes_no_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "gate"]) == 2
    assert "give --package DIR" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    for name in ("full", "full/notes"):
        assert main(["new", "gate", "--package", name]) == 2
        assert "new or empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "notes"]
    (tmp_path / "empty").mkdir()
    assert main(["new", "gate", "--package", "empty"]) == 0
