"""Ranks that Lightning has started end with the process that started them, and by it alone. Nothing here imports torch.

Of a rank that ends by itself Lightning's observer kills that process, with its lock and without a word; and a rank that
waits for a process that was killed may wait for ever.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

# number of the process that starts the ranks
LAUNCHER = "MNERKIT_LAUNCHER"
LOOK = 0.5  # seconds


def is_launched() -> bool:
    """Whether Lightning has started this process as a further rank; `torchrun` and `srun` set other variables."""
    return "RANK" not in os.environ and int(os.environ.get("LOCAL_RANK") or 0) > 0


def handlers() -> dict[signal.Signals, Callable[[], None]]:
    """What signals do in such a rank: it passes them on; empty elsewhere."""

    def pass_on(number: signal.Signals) -> Callable[[], None]:
        return lambda: os.kill(os.getppid(), number)

    return {number: pass_on(number) for number in (signal.SIGTERM, signal.SIGINT)} if is_launched() else {}


def end_with_launcher() -> None:
    """End such a rank as soon as the process that started it is gone; any other process says that it may start some."""
    if not is_launched():
        os.environ[LAUNCHER] = str(os.getpid())
    elif os.name != "nt" and not any(thread.name == LAUNCHER for thread in threading.enumerate()):
        threading.Thread(target=_watch, name=LAUNCHER, daemon=True).start()


def _watch() -> None:
    parent = os.getppid()
    # process 1 adopts those whose parent is gone; in a container it may be the one that started them
    orphaned = parent == 1 and os.environ.get(LAUNCHER, "1") != "1"
    while not orphaned:
        time.sleep(LOOK)
        orphaned = os.getppid() != parent
    os._exit(1)
