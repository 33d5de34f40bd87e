"""`mnerkit cache`: says what is kept, and deletes that and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from mnerkit.cli import main
from mnerkit.data.features.cache_folder import cache_folder
from mnerkit.data.features.table import Table
from mnerkit.data.features.table_files import folder_digest
from mnerkit.runs.run_folder import deciding

READINGS = [{"weights": letter, "view": "text", "pooling": "mean", "dtype": "float32"} for letter in "ab"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of two towers, three texts each, and a pair of tiny towers."""
    root = tmp_path / "cache"
    for number, reading in enumerate(READINGS):
        table = Table(root / "features", reading, f"BertTower bert-{number}")
        for each in range(3):
            table.put(f"{each:064x}", np.zeros((2, 4), np.float32))
        table.close()
    (root / "towers").mkdir()
    (root / "towers" / f"{'0' * 24}.safetensors").write_bytes(b"12345")
    monkeypatch.setenv("MNERKIT_CACHE", str(root))
    return root


def folders(cache: Path) -> list[Path]:
    return sorted((cache / "features").iterdir())


def info(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    capsys.readouterr()
    assert main(["cache", "info", "--json", *argv]) == 0
    return json.loads(capsys.readouterr().out)


def test_info_lists_towers_inputs_and_sizes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "info"]) == 0
    page = capsys.readouterr().out
    assert "BertTower bert-0, text, pooling mean, dtype float32" in page and "today" in page and str(cache) in page
    said = info(capsys)
    assert [(each["kind"], each["entries"]) for each in said["kept"]] == [("features", 3)] * 2 + [("tower", None)]
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert said["bytes"] == size == sum(each["bytes"] for each in said["kept"])


def test_data_sets_of_the_hub_are_listed_and_cleared_but_not_with_files_of_others(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut, other = (cache / "hub" / name for name in ("ann--posts", ".ann--posts.x1.part", "ann--mine"))
    for folder in (whole / "train", cut / "whole" / "train", other / "train"):
        folder.mkdir(parents=True)
        for name in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json"):
            (folder / name).write_text("x")
    (whole / "dataset_dict.json").write_text("{}")
    (other / "train" / "notes.txt").write_text("mine")
    sets = [each for each in info(capsys)["kept"] if each["kind"] == "data set"]
    assert [(Path(each["path"]), each["files"]) for each in sets] == [(cut, 3), (other, 3), (whole, 4)]
    assert [each["problem"] for each in sets] == [None, "holds a file that is not the cache's: train/notes.txt", None]
    main(["cache", "info"])
    assert "hf:ann/posts" in capsys.readouterr().out
    assert main(["cache", "clear", "--yes"]) == 1  # something is left
    assert sorted((cache / "hub").iterdir()) == [other] and len(list((other / "train").iterdir())) == 4


def test_an_empty_or_absent_folder_holds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["info"], ["clear", "--yes"]):
        assert main(["cache", *verb, "--folder", str(tmp_path / "absent")]) == 0
    assert "nothing is kept" in capsys.readouterr().out and not (tmp_path / "absent").exists()


def test_clear_needs_a_word(cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(cache.rglob("*"))
    assert main(["cache", "clear"]) == 2
    assert "give --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer in ("", "n", "what"):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert main(["cache", "clear"]) == 0
    assert sorted(cache.rglob("*")) == before
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["cache", "clear"]) == 0
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_clear_deletes_all_that_is_its_own(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders(cache)[0] / f".shard-{'a' * 32}.part").write_bytes(b"half")
    (folders(cache)[0] / ".reading.json.x8s2").write_bytes(b"half")
    (cache / "features" / ("0" * 64)).mkdir()
    assert main(["cache", "clear", "--yes"]) == 0
    assert "deleted 7 files" in capsys.readouterr().out
    assert sorted(path.name for path in cache.rglob("*")) == ["features", "towers"]


