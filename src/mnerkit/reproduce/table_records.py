"""`table.json` of each experiment, format `mnerkit-table`: printed figures, and the run folders that hold ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure, write_json
from mnerkit.report.folders import mapping
from mnerkit.reproduce.cells import Cell, Grid, Table
from mnerkit.reproduce.sweep import metrics_of
from mnerkit.text_table import table as text_table

FORMAT, VERSION = "mnerkit-table", 1
NAME = "table.json"


class Figures:
    """What runs found, each file read once."""

    def __init__(self, grid: Grid, runs: Path) -> None:
        self.grid, self.runs = grid, runs
        self._known: dict[str, Mapping[str, Any] | None] = {}

    def done(self, digest: str) -> bool:
        """Whether a run is complete."""
        return self._metrics(digest) is not None

    def value(self, digest: str, split: str, metric: str) -> float | None:
        """One figure of a run; None where it is not complete, or has none."""
        found = mapping((self._metrics(digest) or {}).get(split)).get(metric)
        return float(found) if is_figure(found) else None

    def _metrics(self, digest: str) -> Mapping[str, Any] | None:
        if digest not in self._known:
            self._known[digest] = metrics_of(self.grid.runs[digest], self.runs)
        return self._known[digest]


def mean(cell: Cell, table: Table, figures: Figures) -> float | None:
    """Our figure of a cell: the mean over its seeds, or over the cells whose mean it is; None until all are there."""
    if cell.of:
        inner = {(each.row, each.column): each for each in table.cells}
        values = [mean(inner[place], table, figures) for place in cell.of]
    else:
        values = [figures.value(digest, cell.split, cell.metric) for digest in cell.runs]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def state(cell: Cell, table: Table, figures: Figures, failed: Mapping[str, str]) -> tuple[str, str | None]:
    """`done`, `missing`, `failed` or `printed_only`, and why."""
    if cell.reason is not None:
        return "printed_only", cell.reason
    if cell.of:
        inner = {(each.row, each.column): each for each in table.cells}
        states = [state(inner[place], table, figures, failed) for place in cell.of]
        return next(
            (each for each in states if each[0] == "failed"), max(states, key=lambda each: each[0] == "missing")
        )
    error = next((failed[digest] for digest in cell.runs if digest in failed), None)
    if error is not None:
        return "failed", error
    if not all(figures.done(digest) for digest in cell.runs):
        return "missing", None
    if mean(cell, table, figures) is None:
        # a type that no post of a small corpus holds, a figure that only some corpora have
        return "printed_only", f"the run has no figure {cell.split} {cell.metric}"
    return "done", None


def write(table: Table, profile: str, grid: Grid, out: Path, failed: Mapping[str, str]) -> Path:
    """Write the table of an experiment.

    Args:
        table: the experiment at the size of the profile.
        profile: its name.
        grid: the runs.
        out: the folder of the sweep.
        failed: digest -> complaint.

    Returns:
        The file, `<out>/<paper>/<name>/table.json`.
    """
    experiment = table.experiment
    path = out / experiment.name / NAME
    figures = Figures(grid, out / "runs")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "experiment": experiment.name,
        "paper": experiment.paper,
        "title": experiment.title,
        "what": experiment.what,
        "profile": profile,
        "note": experiment.note,
        "draw": list(experiment.draw),
        "rows": list(table.rows),
        "columns": list(table.columns),
        "cells": [_cell(cell, table, figures, path.parent, out, failed) for cell in table.cells],
        "x": experiment.x or (experiment.sweep.label if experiment.sweep else None),
        "sweep": {"option": experiment.sweep.option, "values": list(table.points)} if experiment.sweep else None,
        "baseline_row": experiment.baseline_row,
    }
    write_json(path, content)
    return path


def _cell(
    cell: Cell, table: Table, figures: Figures, folder: Path, out: Path, failed: Mapping[str, str]
) -> dict[str, Any]:
    kind, why = state(cell, table, figures, failed)
    places = [figures.grid.runs[digest].folder(out / "runs").path for digest in cell.runs if figures.done(digest)]
    content = {
        "row": cell.row,
        "column": cell.column,
        "printed": cell.figure.value,
        "printed_raw": cell.figure.raw,
        "erratum": cell.figure.erratum,
        "corrected": cell.figure.corrected,
        "runs": [Path(os.path.relpath(place, folder)).as_posix() for place in places],
        "metric": cell.metric,
        "value": mean(cell, table, figures) if cell.of else None,
        "state": kind,
        "why": why,
        "differs": list(cell.differs),
    }
    return {**content, "of": [list(place) for place in cell.of]} if cell.of else content


def summary(table: Table, grid: Grid, out: Path, failed: Mapping[str, str]) -> str:
    """The table for the terminal: `printed | ours` in the columns of F1 (of all, where there is no F1)."""
    figures = Figures(grid, out / "runs")
    chosen = [place for place, column in enumerate(table.columns) if column["metric"] == "f1"]
    chosen = (chosen or list(range(len(table.columns))))[:14]
    cells = {(cell.row, cell.column): cell for cell in table.cells}
    body, left_out = [], 0
    for number, row in enumerate(table.rows):
        if row["printed_only"] is not None and len(table.rows) > 3:
            left_out += 1
            continue
        body.append([row["name"], *(_both(cells[number, place], table, figures, failed) for place in chosen)])
    states = [state(cell, table, figures, failed)[0] for cell in table.cells]
    count = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(sorted(states)))
    head = ["printed | ours", *(table.columns[place]["name"] for place in chosen)]
    text = f"{table.experiment.name}: {table.experiment.title} ({count} cells)\n"
    text += text_table(head, body) if body else "all rows are as printed"
    return text + (f"\n{left_out} more rows are as printed" if left_out and body else "")


def _both(cell: Cell, table: Table, figures: Figures, failed: Mapping[str, str]) -> str:
    kind = state(cell, table, figures, failed)[0]
    ours = mean(cell, table, figures)
    said = {"done": "" if ours is None else f"{ours:.2f}", "failed": "failed", "printed_only": "-"}.get(kind, "...")
    printed = "-" if cell.figure.value is None else f"{cell.figure.value:.2f}"
    return f"{printed}{'*' if cell.figure.erratum else ''} | {said}"
