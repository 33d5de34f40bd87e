"""A run folder is written by one process at a time."""

from __future__ import annotations

import itertools
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnerkit.atomic_files import write_json
from mnerkit.cli import main
from mnerkit.errors import UsageError
from mnerkit.runs.reporting import summary
from mnerkit.runs.run_folder import RunFolder, find, writing
from mnerkit.strict_json import read_json

HOLD = """
import sys
from pathlib import Path
from mnerkit.runs.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_writer(folder: Path) -> Iterator[subprocess.Popen]:
    """A process that writes into the folder until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with another_writer(folder.path) as first:
        with pytest.raises(UsageError) as refusal, folder.writing():
            raise AssertionError("two processes write into one run folder")
        assert str(refusal.value) == (f"run {folder.path} is being written by process {first.pid} on {platform.node()}")
    with folder.writing():
        assert files(folder.path) == [".lock"]
    assert files(folder.path) == []


def test_the_lock_of_a_killed_process_is_given_up(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with another_writer(folder.path) as first:
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    assert files(folder.path) == [".lock"]
    with folder.writing():
        pass


def test_a_run_that_trains_elsewhere_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bert" / "probe" / "busy"
    with another_writer(folder) as first:
        (folder / "config.yaml").write_text("plugin: bert\n")
        for more in ([], ["--overwrite"]):
            assert main(["fit", "--plugin", "bert", "--name", "busy", "--runs_dir", str(tmp_path), *more]) == 2
            said = capsys.readouterr()
            assert said.err == (f"mnerkit: run {folder} is being written by process {first.pid} on {platform.node()}\n")
            assert said.out == ""
        assert files(folder) == [".lock", "config.yaml"]


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"])
def test_other_ranks_of_a_run_do_not_ask_for_the_lock(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with another_writer(tmp_path / "run"), writing(RunFolder(tmp_path / "run")):
        pass


@pytest.mark.parametrize("after", range(5))
def test_a_folder_whose_clearing_was_cut_off_can_be_cleared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    for name in ("config.yaml", "metrics.json", "best.ckpt", "last.ckpt", "env.json"):
        (folder.path / name).write_text("{}")
    unlink, listed, count = Path.unlink, Path.iterdir, itertools.count()

    def cut_off(path: Path, missing_ok: bool = False) -> None:
        if next(count) == after:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", cut_off)
        # an order in which the configuration is not the last by chance
        patched.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path))))
        folder.start({"plugin": "bert"}, overwrite=True)
    assert folder.started and folder.finished == (after == 0) and folder.last.exists() == (after < 2)
    assert folder.start({"plugin": "bert"}, overwrite=True) == "new"
    assert files(folder.path) == ["config.yaml"]


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    nan = float("nan")
    write_json(tmp_path / "a.json", {"test": {"f1": 1.5, "auc": nan, "rows": [nan, 2, (float("-inf"),)]}})
    assert read_json(tmp_path / "a.json") == {"test": {"f1": 1.5, "auc": None, "rows": [None, 2, [None]]}}
    found = {"plugin": "relevance", "test": {"images": 3, "mean_r": 0.5, "above_blank": 50.0, "auc": None}}
    assert summary(found).strip() == "test, 3 images: mean R 0.500, 50.0 % above blank"


def test_overwriting_clears_all_but_the_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.writing():
        assert folder.start({"plugin": "bert"}, overwrite=False) == "new"
        (folder.path / "curve").mkdir()
        (folder.path / "curve" / "metrics.csv").write_text("old")
        assert folder.start({"plugin": "other"}, overwrite=True) == "new"
        assert files(folder.path) == [".lock", "config.yaml"]


def test_runs_are_found_at_any_depth_and_none_within_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = ["runs/bert/probe/b", "runs/reproduce/mini/runs/bert/probe/a", "runs/zz/probe/c"]
    for name in [*made, "runs/bert/probe/b/wandb/offline/files"]:
        Path(name).mkdir(parents=True)
        Path(name, "config.yaml").write_text("plugin: bert\n")
    assert [str(run.path) for run in find(Path("runs"))] == made
    assert [str(run.path) for run in find(Path(made[0]))] == made[:1]