def test_a_folder_with_files_of_others_is_left_alone(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = folders(cache)
    (theirs / "thesis.tex").write_text("years of work")
    (cache / "features" / "notes").mkdir()
    (cache / "features" / "notes" / "a.txt").write_text("a")
    (cache / "readme.txt").write_text("a")
    before = sorted(theirs.iterdir())
    assert main(["cache", "clear", "--yes"]) == 1
    assert sorted(theirs.iterdir()) == before and not mine.exists()
    assert (cache / "features/notes/a.txt").is_file() and (cache / "readme.txt").is_file()
    said = capsys.readouterr().err.strip().split("\n")
    assert len(said) == 2 and any("thesis.tex; it is left alone" in line for line in said)


@pytest.mark.parametrize("name", [f"shard-{'0' * 32}.table", f"shard-{'0' * 32}.safetensors", "reading.json"])
def test_a_link_is_nobody_of_ours(cache: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("x")
    folder = folders(cache)[0]
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "precious")
    (cache / "features" / ("1" * 64)).symlink_to(tmp_path)
    assert main(["cache", "clear", "--yes"]) == 1
    assert (tmp_path / "precious").read_text() == "x" and (folder / name).is_symlink()


def test_a_folder_of_another_tower_is_named_and_left(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = folders(cache)
    (first / "reading.json").write_bytes((second / "reading.json").read_bytes())
    assert main(["cache", "info"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(first) in said and "is a cache of another tower" in said
    assert main(["cache", "clear", "--yes"]) == 1
    assert folders(cache) == [first]


@pytest.mark.parametrize("version", [1, 2])
def test_features_of_an_earlier_version_are_named_and_cleared(
    cache: Path, version: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders(cache)[0]
    reading = json.loads((folder / "reading.json").read_text())["reading"]
    next(folder.glob("*.table")).rename(folder / f"shard-{'0' * 32}.safetensors")
    folder.rename(folder.with_name(folder_digest(reading, version)))
    assert sorted(str(each["entries"]) for each in info(capsys)["kept"]) == ["3", "None", "None"]
    assert main(["cache", "info"]) == 0
    page = capsys.readouterr()
    assert page.out.count("of an earlier version: no run reads it") == 1 and not page.err
    assert main(["cache", "clear", "--yes"]) == 0
    assert folders(cache) == []


def test_a_hostile_description_steers_no_terminal(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"\xff", b"[" * 100_000, b"[]", b'{"reading": 3}'):
        (folders(cache)[0] / "reading.json").write_bytes(content)
        assert main(["cache", "info"]) == 0
        assert "no reading.json that can be read" in capsys.readouterr().err
    note = folders(cache)[1] / "reading.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "about": "\x1b[2Jgone"}))
    assert main(["cache", "info"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_older_than_goes_by_the_last_use(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in cache.rglob("*"):
        os.utime(path, (time.time() - 10 * 86_400,) * 2)
    Table(cache / "features", READINGS[0])
    used = {each["path"] for each in info(capsys)["kept"]} - {
        each["path"] for each in info(capsys, "--older-than", "9")["kept"]
    }
    assert len(used) == 1, "opening a folder is a use"
    assert main(["cache", "clear", "--yes", "--older-than", "11"]) == 0
    assert len(info(capsys)["kept"]) == 3
    assert main(["cache", "clear", "--yes", "--older-than", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 3
    assert {each["path"] for each in info(capsys)["kept"]} == used


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["claer"], "Did you mean 'clear'?"),
        (["clear", "--yess"], "Did you mean '--yes'?"),
        (["info", "--older-than", "soon"], "no number of days"),
        (["info", "--older-than", "-1"], "no number of days"),
        (["info", "--older-than", "nan"], "no number of days"),
        (["info", "more"], "'more'"),
    ],
)
def test_a_mistake_gets_a_line(cache: Path, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_file_is_no_cache_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["cache", "clear", "--yes", "--folder", str(tmp_path / "file")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_the_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MNERKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mnerkit"
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_the_cache_decides_no_result() -> None:
    assert deciding({"data": {"cache": "x", "picture_cache": 1, "workers": 2, "limit": 3}}) == deciding(
        {"data": {"limit": 3}}
    )
    assert deciding({"data": None})["data"] is None
