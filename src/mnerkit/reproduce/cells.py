"""Runs, what there is of them already, and the cells of tables that they fill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError
from mnerkit.report import folders
from mnerkit.report.folders import Record, mapping
from mnerkit.reproduce.experiments.experiment import Experiment
from mnerkit.reproduce.experiments.printed import Figure
from mnerkit.reproduce.experiments.profiles import Profile
from mnerkit.reproduce.training import Training
from mnerkit.runs.files_read import has_other_pictures
from mnerkit.runs.run_folder import RunFolder
from mnerkit.strict_json import Unreadable


@dataclass(frozen=True)
class Run:
    """One `mnerkit fit`.

    Attributes:
        digest: of all that decides its figures.
        plugin: its method.
        seed: its seed.
        training: how it is trained, and where.
        folder: its folder, whether it exists yet or not; the name is the digest, so no other run uses it.
        first: digest of the run that has to be done before, and the file of it that this one reads.
        reads: digest of the data and of the weights that it reads.
        unseeded: digest of all that decides its figures but the seed: runs that share it are rehearsed once.
    """

    digest: str
    plugin: str
    seed: int
    training: Training
    folder: RunFolder
    first: tuple[str, str] | None = None
    reads: str = ""
    unseeded: str = ""

    @property
    def corpus(self) -> str:
        """The folder of its corpus among run folders."""
        return self.folder.path.parent.name

    def record(self) -> Record | DataError | None:
        """The finished run, or what is wrong with it; its files are read anew when one of them has changed."""
        folder = self.folder
        files = (folder.config_file, folder.metrics_file, folder.path / "env.json")
        try:
            return _read_once(folder.path, tuple(_stamp(file) for file in files)) if folder.finished else None
        except Unreadable as problem:  # not cached: the next moment it may be readable
            return problem
        except OSError as problem:
            return Unreadable(f"run {folder.path} can't be read: {problem.strerror}")

    @property
    def metrics(self) -> Mapping[str, Any] | None:
        """The `metrics.json` of a complete run; None for all others."""
        record = self.record()
        return record.metrics if isinstance(record, Record) and "test" in record.metrics else None

    @property
    def complete(self) -> bool:
        """Whether it came to its end, scored on test; one that a report could not read is damaged, and done again."""
        return self.metrics is not None

    def score(self, split: str, metric: str) -> float | None:
        """One of its figures; None where it is not complete, or has none."""
        figure = mapping((self.metrics or {}).get(split)).get(metric)
        return float(figure) if is_figure(figure) else None

    def lacking(self, files: Collection[str]) -> str | None:
        """Which of its figures, and of files that others read, it has not left; None where all are there.

        One that looked at other pictures than are there now is done again: its digest holds only their names and sizes.
        """
        record = self.record()
        if not self.complete or not isinstance(record, Record):
            return "it left no figures of test"
        if has_other_pictures(record.config, record.env.get("pictures")):
            return "its pictures have changed"
        missing = [file for file in sorted(files) if not (self.folder.path / file).is_file()]
        return f"it left no {missing[0]}" if missing else None


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4096)
def _read_once(path: Path, stamps: tuple[tuple[int, int], ...]) -> Record | DataError:
    try:
        return folders.read(path)
    except Unreadable:
        raise
    except DataError as problem:
        return problem


def files_read(runs: Iterable[Run]) -> Mapping[str, set[str]]:
    """Digest -> the files of that run that some other runs read."""
    files: dict[str, set[str]] = defaultdict(set)
    for digest, file in (run.first for run in runs if run.first is not None):
        files[digest].add(file)
    return files


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

    def firsts(self, runs: Mapping[str, Run]) -> set[str]:
        """Digests of the runs whose files these read; `runs`: digest -> run."""
        return {first[0] for digest in self.runs() if (first := runs[digest].first) is not None}


@dataclass
class Grid:
    """All tables, the runs that fill them, and the folder that these are done in.

    Attributes:
        profile: the size.
        out: the folder of the sweep; run folders lie in its `runs`.
        chosen: names of the requested experiments.
        tables: name of the experiment -> table.
        runs: digest -> run.
        absent: corpus -> why it can't be read.
    """

    profile: Profile
    out: Path
    chosen: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    absent: dict[str, DataError] = field(default_factory=dict)

    @property
    def runs_dir(self) -> Path:
        """Where run folders lie."""
        return self.out / "runs"

    @property
    def chosen_tables(self) -> list[Table]:
        """The tables of the chosen experiments."""
        return [self.tables[name] for name in self.chosen]

    def needed(self, names: Sequence[str]) -> list[Run]:
        """The runs of some experiments, and those that have to be done before them, in the order to do them in."""
        tables = [self.tables[name] for name in names]
        digests = {digest for table in tables for digest in table.runs() | table.firsts(self.runs)}
        runs = [run for digest, run in self.runs.items() if digest in digests]
        return sorted(runs, key=lambda run: (run.first is not None, run.seed))

    @property
    def wanted(self) -> list[Run]:
        """The runs of the chosen experiments, and those that have to be done before them."""
        return self.needed(self.chosen)

    def left(self, archived: Collection[str] = ()) -> list[Run]:
        """The wanted runs that must be done: neither complete nor archived, or without a file that a run to do reads.

        Args:
            archived: digests of runs that can be restored, without such files.
        """
        ready = {run.digest for run in self.wanted if run.digest in archived or run.lacking(()) is None}
        read = files_read(run for run in self.wanted if run.digest not in ready)
        return [
            run
            for run in self.wanted
            if run.digest not in ready or (run.digest in read and run.lacking(read[run.digest]) is not None)
        ]

    @cached_property
    def fills(self) -> dict[str, list[str]]:
        """Digest -> what the run fills of the chosen experiments: experiment and row."""
        rows: dict[str, dict[str, None]] = defaultdict(dict)
        for table in self.chosen_tables:
            for cell in table.cells:
                for digest in cell.runs:
                    rows[digest][f"{table.experiment.name}: {table.rows[cell.row]['name']}"] = None
        return {digest: list(rows[digest]) or ["needed by others"] for digest in self.runs}
