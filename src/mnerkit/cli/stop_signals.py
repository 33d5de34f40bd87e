"""SIGTERM and Ctrl-C end a command in one line that says how to go on, with the exit code that schedulers expect."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mnerkit.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# `timeout` and launchers send a signal twice, to the process and to its group; a later one is a person's
SAME_SIGNAL = 2.0  # seconds
# how a command that was stopped goes on, by verb
GO_ON = {
    "predict": "the same command with --resume goes on after the last finished block",
    "fit": "the same command continues the run",
}


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let both signals raise `Stopped` in the main thread until the block ends; a second one ends the process at once.

    Other threads can't have handlers. A signal that is ignored (`nohup`) stays ignored. Processes that are forked here
    (the workers of data loaders) end by SIGTERM, and leave Ctrl-C to this one, which ends them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, first = os.getpid(), 0.0
    former: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if os.getpid() != owner:  # forked
            if number == signal.SIGTERM:
                os._exit(128 + number)
        elif not first:
            first = time.monotonic()
            raise Stopped(number)
        elif time.monotonic() - first > SAME_SIGNAL:
            os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) not in (None, signal.SIG_IGN):
            former[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def line_of_stop(stop: Stopped, verb: str) -> str:
    """What a person reads: which signal came, how far the command got where that is known, and how to go on."""
    progress = f"; {stop.progress}" if stop.progress else ""
    return f"stopped by {stop.name}{progress}; {GO_ON.get(verb, 'the same command goes on')}"
