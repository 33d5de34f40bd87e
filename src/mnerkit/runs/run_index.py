"""An index of many runs: what was read of each, for as long as its files stay as they are. Nothing here imports torch.

It is a hidden file of the folder in which the runs lie, written where at least `FEWEST` of them had to be read, and of
no use to anybody else: without it everything is read again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_text
from mnerkit.release import RELEASE
from mnerkit.runs.run_folder import RunFolder

INDEX = ".mnerkit-runs.json"
FEWEST = 100  # runs that are read anew before it is written
_FORMAT = ["mnerkit-run-index-1", RELEASE]
_SETTLED = 2.0  # seconds: a file that is younger may change again without a later time of change

Content = dict[str, Any]


def indexed(root: Path, folders: Iterable[RunFolder], read: Callable[[RunFolder], Content]) -> list[Content]:
    """What `read` makes of each run, from the index where its configuration and metrics have not changed since.

    Args:
        root: the folder that is listed; the index lies there.
        folders: runs below it.
        read: reads a run; plain data, or a `damaged` state, which is not kept.
    """
    before, after, contents = _read(root / INDEX), {}, []
    new = 0
    for folder in folders:
        name = str(folder.path.relative_to(root))
        state = [_signature(folder.config_file), _signature(folder.metrics_file)]
        entry = before.get(name)
        if not (isinstance(entry, list) and len(entry) == 2 and entry[0] == state and isinstance(entry[1], dict)):
            entry = [state, read(folder)]
            new += 1
            if not _can_be_kept(entry):
                contents.append(entry[1])
                continue
        after[name] = entry
        contents.append(entry[1])
    if new >= FEWEST:
        with contextlib.suppress(OSError):  # a folder of somebody else's
            write_text(root / INDEX, json.dumps({"format": _FORMAT, "runs": after}))
    return contents


def _read(path: Path) -> dict[str, Any]:
    """The entries of an index; none where there is none, or one of another version."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not isinstance(content.get("runs"), dict):
        return {}
    return content["runs"]


def _signature(path: Path) -> list[int] | None:
    """What changes whenever a file's content does; None where it is missing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def _can_be_kept(entry: list[Any]) -> bool:
    """Whether a run's files have settled, and what was read of them is the same when it comes back from JSON."""
    state, content = entry
    youngest = max((max(times[:2]) for times in state if times), default=0)
    if content.get("state") == "damaged" or time.time() - youngest / 1e9 < _SETTLED:
        return False
    try:
        return bool(json.loads(json.dumps(content, allow_nan=False)) == content)
    except (TypeError, ValueError):
        return False
