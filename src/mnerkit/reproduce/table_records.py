"""`table.json` of each experiment, format `mnerkit-table`: printed figures, and the run folders that hold ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json
from mnerkit.printable import Printable, printable
from mnerkit.reproduce.cells import Cell, Grid, Table
from mnerkit.text_table import table as text_table

FORMAT, VERSION = "mnerkit-table", 1
NAME = "table.json"
SHOWN = 14  # columns at most of a table for the terminal


@dataclass(frozen=True)
class Filled:
    """What a cell holds.

    Attributes:
        cell: the cell.
        state: `done`, `missing`, `failed` or `printed_only`.
        why: the reason of the last two.
        ours: the mean over seeds, or over the cells whose mean it is; None until all are there.
    """

    cell: Cell
    state: str
    why: str | None
    ours: float | None

    def __str__(self) -> str:
        """The printed figure and ours, for the terminal."""
        value = {"done": "" if self.ours is None else f"{self.ours:.2f}", "failed": "failed", "printed_only": "-"}
        figure = self.cell.figure
        printed = "-" if figure.value is None else f"{figure.value:.2f}"
        return f"{printed}{'*' if figure.erratum else ''} | {value.get(self.state, '...')}"


def _filled(table: Table, grid: Grid, failed: Mapping[str, str]) -> dict[tuple[int, int], Filled]:
    """(row, column) -> what the cell holds; `failed`: digest of a run -> complaint."""
    content: dict[tuple[int, int], Filled] = {}
    for cell in sorted(table.cells, key=lambda cell: bool(cell.of)):  # means after what they are of
        parts = [content[spot] for spot in cell.of]
        runs = [grid.runs[digest] for digest in cell.runs]
        ours = _mean([part.ours for part in parts] or [run.score(cell.split, cell.metric) for run in runs])
        complaints = [failed[digest] for digest in cell.runs if digest in failed]
        state, why = "done", None
        if cell.reason is not None:
            state, why = "printed_only", cell.reason
        elif parts:
            worst = min(parts, key=lambda part: {"failed": 0, "missing": 1}.get(part.state, 2))
            state, why = worst.state, worst.why
        elif complaints:
            state, why = "failed", complaints[0]
        elif not all(run.complete for run in runs):
            state = "missing"
        elif ours is None:
            # a type that no post of a small corpus holds, a figure that only some corpora have
            state, why = "printed_only", f"the run has no figure {cell.split} {cell.metric}"
        content[cell.row, cell.column] = Filled(cell, state, why, ours)
    return content


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def write(table: Table, grid: Grid, failed: Mapping[str, str]) -> Path:
    """Write the table of an experiment.

    Args:
        table: the experiment at the size of the profile.
        grid: the runs.
        failed: digest -> complaint.

    Returns:
        The file, `<out>/<paper>/<name>/table.json`.
    """
    experiment, sweep = table.experiment, table.experiment.sweep
    path = grid.out / experiment.name / NAME
    filled = _filled(table, grid, failed)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "experiment": experiment.name,
        "paper": experiment.paper,
        "title": experiment.title,
        "what": experiment.what,
        "profile": grid.profile.name,
        "smoke": grid.profile.smoke,
        "note": experiment.note,
        "draw": list(experiment.draw),
        "rows": list(table.rows),
        "columns": list(table.columns),
        "cells": [_cell(filled[cell.row, cell.column], grid, path.parent) for cell in table.cells],
        "x": experiment.x or (sweep.label if sweep else None),
        "sweep": {"option": sweep.option, "values": list(table.points)} if sweep else None,
        "baseline_row": experiment.baseline_row,
    }
    write_json(path, content)
    return path


def _cell(filled: Filled, grid: Grid, folder: Path) -> dict[str, Any]:
    """What the file holds of a cell; run folders are relative to the file's."""
    cell = filled.cell
    runs = [grid.runs[digest] for digest in cell.runs]
    places = [run.folder.path for run in runs if run.complete]
    content = {
        "row": cell.row,
        "column": cell.column,
        "printed": cell.figure.value,
        "printed_raw": cell.figure.raw,
        "erratum": cell.figure.erratum,
        "corrected": cell.figure.corrected,
        "runs": [Path(os.path.relpath(place, folder)).as_posix() for place in places],
        "metric": cell.metric,
        "value": filled.ours if cell.of else None,
        "state": filled.state,
        "why": filled.why,
        "differs": list(cell.differs),
    }
    return {**content, "of": [list(spot) for spot in cell.of]} if cell.of else content


def summary(table: Table, grid: Grid, failed: Mapping[str, str]) -> Printable:
    """The table for the terminal: `printed | ours` in the columns of F1 (of all, where there is no F1)."""
    filled = _filled(table, grid, failed)
    columns = [place for place, column in enumerate(table.columns) if column["metric"] == "f1"]
    columns = (columns or list(range(len(table.columns))))[:SHOWN]
    shown = [n for n, row in enumerate(table.rows) if row["printed_only"] is None or len(table.rows) <= 3]
    states = sorted(cell.state for cell in filled.values())
    count = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    text = f"{table.experiment.name}: {table.experiment.title} ({count} cells)"
    if not shown:
        return printable(text, "all rows are as printed")
    head = ["printed | ours", *(table.columns[place]["name"] for place in columns)]
    body = [[table.rows[n]["name"], *(str(filled[n, place]) for place in columns)] for n in shown]
    left_out = len(table.rows) - len(shown)
    return printable(text, text_table(head, body), *([f"{left_out} more rows are as printed"] if left_out else ()))
