"""One of two processes that train together: runs the calls that come through a pipe, as under `torchrun`."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

# the server that starts ranks imports this module: it has what a call needs
import mnerkit.runs.build  # noqa: F401
from mnerkit.cli import main
from tests.cli.cut import steps_of


def work(calls: Connection, log: Path, variables: Mapping[str, str]) -> None:
    """Answer each command with its exit code, until None comes; what commands print is left in a file.

    With a command comes a number of training steps after which it is to break off, or None (`cut.steps_of`).
    """
    os.environ.update(variables)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    while (call := calls.recv()) is not None:
        command, cut_after = call
        try:
            if cut_after is not None:
                steps_of(command, cut_after)
            calls.send(main(command) if cut_after is None else 0)
        except BaseException:
            traceback.print_exc()
            calls.send(70)
    os._exit(0)  # gloo's threads may wait for Python's lock for ever while it ends
