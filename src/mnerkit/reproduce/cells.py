"""Runs, and the cells of tables that they fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError
from mnerkit.reproduce.experiments.experiment import Experiment
from mnerkit.reproduce.experiments.printed import Figure
from mnerkit.reproduce.work import Training
from mnerkit.runs.run_folder import Place, RunFolder

# stands for the file of another run, until it is known where runs lie
FIRST = "<first>"


@dataclass(frozen=True)
class Run:
    """One `mnerkit fit`.

    Attributes:
        digest: of all that decides its figures.
        plugin: its method.
        corpus: the folder of its corpus among run folders.
        seed: its seed.
        training: how it is trained, without where it writes.
        first: digest of the run that has to be done before, and the file of it that this one reads.
        reads: digest of the data and of the weights that it reads.
    """

    digest: str
    plugin: str
    corpus: str
    seed: int
    training: Training
    first: tuple[str, str] | None = None
    reads: str = ""


@dataclass(frozen=True)
class Cell:
    """A place in a table: what is printed there, and the runs whose mean is ours.

    Attributes:
        row: number of its row.
        column: number of its column.
        figure: the printed figure.
        metric: name of the score.
        split: of which it is.
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
    """All tables, the runs that fill them, and the folder that these are done in.

    Attributes:
        profile: name of the profile.
        out: the folder of the sweep; run folders lie in its `runs`.
        chosen: names of the experiments that were asked for.
        tables: name of the experiment -> table.
        runs: digest -> run.
        absent: corpus -> why it can't be read.
    """

    profile: str
    out: Path
    chosen: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    absent: dict[str, DataError] = field(default_factory=dict)

    @property
    def runs_dir(self) -> Path:
        """Where run folders lie."""
        return self.out / "runs"

    def folder(self, run: Run) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.runs_dir / run.plugin / run.corpus / run.digest)

    def training(self, run: Run) -> Training:
        """How a run is trained in its folder."""
        options = run.training.options
        if run.first is not None:
            digest, file = run.first
            path = str(self.folder(self.runs[digest]).path / file)
            options = {name: path if value == FIRST else value for name, value in options.items()}
        return replace(run.training, options=options, place=Place(run.digest, str(self.runs_dir), test=True))

    def needed(self, names: Sequence[str]) -> list[Run]:
        """The runs of some experiments, and those that have to be done before them, in the order to do them in."""
        digests = {digest for name in names for digest in self.tables[name].runs()}
        digests |= {first[0] for digest in digests if (first := self.runs[digest].first) is not None}
        runs = [run for digest, run in self.runs.items() if digest in digests]
        return sorted(runs, key=lambda run: (run.first is not None, run.seed))

    @property
    def wanted(self) -> list[Run]:
        """The runs of the chosen experiments, and those that have to be done before them."""
        return self.needed(self.chosen)

    @cached_property
    def fills(self) -> dict[str, list[str]]:
        """Digest -> what the run fills of the chosen experiments: experiment and row."""
        filled: dict[str, dict[str, None]] = {}
        for name in self.chosen:
            table = self.tables[name]
            for cell in table.cells:
                for digest in cell.runs:
                    filled.setdefault(digest, {})[f"{name}: {table.rows[cell.row]['name']}"] = None
        return {digest: list(rows) for digest, rows in filled.items()}
