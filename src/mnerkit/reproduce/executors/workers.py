"""A run of a sweep, done by a process that does many of them."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import traceback

from mnerkit.errors import RunBusy, line_of
from mnerkit.reproduce.executors.executor import Outcome, Task, complaint

# seconds that a process may hold its locks once its machine is lost: NFS releases them after 90, and Ray ends processes
# that it no longer reaches after 60
LOST = 180.0


def perform(task: Task, patience: float = 10.0) -> Outcome:
    """Train a run, or compute a figure of one, in this process; what it prints goes into the task's log.

    Args:
        task: what to do.
        patience: seconds to wait for another process that still writes into the run's folder.
    """
    started = time.time()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    error = None
    for _ in range(10):
        try:
            error = _attempt(task)
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
    with task.log.open("a+", encoding="utf-8") as stream:
        begin = stream.seek(0, os.SEEK_END)
        # the run notes the command that repeats it
        sys.argv = ["mnerkit", *task.work.command]
        failed = True
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                try:
                    task.work.do()
                    failed = False
                except (Exception, SystemExit, KeyboardInterrupt) as problem:  # of one run: the others go on
                    if line := line_of(problem):
                        print(f"mnerkit: {line}")
                    else:
                        traceback.print_exc()
                    if isinstance(problem, RunBusy):
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
