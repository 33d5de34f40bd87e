"""`mnerkit runs rescore [FOLDER...]`: do the figures of runs follow from their kept predictions?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import Parser, read
from mnerkit.errors import DataError
from mnerkit.printable import json_text, show
from mnerkit.runs import run_folder
from mnerkit.runs.rescore import rescored
from mnerkit.text_table import table

ABOUT = """Compute the figures of finished runs anew from the predictions that they keep: precision, recall and F1, also
by type, and in few-shot runs the intervals over episodes. Strict figures need the predicted tags, which are not kept.
The exit code is 1 where a recorded figure differs, or a run's files are damaged."""


def main(argv: list[str]) -> int:
    """Rescore runs; return 0 if all recorded figures follow from the predictions, 1 if not.

    Raises:
        UsageError: an option that does not exist.
        DataError: no such folder, or no finished run in it.
    """
    parser = Parser("mnerkit runs rescore", description=ABOUT, allow_abbrev=False)
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", default=["runs"], help="runs, or folders of runs (default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    options = read(parser, argv)
    rows = [row for folder in options.folders for run in _finished(Path(folder)) for row in _rows(run)]
    if options.json:
        show(*map(json_text, rows))
    else:
        body = [[row[key] for key in ("run", "split", "recorded", "recomputed", "result")] for row in rows]
        show(table(["run", "split", "F1 recorded", "F1 recomputed", "result"], body))
    return int(any(row["result"] not in ("the same", "no predictions") for row in rows))


def _finished(folder: Path) -> list[run_folder.RunFolder]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; runs appear there once `mnerkit fit` has started one")
    runs = [run for run in run_folder.find(folder) if run.finished]
    if not runs:
        raise DataError(f"no finished run in {folder}")
    return runs


def _rows(run: run_folder.RunFolder) -> list[dict[str, Any]]:
    """A row for each split of a run that has predictions; one alone where it has none, or is damaged."""
    empty = {"run": str(run.path), "split": None, "recorded": None, "recomputed": None}
    try:
        splits = list(rescored(run))
    except DataError as problem:
        return [empty | {"result": f"damaged: {problem}"}]
    return [
        {
            "run": str(run.path),
            "split": each.split,
            "recorded": each.recorded.get("f1"),
            "recomputed": each.recomputed["f1"],
            "result": f"differ: {', '.join(each.differing)}" if each.differing else "the same",
        }
        for each in splits
    ] or [empty | {"result": "no predictions"}]
