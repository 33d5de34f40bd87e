"""Files that appear whole or not at all: full disks, read-only folders, and drafts of processes that are gone."""

from __future__ import annotations

import ast
import errno
import json
import os
import platform
import random
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnerkit import atomic_files
from mnerkit.atomic_files import draft, draft_of, lock, remove_leftovers, write_bytes, write_json
from mnerkit.cli import main
from mnerkit.data.features.table import Table
from mnerkit.errors import line_of
from mnerkit.methods.checkpoint import AtomicCheckpoints, content_digest, read
from mnerkit.runs.predict import predict_file
from mnerkit.runs.run_folder import RunFolder

SOURCES = Path(atomic_files.__file__).parent
HOST = re.sub(r"[^A-Za-z0-9]+", "_", platform.node())
REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO]
FIT = ["fit", "--plugin", "bilstm", "--name", "one", "--data.limit", "24", "--trainer.max_epochs", "1"]
FIT += ["--trainer.enable_progress_bar", "false", "--model.head.dropout", "0.2"]


def hidden(folder: Path) -> list[str]:
    """Names of all hidden files below a folder."""
    return sorted(path.name for path in folder.rglob(".*"))


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, write: int = 1) -> list[str]:
    """Let the system refuse one write: the bytes of a draft, its flush to the disk, or its name.

    Args:
        number: the error of the system.
        write: which one, counted from 1.

    Returns:
        Where its call is noted once it was refused.
    """
    calls: list[str] = []
    refused: list[str] = []

    def of(function: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any) -> Any:
            calls.append(function.__name__)
            if len(calls) == write:
                refused.append(function.__name__)
                raise OSError(number, os.strerror(number))
            return function(*arguments)

        return instead

    monkeypatch.setattr(os, "fsync", of(os.fsync))
    monkeypatch.setattr(os, "replace", of(os.replace))
    return refused


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system itself refuses to write more than so many bytes into a file (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def figures(runs: Path) -> tuple[dict[str, Any], bytes, str]:
    """Scores, predictions and weights of the run of `FIT`."""
    run = RunFolder(runs / "bilstm" / "probe" / "one")
    weights = content_digest(read(run.best)["state_dict"])
    return {**run.metrics(), "seconds": None}, (run.path / "predictions.dev.jsonl").read_bytes(), weights


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert main([*FIT, "--runs_dir", str(runs)]) == 0
    return runs


# ------------------------------------------------------------------ what can't be written


@pytest.mark.parametrize("number", REFUSALS)
def test_a_refused_file_is_named_with_a_way_out_and_leaves_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"f1": 1})
    for write in (1, 2):
        with monkeypatch.context() as patch:
            refuse(patch, number, write)
            with pytest.raises(OSError, match=os.strerror(number)) as caught:
                write_json(path, {"f1": 2})
        line = line_of(caught.value)
        assert line is not None and "\n" not in line and os.strerror(number) in line
        assert line.startswith(str(path)) and line.endswith("then give the same command again")
        assert json.loads(path.read_text()) == {"f1": 1} and os.listdir(tmp_path) == ["metrics.json"]


