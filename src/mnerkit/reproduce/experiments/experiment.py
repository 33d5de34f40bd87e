"""What an experiment is: the runs that make one table or figure of a paper, and what the paper prints there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from mnerkit.reproduce.experiments.printed import Erratum, Figure, Printed

# which data an experiment needs: posts with one picture, few-shot splits of them, posts with several pictures
DATA = ("posts", "fewshot", "multi")


@dataclass(frozen=True)
class Row:
    """One method, or one variant of it.

    Attributes:
        printed: what the paper's table calls it; None where it is not in it.
        missing: why mnerkit can't run it; None where it can.
        only: profiles in which it is run; in others it is as printed, because of `why`.
        differs: why our figures can't be compared with the printed ones, in any profile.
        pictures: whether it is as printed, because of `why`, where captions stand in for pictures.
    """

    name: str
    plugin: str | None
    ablation: str | None
    options: Mapping[str, Any]
    printed: str | None
    missing: str | None
    only: tuple[str, ...]
    why: str | None
    differs: tuple[str, ...]
    pictures: bool = False


@dataclass(frozen=True)
class Group:
    """Columns of one corpus, or the means of others.

    Attributes:
        where: what stands in the lines of the printed figures; None where the paper prints none.
        mean: the groups whose mean it is; empty for a corpus.
    """

    name: str
    corpus: str | None
    options: Mapping[str, Any]
    where: Mapping[str, str] | None
    mean: tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """One figure of a run: its name in the table, its key in `metrics.json`, its column among the printed figures."""

    name: str
    metric: str
    printed: str | None
    split: str


@dataclass(frozen=True)
class Sweep:
    """One option, and the values that it takes; `best` is the paper's choice."""

    option: str
    label: str
    values: tuple[Any, ...]
    best: Any

    def points(self, count: int | None) -> tuple[Any, ...]:
        """All values, or at most `count` of them: the ends, the best, then those between, in order."""
        if count is None or count >= len(self.values):
            return self.values
        last = len(self.values) - 1
        order = [
            0,
            last,
            *([self.values.index(self.best)] if self.best in self.values else []),
            last // 2,
            *range(last),
        ]
        kept = sorted(list(dict.fromkeys(order))[:count])
        return tuple(self.values[place] for place in kept)


@dataclass(frozen=True)
class Experiment:
    """A file of `experiments/`: what it asks for, not yet at the size of a profile."""

    name: str
    file: Path
    title: str
    what: str
    note: str
    data: str
    seeds: tuple[int, ...]
    options: Mapping[str, Any]
    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    metrics: tuple[Metric, ...]
    sweep: Sweep | None
    x: str | None
    baseline: int | None
    draw: tuple[str, ...]
    differs: tuple[str, ...]
    printed: Printed | None
    errata: Mapping[tuple[str, str | None], Erratum]

    @property
    def paper(self) -> str:
        """The folder of its paper."""
        return self.name.partition("/")[0]

    def figure(self, row: Row, group: Group, metric: Metric) -> Figure:
        """What the paper prints there, if anything, and all that is known to be wrong with the figure or its row."""
        if self.printed is None or row.printed is None or metric.printed is None or group.where is None:
            return Figure(None, None)
        found = self.printed.figure(row.printed, group.where, metric.printed)
        places = [(row.name, column_name(group, metric)), (row.name, None)]
        known = [self.errata[place] for place in places if place in self.errata]
        if not known:
            return found
        said = reduce(add, known)
        return Figure(found.value, found.raw, said.text, said.corrected)


def column_name(group: Group, metric: Metric) -> str:
    """What a column of the table is called."""
    return f"{group.name} {metric.name}".strip()
