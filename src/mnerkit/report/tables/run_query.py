"""Rows of the table of runs: filtered, sorted and exported."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, UsageError, did_you_mean
from mnerkit.printable import json_text
from mnerkit.runs.run_folder import RunFolder, dotted
from mnerkit.text_table import csv_text

Row = dict[str, Any]

COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


def condition(text: str) -> tuple[str, str, str]:
    """Key, comparison and value of a `--where`.

    Raises:
        UsageError: the text is no condition.
    """
    parts = re.fullmatch(r"([^=<>!]+)(!=|>=|<=|=|>|<)(.*)", text, flags=re.S)
    if parts is None:
        raise UsageError(f"--where {text!r}: expected KEY=VALUE, for instance plugin=bert, model.lr<1e-3, test>=80")
    return parts[1].strip(), parts[2], parts[3].strip()


def matching(rows: list[Row], conditions: Sequence[tuple[str, str, str]]) -> list[Row]:
    """Rows of runs for which all conditions hold; a missing value differs from everything.

    Raises:
        UsageError: a condition on something that no run has; with the nearest name that there is.
    """
    facts = [_facts(RunFolder(Path(row["path"]))) | row for row in rows] if conditions else rows
    keys = dict.fromkeys(key for of_run in facts for key in of_run)
    for key, _, _ in conditions:
        if keys and key not in keys:
            raise UsageError(f"--where {key}: no run has that.{did_you_mean(key, keys)}")
    return [
        row
        for row, of_run in zip(rows, facts, strict=True)
        if all(_holds(of_run.get(key), how, value) for key, how, value in conditions)
    ]


def _facts(folder: RunFolder) -> dict[str, Any]:
    """What a condition may name besides a run's columns: options by dotted names, scores as `split/score`."""
    facts: dict[str, Any] = {}
    with contextlib.suppress(DataError):  # the run's row shows that it is damaged
        facts |= dotted(folder.config())
        metrics = folder.metrics() if folder.finished else {}
        scores = {split: content for split, content in metrics.items() if isinstance(content, Mapping)}
        facts |= {f"{split}/{name}": value for split in scores for name, value in scores[split].items()}
    return facts


def _holds(value: Any, how: str, wanted: str) -> bool:
    if value is None:
        return how == "!=" if wanted else how == "="
    if isinstance(value, bool):
        return COMPARED[how](str(value).lower(), wanted.lower())
    if isinstance(value, int | float):
        try:
            return COMPARED[how](value, float(wanted))
        except ValueError:
            return how == "!="
    if isinstance(value, list):
        value, wanted = "+".join(map(str, value)), wanted.replace(",", "+")
    return COMPARED[how](str(value), wanted)


def in_order(rows: list[Row], column: str, figures: Collection[str]) -> list[Row]:
    """Rows sorted by a column: figures from the highest, texts from A; `-` reverses that. Empty ones come last.

    Raises:
        UsageError: there is no such column.
    """
    key = column.removeprefix("-")
    if rows and key not in rows[0]:
        raise UsageError(f"--sort {column}: no such column.{did_you_mean(key, rows[0])} Columns: {', '.join(rows[0])}")
    values = [row[key]["mean"] if isinstance(row[key], Mapping) else row[key] for row in rows]
    as_text = not all(isinstance(value, int | float | None) for value in values)
    pairs = [
        (str(value) if as_text else value, row) for value, row in zip(values, rows, strict=True) if value is not None
    ]
    pairs.sort(key=operator.itemgetter(0), reverse=(key in figures) != column.startswith("-"))
    return [row for _, row in pairs] + [row for value, row in zip(values, rows, strict=True) if value is None]


def exported(rows: Sequence[Mapping[str, Any]], suffix: str, figures: Collection[str]) -> str:
    """The rows as a JSON list or as CSV, where a mean has a column for itself, its half width and its size."""
    if suffix == ".json":
        return f"{json_text(rows, 2)}\n"
    flat = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if key in figures and isinstance(value, Mapping):
                line |= {key: value["mean"], f"{key}_half": value["half"], f"{key}_seeds": value["size"]}
            else:
                line[key] = " ".join(map(str, value)) if isinstance(value, list) else value
        flat.append({key: _plain(value) for key, value in line.items()})
    return csv_text(dict.fromkeys(key for line in flat for key in line), flat)


def _plain(value: Any) -> Any:
    """A value for a cell of CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
