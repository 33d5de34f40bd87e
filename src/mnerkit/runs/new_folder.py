"""The folder of a run that is written at once and not trained: imported weights, or another program's predictions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnerkit.errors import MnerkitError, UsageError
from mnerkit.runs.run_folder import RunFolder


def new_folder(out: str | Path, overwrite: bool) -> RunFolder:
    """The folder, looked at and not yet made.

    Args:
        out: the folder, `--out`.
        overwrite: a run that is there may be replaced.

    Raises:
        UsageError: something is there that may not be replaced.
    """
    folder = RunFolder(Path(out))
    if "\0" in str(out):
        raise UsageError(f"--out {str(out)[:80]!r}: no folder has a NUL in its name")
    if folder.path.exists() and not folder.path.is_dir():
        raise UsageError(f"--out {out} is a file; give the folder of a new run")
    there = folder.path.exists() and any(folder.path.iterdir())
    if there and not overwrite:
        raise UsageError(f"--out {out} exists; give another folder, or --overwrite to replace the run in it")
    if there and not folder.started:
        raise UsageError(f"--out {out} holds files that are not a run's; give another folder")
    return folder


@contextmanager
def filling(folder: RunFolder, overwrite: bool) -> Iterator[None]:
    """Write a run's files in this block; of one that fails nothing stays.

    `metrics.json` is to come last, so that a run that was broken off is recognised.
    """
    new = not folder.path.exists()
    with folder.writing():
        if overwrite:
            folder.clear()
        try:
            yield
        except (OSError, MnerkitError):
            folder.clear()
            if new:
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
