"""SIGTERM and Ctrl-C end every command with the exit code of the signal and one line, and leave no process."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies.launchers import subprocess_script
from ranks import prepared

from mnerkit.cli import main, reproduce
from mnerkit.cli.stop_signals import stoppable
from mnerkit.errors import Stopped
from mnerkit.methods.predictor import Predictor
from mnerkit.methods.tagger import Tagger
from mnerkit.runs import predict
from mnerkit.runs.run_folder import RunFolder
from mnerkit.towers.vision import detectors
from tests.reproduce.small import Pretend, laid_out, within

FIT = ["fit", "--plugin", "bilstm", "--data.limit", "40", "--trainer.max_epochs", "3"]
FIT += ["--trainer.enable_progress_bar", "false"]
EACH = pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


def signalling(inner: Callable[..., Any], number: int, after: int = 0) -> Callable[..., Any]:
    """A function before whose call number `after` this process gets a signal."""
    calls = 0

    def outer(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            os.kill(os.getpid(), number)
        return inner(*args, **kwargs)

    return outer


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line of mnerkit on standard error."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    [found] = [line for line in error.splitlines() if line.startswith("mnerkit: ")]
    return found


@EACH
def test_fit_stops_at_once_and_goes_on(
    number: signal.Signals, code: int, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    fit = [*FIT, "--runs_dir", str(tmp_path), "--name", "a"]
    with monkeypatch.context() as patched:
        patched.setattr(Tagger, "training_step", signalling(Tagger.training_step, number, after=3))
        assert main(fit) == code
    assert line(capsys) == f"mnerkit: stopped by {number.name}; the same command continues the run"
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    run = RunFolder(tmp_path / "bilstm" / "probe" / "a")
    assert not run.finished and not (run.path / ".lock").exists()
    assert main(fit) == 0 and run.finished


def test_predict_keeps_its_finished_blocks_and_goes_on_with_resume(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*FIT, "--runs_dir", str(tmp_path), "--name", "a", "--trainer.max_epochs", "1"]) == 0
    lines = [json.dumps({"id": str(number), "text": f"Anna went home {number} times"}) for number in range(7)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(predict, "predict_file", functools.partial(predict.predict_file, block_lines=2))

    def command(name: str, *more: str) -> list[str]:
        words = ["predict", "--ckpt_path", str(tmp_path / "bilstm" / "probe" / "a"), *more]
        return [*words, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / name)]

    assert main(command("whole.jsonl")) == 0
    capsys.readouterr()
    with monkeypatch.context() as patched:  # in its third block
        patched.setattr(Predictor, "stream", signalling(Predictor.stream, signal.SIGTERM, after=2))
        assert main(command("out.jsonl")) == 143
    assert line(capsys) == (
        "mnerkit: stopped by SIGTERM; the same command with --resume goes on after the last finished block"
    )
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / ".out.jsonl.part").read_text().splitlines()) == 4
    assert main(command("out.jsonl", "--resume")) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob(".*"))


class NoObjects:
    """A detector that finds nothing."""

    kind, revision, threshold, prompted = "none", None, 0.5, False

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def to(self, device: str) -> None:
        assert device == "cpu"

    def find(self, pictures: Any, *_: Any) -> list[list[Any]]:
        return [[] for _ in pictures]


def test_objects_of_the_pictures_that_were_looked_at_are_kept(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "Detector", NoObjects)

    def command(name: str) -> list[str]:
        words = ["data", "objects", "probe", "--limit", "5", "--detector", "none", "--batch_size", "2"]
        return [*words, "--out", str(tmp_path / name)]

    assert main(command("whole")) == 0
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(NoObjects, "find", signalling(NoObjects.find, signal.SIGINT, after=2))
        assert main(command("boxes")) == 130
    assert line(capsys) == "mnerkit: stopped by SIGINT; the same command goes on"
    assert len((tmp_path / "boxes").read_text().splitlines()) == 1 + 4
    assert main(command("boxes")) == 0
    assert (tmp_path / "boxes").read_bytes() == (tmp_path / "whole").read_bytes()


@EACH
def test_a_sweep_says_how_many_runs_are_complete(
    number: signal.Signals, code: int, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Pretend):
        def run(self, tasks: Any) -> Any:
            for outcome in super().run(tasks):
                yield outcome
                os.kill(os.getpid(), number)

    folder = laid_out(tmp_path / "experiments")
    monkeypatch.setattr(reproduce, "_executor", lambda *_: Stopping())
    words = ["reproduce", "paper/sweep", "--experiments", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == code
    said = line(capsys)
    assert said.endswith("; 1 of 3 runs are complete; the same command goes on"), said


def test_an_ignored_signal_stays_ignored_and_handlers_are_the_main_threads(tmp_path: Path) -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `nohup` and shells in the background do
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped), stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, former)


class Rank:
    """What the launcher of a run knows of the other rank, which waits here for its variables."""

    returncode = None

    def __init__(self, pid: int, line: Connection) -> None:
        self.pid, self.line = pid, line

    def __call__(self, command: Sequence[str], env: dict[str, str], cwd: str | None) -> Rank:
        self.line.send(env)
        return self

    def poll(self) -> None:
        return None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def fit_in_ranks(log: Path, options: list[str], line: Connection, other: int | None = None) -> None:
    """One of two processes that train together, the first of which has the launcher and knows the number of the other.

    It ends as Python does, with all that threads of a group may then wait for.
    """
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo"} if other else line.recv())
    if other:
        setattr(subprocess_script, "subprocess", SimpleNamespace(Popen=Rank(other, line)))  # noqa: B010 - mypy
    code = main([*FIT, *options])
    sys.stderr.flush()
    ctypes.pythonapi.Py_Exit(code)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_rank_outlives_the_command(tmp_path: Path) -> None:
    fit = ["--trainer.max_epochs", "500", "--runs_dir", str(tmp_path), "--name", "a"]
    fit += ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    ours, theirs = prepared().Pipe()
    second = prepared().Process(target=fit_in_ranks, args=(tmp_path / "second", fit, theirs))
    second.start()
    first = prepared().Process(target=fit_in_ranks, args=(tmp_path / "first", fit, ours, second.pid))
    first.start()
    try:
        within(120, lambda: not first.is_alive() or list(tmp_path.glob("*/*/a/last.ckpt")))
        assert first.is_alive() and second.is_alive()
        first.terminate()
        first.join(60)
        error = (tmp_path / "first").read_text()
        assert first.exitcode == 143, error
        assert error.splitlines()[-1] == "mnerkit: stopped by SIGTERM; the same command continues the run"
        second.join(20)
        assert second.exitcode == -signal.SIGKILL
    finally:
        first.kill()
        second.kill()
