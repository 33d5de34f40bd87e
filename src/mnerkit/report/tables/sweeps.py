"""Curves: of a table whose rows or columns are the values of an option, and of training, epoch by epoch."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure
from mnerkit.report.tables.table_file import Sweep, Table
from mnerkit.report.tables.tables import Figure, Filled
from mnerkit.scoring.intervals import mean_interval

MAX_BYTES = 8 << 20  # of a log of training
LOSS = "train/loss"


def series(filled: Filled) -> list[dict[str, Any]]:
    """The curves of a table; none where it is no sweep and no curve.

    Each is a name, an option, its values, and lines; a point of a line is `[place of its value, ours, half of the
    interval, printed]`.
    """
    table = filled.table
    if table.what == "curve" and table.sweep is None:
        return _training(filled)
    if table.what not in ("sweep", "curve") or table.sweep is None or not table.sweep.values:
        return []
    lines = [{"name": name, "points": _points(filled, places)} for name, places in _lines(table, table.sweep)]
    lines = [line for line in lines if line["points"]]
    values = list(table.sweep.values)
    return (
        [{"name": table.title, "option": table.x or table.sweep.option, "x": values, "lines": lines}] if lines else []
    )


def _lines(table: Table, sweep: Sweep) -> Iterator[tuple[str, list[tuple[int, int, int]]]]:
    """Name of each line, and place of the value, row and column of each point.

    The values lie along the columns, once a metric or corpus, or along the rows.
    """
    names, count = [column.name for column in table.columns], len(sweep.values)
    if len(names) % count == 0:
        groups = len(names) // count
        # a metric or corpus with all its values, then the next one; or a value with all of them, then the next value
        alike = len({(column.corpus, column.metric) for column in table.columns[:count]}) == 1
        for row, named in enumerate(table.rows):
            for group in range(groups):
                columns = [group * count + at if alike else at * groups + group for at in range(count)]
                rest = "" if groups == 1 else f" {_common([names[column] for column in columns])}"
                yield f"{named.name}{rest}", [(at, row, column) for at, column in enumerate(columns)]
    elif count == len(table.rows):
        for column, name in enumerate(names):
            yield name, [(at, at, column) for at in range(count)]


def _points(filled: Filled, places: list[tuple[int, int, int]]) -> list[list[Any]]:
    figures = [(at, filled.at(row, column)) for at, row, column in places]
    return [
        [at, figure.mean, figure.half, figure.reference]
        for at, figure in figures
        if figure is not None and (figure.mean is not None or figure.reference is not None)
    ]


def _common(names: list[str]) -> str:
    """The words that all names of columns have in common."""
    words = [name.split() for name in names]
    return " ".join(word for word in words[0] if all(word in other for other in words[1:])) or names[0]


# ------------------------------------------------------------------ training


def _training(filled: Filled) -> list[dict[str, Any]]:
    """The score and the loss of each epoch, a line for the runs of each cell, with intervals over seeds.

    Runs that fill several cells are drawn once, under the name of the corpus that they were trained on.
    """
    table = filled.table
    several = len({column.metric for column in table.columns}) > 1
    curves = []
    for quantity in ("scores", LOSS):
        lines: dict[tuple[Any, ...], dict[str, Any]] = {}
        for (row, column), figure in filled.figures.items():
            logged = LOSS if quantity == LOSS else f"{table.columns[column].split}/{figure.cell.metric}"
            key = (logged, *(record.path.resolve() for record in figure.records))
            if key not in lines and (points := epochs(figure, logged)):
                parts = [table.rows[row].name, figure.records[0].corpus]
                parts += [logged] if several and quantity != LOSS else []
                lines[key] = {"name": ", ".join(parts), "points": points}
        if lines:
            last = max(point[0] for line in lines.values() for point in line["points"])
            head = {"name": f"{table.title}: {quantity}", "option": table.x or "epoch", "x": list(range(last + 1))}
            curves.append({**head, "lines": list(lines.values())})
    return curves


def epochs(figure: Figure, name: str) -> list[list[Any]]:
    """Points of a quantity, for the epochs that every seed has logged."""
    logs = [_logged(record.path / "curve" / "metrics.csv", name) for record in figure.records]
    shared = sorted(set.intersection(*map(set, logs))) if logs else []
    means = [(epoch, mean_interval([log[epoch] for log in logs])) for epoch in shared]
    return [[epoch, mean.mean, mean.half, None] for epoch, mean in means]


def _logged(path: Path, name: str) -> dict[int, float]:
    """Epoch -> last value of a column in a log; nothing where there is no such log."""
    values: dict[int, float] = {}
    # the lines before a damaged one count
    with contextlib.suppress(OSError, ValueError, csv.Error):
        if path.stat().st_size > MAX_BYTES:
            return {}
        with path.open(encoding="utf-8", newline="\n") as stream:
            for row in csv.DictReader(stream):
                epoch, value = row.get("epoch") or "", float(row.get(name) or "nan")
                if epoch.isascii() and epoch.isdigit() and int(epoch) < 10_000 and is_figure(value):
                    values[int(epoch)] = value
    return values
