"""SIGTERM and SIGINT end a command, or the worker of a sweep, by an exception that every block on its way can meet."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from mnerkit.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# `timeout` and launchers send a signal twice, to the process and to its group; a later one is a person's
SAME_SIGNAL = 2.0  # seconds


@contextlib.contextmanager
def stoppable(others: Mapping[signal.Signals, Callable[[], None]] | None = None) -> Iterator[None]:
    """Let SIGTERM and SIGINT raise `Stopped` in the main thread until the block ends; a second one ends the process.

    Other threads can't have handlers. A signal that is ignored (`nohup`) stays ignored. Processes that are forked here
    (the workers of data loaders) end by SIGTERM, and leave the rest to this one, which ends them.

    Args:
        others: what other signals do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, first = os.getpid(), 0.0
    former: dict[signal.Signals, Any] = {}
    former_hook = sys.unraisablehook

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

    def again(problem: sys.UnraisableHookArgs) -> None:
        """Send the signal again where Python dropped what it raised: in a destructor, or what C has called."""
        nonlocal first
        if isinstance(problem.exc_value, Stopped):
            first = 0.0
            threading.Timer(0.05, os.kill, (owner, problem.exc_value.number)).start()
        else:
            former_hook(problem)

    def other(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            others_of[signal.Signals(number)]()

    others_of = others or {}
    for number, handler in (dict.fromkeys(SIGNALS, stop) | dict.fromkeys(others_of, other)).items():
        if signal.getsignal(number) not in (None, signal.SIG_IGN):
            former[number] = signal.signal(number, handler)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = former_hook
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold the signals back until the block ends; a process that is started here holds them back, see `let_through`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def let_through() -> None:
    """Let the signals through that this process was started with held back."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
