"""Runs, and the cells of tables that they fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError
from mnerkit.reproduce.experiments.experiment import Experiment
from mnerkit.reproduce.experiments.printed import Figure
from mnerkit.runs.run_folder import RunFolder

# stands for the file of another run, until it is known where runs lie
FIRST = "<first>"


@dataclass(frozen=True)
class Run:
    """One `mnerkit fit`.

    Attributes:
        digest: of all that decides its figures.
        corpus: the folder of its corpus among run folders.
        words: its command from `fit` on, without where it writes.
        first: digest of the run that has to be done before, and the file of it that this one reads.
        telling: options that decide nothing: whom it tells of itself, and what.
        reads: digest of the data and of the weights that it reads.
    """

    digest: str
    plugin: str
    corpus: str
    seed: int
    words: tuple[str, ...]
    first: tuple[str, str] | None = None
    telling: tuple[str, ...] = ()
    reads: str = ""

    def place(self) -> str:
        """Its folder, below the folder of all runs."""
        return f"{self.plugin}/{self.corpus}/{self.digest}"

    def folder(self, runs: Path) -> RunFolder:
        """Where it writes."""
        return RunFolder(runs / self.place())

    def command(self, runs: Path, known: Mapping[str, Run]) -> list[str]:
        """The whole command, from `fit` on."""
        words = list(self.words)
        if self.first is not None:
            digest, file = self.first
            words = [str(known[digest].folder(runs).path / file) if word == FIRST else word for word in words]
        return [*words, *self.telling, "--runs_dir", str(runs), "--name", self.digest]


@dataclass(frozen=True)
class Cell:
    """A place in a table: what is printed there, and the runs whose mean is ours.

    Attributes:
        runs: digests, one a seed.
        of: the cells (row, column) whose mean it is; empty where it has runs of its own.
        reason: why it is as printed alone; None where there are runs.
        differs: why ours and the printed figure can't be compared.
    """

    row: int
    column: int
    figure: Figure
    metric: str
    split: str
    runs: tuple[str, ...]
    of: tuple[tuple[int, int], ...]
    reason: str | None
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """An experiment at the size of a profile."""

    experiment: Experiment
    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[Mapping[str, Any], ...]
    points: tuple[Any, ...]
    cells: tuple[Cell, ...]

    def runs(self) -> set[str]:
        """Digests of all runs that fill it."""
        return {digest for cell in self.cells for digest in cell.runs}


@dataclass
class Grid:
    """All tables, and the runs that fill them.

    Attributes:
        absent: corpus -> why it can't be read.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    absent: dict[str, DataError] = field(default_factory=dict)

    def needed(self, names: Sequence[str]) -> list[Run]:
        """The runs of some experiments, and those that have to be done before them, in the order to do them in."""
        wanted = {digest for name in names for digest in self.tables[name].runs()}
        wanted |= {first[0] for digest in wanted if (first := self.runs[digest].first) is not None}
        runs = [run for digest, run in self.runs.items() if digest in wanted]
        return sorted(runs, key=lambda run: (run.first is not None, run.seed))


def labels(grid: Grid, names: Sequence[str]) -> dict[str, list[str]]:
    """Digest -> what the run fills, experiment and row, of some experiments."""
    found: dict[str, list[str]] = {}
    for name in names:
        table = grid.tables[name]
        for cell in table.cells:
            for digest in cell.runs:
                said = f"{name}: {table.rows[cell.row]['name']}"
                if said not in found.setdefault(digest, []):
                    found[digest].append(said)
    return found
