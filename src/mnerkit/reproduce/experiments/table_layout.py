"""The rows and columns of a table: groups times metrics, or, in a sweep, lines and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnerkit.reproduce.cells import Cell, Table
from mnerkit.reproduce.experiments.experiment import Experiment, Group, Metric, Row, column_name


class Layout:
    """The rows and columns of an experiment; those of a sweep are lines and points."""

    def __init__(self, experiment: Experiment, points: Sequence[Any]) -> None:
        self.experiment, self.points = experiment, tuple(points)
        self.cells: dict[tuple[int, int], Cell] = {}
        self.lines: list[tuple[Row, Group | None]]
        self.places: list[tuple[Group | None, Metric, Any]]
        if experiment.sweep:
            self.lines = [(row, group) for row in experiment.rows for group in experiment.groups]
            self.places = [(None, metric, point) for metric in experiment.metrics for point in points]
        else:
            self.lines = [(row, None) for row in experiment.rows]
            self.places = [(group, metric, None) for group in experiment.groups for metric in experiment.metrics]

    def spot(self, row: int, group: str, metric: Metric) -> tuple[int, int]:
        """The place of a group's figure in a row."""
        names = [(column.name, each) for column, each, _ in self.places if column is not None]
        return row, names.index((group, metric))

    def table(self) -> Table:
        """The finished table."""
        rows = []
        for row, group in self.lines:
            name = f"{row.name}, {group.name}" if group is not None and group.name else row.name
            rows.append({"name": name, "plugin": row.plugin, "ablation": row.ablation, "printed_only": row.missing})
        columns = []
        for column, metric, point in self.places:
            sweep = self.experiment.sweep
            name = f"{sweep.label} = {point}" if column is None and sweep else column_name(column, metric)  # type: ignore[arg-type]
            if column is None and len(self.experiment.metrics) > 1:
                name = f"{name} {metric.name}"
            corpus = column.corpus if column is not None else None
            columns.append({"name": name, "corpus": corpus, "split": metric.split, "metric": metric.metric})
        # a row whose every cell is as printed says why
        for number, content in enumerate(rows):
            reasons = [self.cells[number, place].reason for place in range(len(columns))]
            if content["printed_only"] is None and all(reasons):
                rows[number] = {**content, "printed_only": reasons[0]}
        cells = tuple(self.cells[place] for place in sorted(self.cells))
        return Table(self.experiment, tuple(rows), tuple(columns), self.points, cells)


def is_mean(place: tuple[int, tuple[Group | None, Metric, Any]]) -> bool:
    """Whether a numbered column is the mean of others, and comes after them."""
    column = place[1][0]
    return column is not None and bool(column.mean)
