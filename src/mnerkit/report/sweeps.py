"""Curves of a table whose rows or columns are the values of an option."""

from __future__ import annotations

from typing import Any

from mnerkit.report.tables import Filled


def series(filled: Filled) -> dict[str, Any] | None:
    """The curves of a sweep: the option, its values, and a line for each method and corpus; None for other tables.

    The values lie along the columns (once for each corpus, or the corpora once for each value) or along the rows.
    A point is `[place of its value, ours, half of the interval, printed]`.
    """
    table = filled.table
    if table.what not in ("sweep", "curve"):
        return None
    values = list(table.sweep.values) if table.sweep else [column.name for column in table.columns]
    option = table.x or (table.sweep.option if table.sweep else "")
    names = [column.name for column in table.columns]
    lines: list[tuple[str, list[tuple[int, int, int]]]] = []  # name, (place of the value, row, column)
    if values and len(names) % len(values) == 0:
        groups = len(names) // len(values)
        alike = len({(column.corpus, column.metric) for column in table.columns[: len(values)]}) == 1
        for row, named in enumerate(table.rows):
            for group in range(groups):
                columns = [group * len(values) + at if alike else at * groups + group for at in range(len(values))]
                rest = "" if groups == 1 else f" {_common([names[column] for column in columns])}"
                lines.append((f"{named.name}{rest}", [(at, row, column) for at, column in enumerate(columns)]))
    elif len(values) == len(table.rows):
        lines = [(name, [(at, at, column) for at in range(len(values))]) for column, name in enumerate(names)]
    else:
        return None
    drawn = [{"name": name, "points": _points(filled, places)} for name, places in lines]
    return {"option": option, "x": values, "lines": [line for line in drawn if line["points"]]}


def _points(filled: Filled, places: list[tuple[int, int, int]]) -> list[list[Any]]:
    found = []
    for at, row, column in places:
        figure = filled.at(row, column)
        if figure is not None and (figure.mean is not None or figure.cell.printed is not None):
            found.append([at, figure.mean, figure.half, figure.reference])
    return found


def _common(names: list[str]) -> str:
    """What names of columns have in common, word by word."""
    words = [name.split() for name in names]
    return " ".join(word for word in words[0] if all(word in other for other in words[1:])) or names[0]