def test_a_checkpoint_that_is_cut_off_by_the_system_reports_the_system(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    with largest_file(50_000), pytest.raises(OSError, match="File too large") as caught:
        AtomicCheckpoints().save_checkpoint({"weights": torch.zeros(50_000)}, path)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_draft_leaves_nothing_and_raises_what_interrupted_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), draft(tmp_path / "a") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="of the writer"), draft(tmp_path / "a"):
        raise ValueError("of the writer")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_training_on_a_full_disk_ends_in_a_line_and_goes_on(
    number: int,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = random.Random(number).randint(1, 12)  # of the fourteen of a run
    with monkeypatch.context() as patch:
        refused = refuse(patch, number, write)
        assert main([*FIT, "--runs_dir", str(tmp_path)]) == 1
    assert refused
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mnerkit: ")]
    assert str(tmp_path) in line and os.strerror(number) in line and "the same command again" in line
    assert hidden(tmp_path) == []
    assert main([*FIT, "--runs_dir", str(tmp_path)]) == 0
    assert figures(tmp_path) == figures(undisturbed) and hidden(tmp_path) == []


def test_a_training_whose_checkpoint_is_too_large_ends_in_a_line(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest_file(100_000):
        assert main([*FIT, "--runs_dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "best.ckpt can't be written: File too large; raise the limit" in error and "Traceback" not in error
    assert hidden(tmp_path) == []
    assert main([*FIT, "--runs_dir", str(tmp_path)]) == 0
    assert figures(tmp_path) == figures(undisturbed)


def test_a_prediction_on_a_full_disk_keeps_what_is_finished(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"id": "{number}", "text": "Ann sees Paris"}}\n' for number in range(9)))
    job: dict[str, Any] = {"ckpt": undisturbed / "bilstm/probe/one/best.ckpt", "source": source, "block_lines": 3}
    predict_file(**job, target=tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    # two writes a block and its record's name; the first block fails, the second, and the name of the target
    for write, way_out in ((1, "then give the same command again"), (5, "--resume"), (10, "--resume")):
        with monkeypatch.context() as patch:
            refuse(patch, errno.ENOSPC, write)
            with pytest.raises(Exception, match=f"{target} can't be written: No space left.*{way_out}") as caught:
                predict_file(**job, target=target)
        assert "\n" not in str(caught.value) and not target.exists()
        predict_file(**job, target=target, resume="--resume" in way_out)
        assert target.read_bytes() == whole
        target.unlink()
        assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    "command",
    [
        ["data", "show", "probe", "--limit", "3", "--out", "page.html"],
        ["data", "episodes", "probe", "--limit", "120", "--episodes", "2", "--out", "episodes.jsonl"],
        ["report", "RUNS", "--out", "report"],
        ["runs", "RUNS", "--export", "runs.csv"],
        ["draw", "cases", "RUN", "--split", "dev", "--out", "cases.html"],
        ["draw", "tsne", "RUN", "--split", "dev"],
        ["new", "mine", "--package", "mine"],
        ["predict", "--ckpt_path", "RUN/best.ckpt", "--input", "posts.jsonl", "--output", "out.jsonl"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_every_command_that_writes_ends_in_a_line(
    command: list[str],
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "posts.jsonl").write_text('{"id": "1", "text": "Ann sees Paris"}\n')
    run = str(undisturbed / "bilstm" / "probe" / "one")
    command = [word.replace("RUNS", str(undisturbed)).replace("RUN", run) for word in command]
    with monkeypatch.context() as patch:
        refused = refuse(patch, errno.ENOSPC)
        assert main(command) == 1
    error = capsys.readouterr().err
    assert refused and "can't be written: No space left on device; free space, then" in error
    assert "Traceback" not in error and hidden(tmp_path) == [] and hidden(undisturbed) == []
    assert main(command) == 0


def test_full_standard_output_is_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["plugins"]) == 1
        monkeypatch.undo()
    assert capsys.readouterr().err == (
        "mnerkit: output can't be written: No space left on device; free space, then give the same command again\n"
    )


# ------------------------------------------------------------------ what dead processes left


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is gone."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process


def drafts(folder: Path, dead: int) -> tuple[set[str], set[str]]:
    """Files that look like drafts: names of those that are left over, and of those that are not."""
    left = [
        f".best.ckpt.{HOST}-{dead}-0123abcd.part",
        f".last.ckpt.{dead}.part",
        f".{'a' * 24}.safetensors.{dead}.part",
    ]
    stay = [
        f".best.ckpt.other_{HOST}-{dead}-0123abcd.part",  # of another machine
        f".best.ckpt.{HOST}-{os.getppid()}-0123abcd.part",  # of a living process
        f".last.ckpt.{os.getppid()}.part",
        f".out.{dead}.part",  # an unfinished prediction
        ".out.jsonl.part",
        f"best.ckpt.{HOST}-{dead}-0123abcd.part",
    ]
    for name in (*left, *stay):
        (folder / name).write_bytes(b"half")
    return set(left), set(stay)


def test_drafts_of_dead_processes_of_this_machine_go_and_no_others(tmp_path: Path, dead: int) -> None:
    _, stay = drafts(tmp_path, dead)
    (tmp_path / f".link.{HOST}-{dead}-0123abcd.part").symlink_to(tmp_path / ".out.jsonl.part")
    remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) - {f".link.{HOST}-{dead}-0123abcd.part"} == stay


def test_a_draft_that_is_being_written_stays_and_one_of_a_reused_number_goes(tmp_path: Path, dead: int) -> None:
    # a container's process may have the number of a dead one of this machine, or of a living one after a restart
    written, reused = (tmp_path / f".a.{HOST}-{number}-0123abcd.part" for number in (dead, os.getppid()))
    reused.write_bytes(b"half")
    os.utime(reused, (0, 0))
    with written.open("wb") as stream:
        assert lock(stream.fileno())
        with draft(tmp_path / "b") as other:
            remove_leftovers(tmp_path)
            assert written.exists() and Path(other.name).exists() and not reused.exists()
    write_bytes(tmp_path / "c", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_names_of_drafts_fit_into_a_folder(tmp_path: Path) -> None:
    for name in ("a" * 255, "é" * 127, "shard-" + "0" * 32 + ".safetensors"):
        with draft(tmp_path / name) as stream:
            start = draft_of(Path(stream.name).name)
            assert start is not None and name.startswith(start) and len(start) >= min(len(name), 30)
        assert (tmp_path / name).is_file()


def test_leftovers_go_when_a_run_a_cache_or_an_output_is_begun(
    undisturbed: Path, tmp_path: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = undisturbed / "bilstm" / "probe" / "one"
    left, stay = drafts(run, dead)
    try:
        assert main([*FIT, "--runs_dir", str(undisturbed)]) == 0
        assert "already finished" in capsys.readouterr().out
        assert left.isdisjoint(hidden(run)) and stay <= {path.name for path in run.iterdir()}
    finally:
        for name in stay:
            (run / name).unlink()
    table = Table(tmp_path, {"tower": "a"})
    table.put("a" * 64, np.ones((1, 2), np.float32))
    table.close()
    assert table.folder is not None
    left, _ = drafts(table.folder, dead)
    Table(tmp_path, {"tower": "a"})
    assert left.isdisjoint(os.listdir(table.folder))
    left, _ = drafts(tmp_path, dead)
    assert main(["data", "show", "probe", "--limit", "3", "--out", str(tmp_path / "page.html")]) == 0
    assert left.isdisjoint(os.listdir(tmp_path))


# ------------------------------------------------------------------ one place

# (module, function) of files that grow: those of `predict` and `data objects`, logs, and what is no file
GROWING = {
    ("reproduce/executors/tasks.py", "open"),
    ("runs/prediction_file.py", "replace"),
    ("towers/vision/box_file.py", "open"),
    ("data/pictures/picture_cache.py", "open"),
}
# of folders that are filled under another name and renamed when they are whole, and temporary ones
FOLDERS = {
    ("data/corpus/conversion.py", "rename"),
    ("data/corpus/conversion.py", "write_text"),
    ("data/corpus/dataset_folders.py", "rename"),
    ("methods/model_folder.py", "rename"),
    ("methods/model_folder.py", "replace"),
    ("towers/text/slow_tokenizer.py", "write_bytes"),
}


def test_all_files_are_written_in_one_place() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            modes = [each.value for each in (*node.args, *(keyword.value for keyword in node.keywords))
                     if isinstance(each, ast.Constant) and isinstance(each.value, str)]  # fmt: skip
            opens = name == "open" and any(re.fullmatch(r"[rbt]*[wax+][wabxt+]*", mode) for mode in modes)
            renames = name in ("replace", "rename") and isinstance(function, ast.Attribute) and (
                isinstance(function.value, ast.Name) and function.value.id == "os"
            )  # fmt: skip
            of_path = name in ("write_text", "write_bytes") and isinstance(function, ast.Attribute)
            if opens or renames or of_path or name in ("mkstemp", "NamedTemporaryFile"):
                found.add((path.relative_to(SOURCES).as_posix(), name))
    assert {place for place in found if place[0] != "atomic_files.py"} == GROWING | FOLDERS
