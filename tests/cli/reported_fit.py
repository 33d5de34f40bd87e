"""`mnerkit fit` that writes a line for each step of its way, for tests that kill it.

In mode `hold` it never finishes by itself: it waits for its death before `metrics.json` is written.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnerkit.cli import main
from mnerkit.methods import checkpoint, tagger
from mnerkit.runs import build, fit
from mnerkit.runs.run_folder import RunFolder

STEPS = (
    (RunFolder, "start"),
    (build.Assembly, "prepare"),
    (tagger.Tagger, "training_step"),
    (tagger.Tagger, "validation_step"),
    (checkpoint.AtomicCheckpoints, "save_checkpoint"),
    (build.Assembly, "score"),
)


def report(owner: Any, name: str, file: Path) -> None:
    """Let a function say its name, as a line of `file`, before it does its work."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        with file.open("a") as stream:
            stream.write(f"{name}\n")
        return inner(*args, **kwargs)

    setattr(owner, name, outer)


def hold(write_json: Any) -> Any:
    """The function that writes the metrics, which waits to be killed instead."""

    def outer(path: Path, content: Any) -> None:
        if path.name == "metrics.json":
            time.sleep(600)
        write_json(path, content)

    return outer


def work(lines: Path, mode: str, options: Sequence[str]) -> None:
    """Train in this process, and end it; what it prints is left in a file beside `lines`."""
    for stream in (1, 2):
        os.dup2(os.open(lines.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    for owner, step in STEPS:
        report(owner, step, lines)
    if mode == "hold":
        fit.write_json = hold(fit.write_json)
    sys.exit(main(["fit", *options]))
