"""Tasks of a sweep: what they are, who does them, and how a process that does many of them does one."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mnerkit.atomic_files import writing_to
from mnerkit.errors import RunBusy, Stopped, line_of
from mnerkit.printable import escaped_output, show

# letters of a complaint; what a run printed stands whole in its log
LONGEST = 500
# seconds that a process may hold its locks once its machine is lost: NFS releases them after 90, and Ray ends processes
# that it no longer reaches after 60
LOST = 180.0


@dataclass(frozen=True)
class Task:
    """Some work for a process.

    Attributes:
        name: unique among the tasks.
        command: the command of mnerkit that does the same, from its verb on.
        do: does the work; a process of another machine must be able to unpickle it.
        log: file that what it prints is added to.
    """

    name: str
    command: tuple[str, ...]
    do: Callable[[], object]
    log: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a task: how long it took, and what it complained of where it failed."""

    name: str
    seconds: float
    error: str | None = None


Perform = Callable[[Task], Outcome]


class Executor(Protocol):
    """Does tasks. One that fails, or crashes its process, has an outcome like any other; the rest continue.

    Attributes:
        jobs: how many it does at once.
    """

    jobs: int

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """Do the tasks; yields each outcome as soon as there is one. Closing the iterator ends what is running."""
        ...


def perform(task: Task, patience: float = 10.0) -> Outcome:
    """Train a run, or compute a figure of one, in this process; what it prints goes into the task's log.

    Args:
        task: what to do.
        patience: seconds to wait for another process that still writes into the run's folder.
    """
    started = time.time()
    error = None
    for _ in range(10):
        try:
            error = _attempt(task)
            break
        except OSError as problem:  # of its log
            error = f"mnerkit: {line_of(problem) or problem}"
            break
        except RunBusy as busy:  # for a moment: the process of a sweep that was killed
            error = f"mnerkit: {busy}"
            time.sleep(patience / 10)
    gc.collect()
    return Outcome(task.name, time.time() - started, error)


def _attempt(task: Task) -> str | None:
    """None, or the error of the work in one line.

    Raises:
        RunBusy: another process writes into the run's folder.
    """
    argv = sys.argv
    task.log.parent.mkdir(parents=True, exist_ok=True)
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
    # a progress bar begins its line again with \r
    with writing_to(task.log), task.log.open("a+", newline=None, **how) as stream:
        begin = stream.seek(0, os.SEEK_END)
        # the run notes the command that repeats it
        sys.argv = ["mnerkit", *task.command]
        failed = True
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream), escaped_output():
                try:
                    task.do()
                    failed = False
                except (Exception, SystemExit, KeyboardInterrupt) as problem:  # of one run: the others go on
                    if line := line_of(problem):
                        show(f"mnerkit: {line}")
                    else:
                        show(traceback.format_exc().rstrip("\n"))
                    if isinstance(problem, RunBusy):
                        raise
                except Stopped as stop:
                    show(f"mnerkit: {stop.line('the sweep continues it when it goes on')}")
                    raise
        finally:
            sys.argv = argv
            _end_dashboard(failed)
        if not failed:
            return None
        stream.flush()
        stream.seek(begin)
        return complaint(stream.read()) or "it failed and printed nothing; see its log"


def _end_dashboard(failed: bool) -> None:
    """Close the W&B record of a run: the next run needs one of its own, and this process may be killed."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        if wandb.run is not None:
            wandb.finish(exit_code=int(failed))
        wandb.teardown()


def complaint(printed: str) -> str:
    """The error of a failed run, cause and advice in one line; the last line printed, where mnerkit reported none.

    A warning of mnerkit's before a crash is not what it failed of.
    """
    lines = printed.strip().split("\n")
    begins = [number for number, line in enumerate(lines) if line.startswith("mnerkit: ")]
    mine = lines[begins[-1] :] if begins else []
    crashed = any(line.startswith("Traceback (most recent call last)") for line in mine)
    line = " ".join(mine if mine and not crashed else lines[-1:])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
