"""SIGTERM and Ctrl-C end every command with the exit code of the signal and one line, and leave no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main, reproduce
from mnerkit.cli.stop_signals import stoppable
from mnerkit.errors import Stopped
from mnerkit.methods.predictor import Predictor
from mnerkit.methods.tagger import Tagger
from mnerkit.runs.run_folder import RunFolder
from mnerkit.towers.vision import box_file
from tests.reproduce.small import Pretend, alive, laid_out, within

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


@EACH
def test_predict_and_objects_stop_in_a_line(
    number: signal.Signals, code: int, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = [*FIT, "--runs_dir", str(tmp_path), "--name", "a", "--trainer.max_epochs", "1"]
    assert main(fit) == 0
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "1", "text": "Anna went home"}) + "\n")
    predict = ["predict", "--ckpt_path", str(tmp_path / "bilstm" / "probe" / "a")]
    predict += ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    capsys.readouterr()
    monkeypatch.setattr(Predictor, "stream", signalling(Predictor.stream, number))
    assert main(predict) == code
    assert "--resume" in line(capsys) and not (tmp_path / "out.jsonl").exists()
    monkeypatch.setattr(box_file, "write_boxes", signalling(box_file.write_boxes, number))
    assert main(["data", "objects", "probe", "--detector", "detr", "--out", str(tmp_path / "boxes")]) == code
    assert line(capsys) == f"mnerkit: stopped by {number.name}; the same command goes on"


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_rank_outlives_the_command(tmp_path: Path) -> None:
    fit = ["--data.limit", "400", "--trainer.max_epochs", "500", "--runs_dir", str(tmp_path), "--name", "a"]
    fit += ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mnerkit", *FIT, *fit],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    try:
        within(120, lambda: process.poll() is not None or list(tmp_path.glob("*/*/a/last.ckpt")))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        time.sleep(0.1)
        process.terminate()
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 143, error
        assert error.strip().splitlines()[-1] == "mnerkit: stopped by SIGTERM; the same command continues the run"
        assert within(20, lambda: not any(alive(int(child)) for child in children))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
