"""`mnerkit runs`: a table of runs and scores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mnerkit import runs
from mnerkit.errors import DataError, UsageError
from mnerkit.text_table import table


def main(argv: list[str]) -> int:
    """Print the runs below a folder."""
    parser = argparse.ArgumentParser(
        "mnerkit runs", description="A table of runs and their scores.", allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("folder", nargs="?", default="runs", help="where run folders lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    try:
        options, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from None
    if rest:
        raise UsageError(f"no option {rest[0]!r} for `mnerkit runs`; it takes a folder and --json")
    root = Path(options.folder)
    if not root.is_dir():
        raise DataError(f"no folder {root}; runs appear there once `mnerkit fit` has started one")
    rows = [_row(folder) for folder in runs.find(root)]
    if options.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return 0
    if not rows:
        print(f"no runs below {root}")
        return 0
    heads = ["plugin", "corpus", "name", "seed", "state", "epochs", "dev F1", "test F1", "strict"]
    print(
        table(
            heads,
            [
                [
                    row[key]
                    for key in ("plugin", "corpus", "name", "seed", "state", "epochs", "dev", "test", "test_strict")
                ]
                for row in rows
            ],
        )
    )
    return 0


def _row(folder: runs.RunFolder) -> dict[str, Any]:
    """Plain figures of one run; a damaged file shows as such and hides no other run."""
    plugin, corpus, name = folder.path.parts[-3:]
    row: dict[str, Any] = {"plugin": plugin, "corpus": corpus, "name": name, "path": str(folder.path)}
    row |= {"seed": None, "state": "unfinished", "epochs": None, "dev": None, "test": None, "test_strict": None}
    try:
        row["seed"] = folder.config().get("seed")
        if folder.finished:
            metrics = folder.metrics()
            row["state"] = "finished"
            row["epochs"] = metrics.get("epochs")
            row["dev"] = metrics.get("dev", {}).get("f1")
            row["test"] = metrics.get("test", {}).get("f1")
            row["test_strict"] = metrics.get("test", {}).get("f1_strict")
    except DataError:
        row["state"] = "damaged"
    return row
