"""The index of runs saves reading them again, and never shows what a file no longer holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mnerkit.cli import main
from mnerkit.runs import run_index
from mnerkit.runs.run_folder import RunFolder


@pytest.fixture(autouse=True)
def index_of_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "FEWEST", 1)
    monkeypatch.setattr(run_index, "_SETTLED", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, score in {"a": 30.0, "b": 50.0, "c": None}.items():
        path = tmp_path / "runs" / "bert" / "corp" / name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text("plugin: bert\nseed: 1\ndata: {corpus: corp}\nmodel: {text: tiny-bert}\n")
        if score is not None:
            (path / "metrics.json").write_text(json.dumps({"test": {"f1": score}, "epochs": 1}))
    return tmp_path / "runs"


def listed(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict]:
    assert main(["runs", str(folder), "--json", *more]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    config = RunFolder.config
    monkeypatch.setattr(RunFolder, "config", lambda run: names.append(run.path.name) or config(run))
    return names


def test_what_has_not_changed_is_not_read_again(folder: Path, capsys, monkeypatch) -> None:
    first = listed(folder, capsys)
    by_seed = listed(folder, capsys, "--by-seed")
    assert main(["runs", str(folder)]) == 0
    table = capsys.readouterr().out
    assert "with tiny towers" in table and "a, b" in table
    names = reads(monkeypatch)
    assert listed(folder, capsys) == first and listed(folder, capsys, "--by-seed") == by_seed
    assert main(["runs", str(folder)]) == 0 and capsys.readouterr().out == table
    assert not names
    assert [(row["state"], row["test"]) for row in first] == [
        ("finished", 30.0),
        ("finished", 50.0),
        ("unfinished", None),
    ]


def test_a_file_of_the_same_size_and_time_is_read_anew(folder: Path, capsys) -> None:
    listed(folder, capsys)
    file = folder / "bert" / "corp" / "a" / "metrics.json"
    times = os.stat(file)
    file.write_text(file.read_text().replace("30.0", "31.0"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [row["test"] for row in listed(folder, capsys)] == [31.0, 50.0, None]
    (folder / "bert" / "corp" / "c" / "metrics.json").write_text('{"test": {"f1": 7}}')
    (folder / "bert" / "corp" / "b" / "metrics.json").unlink()
    assert [row["test"] for row in listed(folder, capsys)] == [31.0, None, 7]


def test_a_young_file_and_a_damaged_one_are_not_kept(folder: Path, capsys, monkeypatch) -> None:
    (folder / "bert" / "corp" / "b" / "config.yaml").write_text("plugin: [")
    names = reads(monkeypatch)
    for _ in range(2):
        assert listed(folder, capsys)[1]["state"] == "damaged"
    assert names == ["a", "b", "c", "b"]
    monkeypatch.setattr(run_index, "_SETTLED", 60.0)
    (folder / "bert" / "corp" / "c" / "metrics.json").write_text('{"test": {"f1": 7}}')
    names.clear()
    for _ in range(2):
        listed(folder, capsys)
    assert names == ["b", "c"] * 2


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1, "runs": {}}', '{"runs": [1]}', "\udcff"])
def test_an_index_that_is_none_is_written_anew(content: str, folder: Path, capsys) -> None:
    first = listed(folder, capsys)
    whole = (folder / run_index.INDEX).read_text()
    (folder / run_index.INDEX).write_text(content, errors="surrogateescape")
    assert listed(folder, capsys) == first and (folder / run_index.INDEX).read_text() == whole
    entries = json.loads(whole)
    entries["runs"] = {name: [1, {}] for name in entries["runs"]}
    (folder / run_index.INDEX).write_text(json.dumps(entries))
    assert listed(folder, capsys) == first


def test_few_runs_need_no_index(folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(run_index, "FEWEST", 4)
    listed(folder, capsys)
    assert not (folder / run_index.INDEX).exists()
