"""A run of a sweep, done by a process that does many of them."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import traceback

from mnerkit.cli import main
from mnerkit.reproduce.executors.executor import Outcome, Task, complaint

# what mnerkit says of a run folder that another process writes into: for a moment, that of a sweep that was killed
TAKEN = "is being written by"
# seconds that a process which can't be asked may hold its locks, once its machine is lost: NFS gives them up after 90,
# and Ray ends what it has lost sight of after 60
LOST = 180.0


def perform(task: Task, patience: float = 10.0) -> Outcome:
    """Run a command of mnerkit in this process; what it prints goes into the task's log.

    Args:
        task: the command.
        patience: seconds to wait for another process that still writes into the run's folder.
    """
    started = time.time()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    error = None
    for _ in range(10):
        error = _attempt(task)
        if error is None or TAKEN not in error:
            break
        time.sleep(patience / 10)
    gc.collect()
    return Outcome(task.name, time.time() - started, error)


def _attempt(task: Task) -> str | None:
    """None, or what the command complained of."""
    kept = sys.argv
    with task.log.open("a+", encoding="utf-8") as stream:
        begin = stream.seek(0, os.SEEK_END)
        # the run notes the command that repeats it
        sys.argv = ["mnerkit", *task.command]
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                try:
                    code = main(task.command)
                except (Exception, SystemExit):  # a fault of one run is no reason to stop the others
                    traceback.print_exc()
                    code = 1
        finally:
            sys.argv = kept
        _end_dashboard(failed=bool(code))
        if not code:
            return None
        stream.flush()
        stream.seek(begin)
        return complaint(stream.read()) or f"exit code {code}"


def _end_dashboard(failed: bool) -> None:
    """Close what a run tells Weights & Biases: a failed one's next is another run, and this process may be killed."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        if wandb.run is not None:
            wandb.finish(exit_code=int(failed))
        wandb.teardown()
