"""Curves: of a table whose rows or columns are the values of an option, and of training, epoch by epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure
from mnerkit.report.tables.tables import Figure, Filled
from mnerkit.scoring.intervals import mean_interval

MAX_BYTES = 8 << 20  # of a log of training
LOSS = "train/loss"


def series(filled: Filled) -> list[dict[str, Any]]:
    """What is drawn of a table as curves; nothing of one that is no sweep and no curve.

    Each is a name, an option, its values, and lines; a point of a line is `[place of its value, ours, half of the
    interval, printed]`.
    """
    if filled.table.what == "curve" and filled.table.sweep is None:
        return _training(filled)
    drawn = _sweep(filled) if filled.table.what in ("sweep", "curve") else None
    return [drawn] if drawn else []


def _sweep(filled: Filled) -> dict[str, Any] | None:
    """Lines over an option whose values lie along the columns, once a metric or corpus, or along the rows."""
    table = filled.table
    if table.sweep is None or not table.sweep.values:
        return None
    values = list(table.sweep.values)
    names = [column.name for column in table.columns]
    lines: list[tuple[str, list[tuple[int, int, int]]]] = []  # name, (place of the value, row, column)
    if len(names) % len(values) == 0:
        groups = len(names) // len(values)
        # a metric or corpus with all its values, then the next one; or a value with all of them, then the next value
        alike = len({(column.corpus, column.metric) for column in table.columns[: len(values)]}) == 1
        for row, named in enumerate(table.rows):
            for group in range(groups):
                columns = [group * len(values) + at if alike else at * groups + group for at in range(len(values))]
                rest = "" if groups == 1 else f" {_common([names[column] for column in columns])}"
                lines.append((f"{named.name}{rest}", [(at, row, column) for at, column in enumerate(columns)]))
    elif len(values) == len(table.rows):
        lines = [(name, [(at, at, column) for at in range(len(values))]) for column, name in enumerate(names)]
    drawn = [{"name": name, "points": _points(filled, places)} for name, places in lines]
    drawn = [line for line in drawn if line["points"]]
    return (
        {"name": table.title, "option": table.x or table.sweep.option, "x": values, "lines": drawn} if drawn else None
    )


def _points(filled: Filled, places: list[tuple[int, int, int]]) -> list[list[Any]]:
    found = []
    for at, row, column in places:
        figure = filled.at(row, column)
        if figure is not None and (figure.mean is not None or figure.reference is not None):
            found.append([at, figure.mean, figure.half, figure.reference])
    return found


def _common(names: list[str]) -> str:
    """What names of columns have in common, word by word."""
    words = [name.split() for name in names]
    return " ".join(word for word in words[0] if all(word in other for other in words[1:])) or names[0]


# ------------------------------------------------------------------ training


def _training(filled: Filled) -> list[dict[str, Any]]:
    """The score and the loss of each epoch, a line for the runs of each cell, with intervals over seeds.

    Runs that fill several cells are drawn once, under the name of the corpus that they were trained on.
    """
    table = filled.table
    metrics = {column.metric for column in table.columns}
    drawn = []
    for name in ("", LOSS):
        lines, last, seen = [], 0, set()
        for (row, column), figure in filled.figures.items():
            logged = name or f"{table.columns[column].split}/{figure.cell.metric}"
            key = (logged, *(record.path.resolve() for record in figure.records))
            points = _epochs(figure, logged) if key not in seen else []
            seen.add(key)
            if points:
                parts = [table.rows[row].name, figure.records[0].corpus]
                parts += [logged] if not name and len(metrics) > 1 else []
                lines.append({"name": ", ".join(parts), "points": points})
                last = max(last, *(point[0] for point in points))
        if lines:
            title = f"{table.title}: {name or 'scores'}"
            drawn.append({"name": title, "option": table.x or "epoch", "x": list(range(last + 1)), "lines": lines})
    return drawn


def _epochs(figure: Figure, name: str) -> list[list[Any]]:
    """Points of a quantity that every seed has of an epoch."""
    logs = [_logged(record.path / "curve" / "metrics.csv", name) for record in figure.records]
    epochs = sorted(set.intersection(*map(set, logs))) if logs else []
    means = [(epoch, mean_interval([log[epoch] for log in logs])) for epoch in epochs]
    return [[epoch, found.mean, found.half, None] for epoch, found in means]


def _logged(path: Path, name: str) -> dict[int, float]:
    """Epoch -> last value of a column in a log; nothing where there is no such log."""
    found = {}
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                epoch, value = row.get("epoch") or "", row.get(name) or ""
                if epoch.isascii() and epoch.isdigit() and int(epoch) < 10_000 and is_figure(float(value or "nan")):
                    found[int(epoch)] = float(value)
    except (OSError, ValueError, csv.Error):
        return found
    return found
