"""The processes that do a sweep's runs: what becomes of the runs, and of them, when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

from mnerkit.reproduce.executors import local
from mnerkit.reproduce.executors.local import LocalExecutor
from mnerkit.reproduce.executors.tasks import Outcome, Task
from tests.reproduce.small import alive, task_of, within


def perform(task: Task) -> Outcome:
    """A task of the tests: its command says what becomes of it."""
    what, place = task.command
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "child":  # as a data loader with workers has one
        child = multiprocessing.get_context("spawn").Process(target=os.getpid, daemon=True)
        child.start()
        child.join()
        return Outcome(task.name, 0.0, None if child.exitcode == 0 else "the child failed")
    if what == "hang":
        Path(place).write_text(str(os.getpid()))
        time.sleep(120)
    with Path(place).open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    return Outcome(task.name, 0.0, "no" if what == "fail" else None)


def test_processes_stay_alive_and_one_that_dies_fails_its_task_alone(tmp_path: Path) -> None:
    whats = ["work", "work", "die", "fail", "work", "work"]
    tasks = [task_of(str(number), (what, str(tmp_path / "log")), tmp_path / "l") for number, what in enumerate(whats)]
    found = {outcome.name: outcome for outcome in LocalExecutor(1, perform).run(tasks)}
    assert [found[str(number)].error is None for number in range(6)] == [True, True, False, False, True, True]
    assert "its process died (exit code -9)" in str(found["2"].error)
    pids = (tmp_path / "log").read_text().split()
    assert len(pids) == 5 and len(set(pids)) == 2  # one process before the death, one after it


def test_a_run_may_have_processes_of_its_own(tmp_path: Path) -> None:
    [found] = LocalExecutor(1, perform).run([task_of("0", ("child", ""), tmp_path / "l")])
    assert found.error is None


def test_a_process_that_dies_between_two_tasks_costs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(lines: Any) -> list[Any]:
        ready = connection.wait(lines)
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        return ready

    monkeypatch.setattr(local, "wait", answered)
    tasks = [task_of(str(number), ("work", str(tmp_path / "log")), tmp_path / "l") for number in range(3)]
    found = {outcome.name: outcome.error for outcome in LocalExecutor(1, perform).run(tasks)}
    assert found == {"0": None, "1": None, "2": None}
    assert len(set((tmp_path / "log").read_text().split())) == 3


def sweep_of_the_tests(place: str) -> None:
    """A process that gives work, to be killed."""
    list(LocalExecutor(1, perform).run([task_of("0", ("hang", place), Path(place))]))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_processes_end_when_the_one_that_gave_them_work_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    # no daemon: it has a child of its own
    process = multiprocessing.get_context("spawn").Process(target=sweep_of_the_tests, args=(str(place),))
    process.start()
    worker = within(120, lambda: place.is_file() and place.read_text() and int(place.read_text()))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert within(30, lambda: not alive(worker))
