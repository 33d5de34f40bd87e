"""SIGTERM and Ctrl-C end every command with the exit code of the signal and one line, and leave no process."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import weights
from lightning.pytorch.strategies.launchers import subprocess_script
from ranks import prepared

from mnerkit import stop_signals
from mnerkit.cli import main, reproduce
from mnerkit.errors import Stopped
from mnerkit.methods import checkpoint
from mnerkit.methods.predictor import Predictor
from mnerkit.methods.tagger import Tagger
from mnerkit.reproduce.executors import local
from mnerkit.runs import build, predict
from mnerkit.runs.run_folder import RunFolder
from mnerkit.runs.trainer import launched_ranks, slurm
from mnerkit.runs.trainer.continuation import WITHIN
from mnerkit.stop_signals import stoppable
from mnerkit.towers.vision import detectors
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
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "stream", signalling(Predictor.stream, signal.SIGTERM))
        assert main([*command("..")[:-1], "/dev/null"]) == 143
    assert line(capsys).endswith("no file that --resume could go on with, so the same command begins anew")
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


def test_a_signal_that_python_drops_in_a_destructor_comes_again() -> None:
    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped), stoppable():
        Dropped()
        time.sleep(20)


def fit_that_ends_slowly(log: Path, options: list[str]) -> None:
    """A training that gets Ctrl-C in its second step, and never comes to its end after that."""

    def linger(*_: Any) -> None:
        log.with_name("lingering").touch()
        time.sleep(60)

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    stop_signals.SAME_SIGNAL = 0.3
    setattr(Tagger, "training_step", signalling(Tagger.training_step, signal.SIGINT, after=1))  # noqa: B010 - mypy
    setattr(build._RanksEndToo, "on_exception", linger)  # noqa: B010 - mypy
    sys.exit(main([*FIT, *options]))


def test_a_second_ctrl_c_ends_a_command_that_does_not_come_to_its_end(tmp_path: Path) -> None:
    fit = ["--runs_dir", str(tmp_path), "--name", "a"]
    process = prepared().Process(target=fit_that_ends_slowly, args=(tmp_path / "log", fit))
    process.start()
    try:
        within(60, (tmp_path / "lingering").exists)
        time.sleep(0.4)
        assert process.pid is not None and process.is_alive()
        os.kill(process.pid, signal.SIGINT)
        process.join(20)
        assert process.exitcode == 130
    finally:
        process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert main([*FIT, *fit]) == 0 and RunFolder(tmp_path / "bilstm" / "probe" / "a").finished
    assert not list(tmp_path.rglob(".lock"))


# ---------------------------------------------------------------- sweeps

# runs that do not come to their end by themselves
LONG = {"data.limit: 24, trainer.max_epochs: 1": "data.limit: 24, trainer.max_epochs: 5000"}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a sweep of three long runs, two at once, whose processes have torch imported."""
    folder = laid_out(tmp_path / "experiments")
    profile = folder / "profiles" / "mini.yaml"
    for found, instead in LONG.items():
        assert found in profile.read_text()
        profile.write_text(profile.read_text().replace(found, instead))
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: prepared())
    words = ["reproduce", "paper/sweep", "--experiments", str(folder), "--out", str(tmp_path / "out")]
    return [*words, "--jobs", "2"]


def workers(out: Path) -> list[int]:
    """The processes that train runs of a sweep, once two of them do."""
    at_work = [path.parent for path in out.glob("runs/*/*/*/last.ckpt")]
    return [int((path / ".lock").read_text().split()[1]) for path in at_work if (path / ".lock").exists()]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code", "to_worker"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_a_sweep_ends_its_workers_and_a_worker_its_sweep(
    number: signal.Signals, code: int, to_worker: bool, sweep: list[str], tmp_path: Path, capsys: Any
) -> None:
    def send() -> None:
        pids.extend(within(120, lambda: found if len(found := workers(tmp_path / "out")) == 2 else None))
        os.kill(pids[0] if to_worker else os.getpid(), number)

    pids: list[int] = []
    sender = threading.Thread(target=send)
    sender.start()
    assert main(sweep) == code
    sender.join()
    assert line(capsys).endswith(f"{number.name}; 0 of 3 runs are complete; the same command goes on")
    assert len(pids) == 2 and not any(alive(pid) for pid in pids)
    logs = sorted((tmp_path / "out" / "logs").glob("*.txt"))
    assert len(logs) == 2
    for log in logs:
        *_, last = log.read_text().splitlines()
        assert last.startswith("mnerkit: stopped by SIG") and last.endswith("; the sweep continues it when it goes on")
    left = [path for path in (tmp_path / "out").rglob(".*") if path.name == ".lock" or ".part" in path.name]
    assert not left


# ---------------------------------------------------------------- SLURM


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of SLURM, one task of an array; the commands that `scontrol` gets come into this file."""
    commands = tmp_path / "commands"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {commands}\n')
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    own = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_NAME": "large"}
    own |= {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost"}
    own |= dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("MASTER_ADDR", "MASTER_PORT"):  # Lightning sets them
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(slurm, "_requeued", set())
    return commands


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_job_of_slurm_is_requeued_once_and_its_figures_are_those_of_an_undisturbed_run(
    job: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(name: str) -> list[str]:
        return [*FIT, "--runs_dir", str(tmp_path), "--name", name, "--data.batch_size", "16"]

    whole, cut = (RunFolder(tmp_path / "bilstm" / "probe" / name) for name in ("whole", "cut"))
    assert main(fit("whole")) == 0
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(build.Assembly, "prepare", signalling(build.Assembly.prepare, signal.SIGUSR1))
        patched.setattr(Tagger, "training_step", signalling(Tagger.training_step, signal.SIGUSR1, after=3))
        assert main(fit("cut")) == 0  # this scontrol does not end the job
    assert line(capsys) == "mnerkit: job 7_2 is requeued, and its command goes on when it runs again"
    assert job.read_text() == "requeue 7_2\n"
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert weights.digest(cut) == weights.digest(whole)
    # SLURM ends a job that it has requeued; a single process has written a checkpoint before
    monkeypatch.setattr(slurm, "_requeued", set())
    with monkeypatch.context() as patched:
        stopping = signalling(Tagger.training_step, signal.SIGTERM, after=4)
        patched.setattr(Tagger, "training_step", signalling(stopping, signal.SIGUSR1, after=3))
        assert main([*fit("cut"), "--overwrite"]) == 143
    assert job.read_text() == "requeue 7_2\n" * 2
    assert checkpoint.read(cut.last)[WITHIN]["batches"] == 1
    assert not cut.finished and main(fit("cut")) == 0
    assert weights.digest(cut) == weights.digest(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_job_that_slurm_does_not_requeue_is_named_and_goes_on(job: Path, capsys: Any) -> None:
    scontrol = job.parent / "bin" / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 'Requested operation is presently disabled' >&2\nexit 1\n")
    with stoppable(slurm.handlers()):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert line(capsys) == (
        "mnerkit: `scontrol requeue 7_2` failed (Requested operation is presently disabled);"
        " submit the job again to go on"
    )
    assert not job.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_workers_of_a_sweep_leave_the_job_to_it(job: Path, sweep: list[str], tmp_path: Path, capsys: Any) -> None:
    def send() -> None:
        pids = within(120, lambda: found if len(found := workers(tmp_path / "out")) == 2 else None)
        for pid in (*pids, os.getpid()):  # as SLURM does
            os.kill(pid, signal.SIGUSR1)
        within(60, job.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    assert main(sweep) == 143
    sender.join()
    assert job.read_text() == "requeue 7_2\n"


# ---------------------------------------------------------------- ranks


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


def launch_a_rank(place: Path) -> None:
    """A process that starts another one, as Lightning starts ranks, and waits for a signal; so does the other one."""
    launched_ranks.end_with_launcher()
    if launched := os.fork():
        place.write_text(str(launched))
    else:
        os.environ["LOCAL_RANK"] = "1"
        launched_ranks.end_with_launcher()
    try:
        with stoppable(launched_ranks.handlers()):
            time.sleep(60)
    except Stopped as stop:
        os._exit(stop.exit_code)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("killed", [False, True])
def test_a_rank_passes_signals_to_the_process_that_started_it_and_ends_with_it(killed: bool, tmp_path: Path) -> None:
    process = prepared().Process(target=launch_a_rank, args=(tmp_path / "rank",))
    process.start()
    rank = within(60, lambda: (tmp_path / "rank").exists() and int((tmp_path / "rank").read_text() or 0))
    time.sleep(0.2)
    try:
        if killed:
            process.kill()
        else:
            os.kill(rank, signal.SIGTERM)
        process.join(10)
        assert process.exitcode == (-signal.SIGKILL if killed else 143)
        assert within(10, lambda: not alive(rank))
    finally:
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)
