"""Tables filled from run folders: means over seeds, intervals, differences to the paper, best and better figures."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnerkit.errors import DataError
from mnerkit.report import folders
from mnerkit.report.folders import Record
from mnerkit.report.posts.answers import Library
from mnerkit.report.tables.evaluation_setting import Evaluation, difference_between, evaluation_of
from mnerkit.report.tables.reasons import own_reasons
from mnerkit.report.tables.table_file import Cell, Table
from mnerkit.scoring.intervals import mean_interval
from mnerkit.scoring.seeds_and_folds import SeedComparison
from mnerkit.scoring.significance import PairedTest, UnitCounts, holm, paired_tests

Place = tuple[int, int]


@dataclass
class Figure:
    """A cell with our figure.

    Attributes:
        cell: what the table file holds about it.
        records: the runs that fill it, in order of their seeds.
        values: our figure of each seed.
        mean: over seeds; None where there is none.
        half: half width of the 95 % t-interval; None with one seed.
        state: `done`, `missing`, `failed` or `printed_only`.
        why: reason of a failure.
        reasons: why ours can't be compared with the printed figure; empty where it can be.
        evaluations: what its runs were scored on; it is ranked and tested only among figures of the same.
        best: whether no other such row of the column has a higher mean.
        test: of it (b) against another row (a).
        against: place of that row.
        untested: why there is no test.
    """

    cell: Cell
    records: list[Record] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)
    mean: float | None = None
    half: float | None = None
    state: str = "missing"
    why: str | None = None
    reasons: list[str] = field(default_factory=list)
    evaluations: frozenset[Evaluation] = frozenset()
    best: bool = False
    test: PairedTest | None = None
    against: int | None = None
    untested: str | None = None

    @property
    def n(self) -> int:
        """Seeds that fill it."""
        return len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % t-interval of the mean; None with one seed."""
        return None if self.mean is None or self.half is None else (self.mean - self.half, self.mean + self.half)

    @property
    def reference(self) -> float | None:
        """The figure that ours is compared with: the printed one, or what it should have been."""
        return self.cell.printed if self.cell.corrected is None else self.cell.corrected

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in points."""
        return None if self.mean is None or self.reference is None else self.mean - self.reference

    @property
    def comparable(self) -> bool | None:
        """Whether ours can be compared with the printed figure; None where one of the two is missing."""
        return None if self.difference is None else not self.reasons

    @property
    def verdict(self) -> str:
        """Ours beside the paper's, in words."""
        if self.difference is None:
            return ""
        if self.reasons:
            return "not comparable"
        if self.half is None:
            if self.n == 1:
                return "one seed, no interval"
            return "no interval: not one figure of each seed" if self.cell.of else "no interval"
        if abs(self.difference) <= self.half:
            return "the paper's figure lies in our interval"
        return "above the paper's" if self.difference > 0 else "below the paper's"


@dataclass
class Filled:
    """A table with its figures, in order of rows and columns.

    Attributes:
        table: the table.
        figures: by row and column.
        about: of a table of runs, what each row was measured on: name -> a text a row; it stands before the figures.
        facts: what else is known of each row, alike; it stands behind them.
        draws_seeds: whether tests draw seeds as well as posts.
    """

    table: Table
    figures: dict[Place, Figure]
    about: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, list[str]] = field(default_factory=dict)
    draws_seeds: bool = False

    @property
    def tests(self) -> int:
        """How many figures were tested."""
        return sum(figure.test is not None for figure in self.figures.values())

    def at(self, row: int, column: int) -> Figure | None:
        """The figure of a place, if the table has one."""
        return self.figures.get((row, column))


class Shelf:
    """Run folders, each read once, and what is wrong with those that can't be read."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._read: dict[Path, Record | DataError] = {}
        for path in paths:
            with contextlib.suppress(DataError):  # it stays in `problems`
                self.get(path)

    @property
    def records(self) -> dict[Path, Record]:
        """The runs that could be read."""
        return {path: record for path, record in self._read.items() if isinstance(record, Record)}

    @property
    def problems(self) -> list[str]:
        """What is wrong with the others, a line each."""
        return [str(problem) for problem in self._read.values() if isinstance(problem, DataError)]

    def get(self, path: Path) -> Record:
        """The run of a folder.

        Raises:
            DataError: see `folders.read`.
        """
        return folders.once(self._read, path.resolve(), lambda: folders.read(path))


def fill(table: Table, shelf: Shelf, library: Library, tested: Collection[str] | None = None) -> Filled:
    """Fill a table's cells, and mark the best and the significantly better figures; none in a smoke test.

    Args:
        table: the table.
        shelf: its runs.
        library: predictions of the runs.
        tested: metrics that are tested; None for all.
    """
    figures = {(cell.row, cell.column): _figure(table, cell, shelf) for cell in table.cells}
    for cell in table.cells:
        if cell.of:
            figures[cell.row, cell.column] = _mean_of(cell, [figures[place] for place in cell.of])
    filled = Filled(table, dict(sorted(figures.items())), draws_seeds=library.draws_seeds)
    if not table.smoke:
        _mark_best(filled)
        _test(filled, library, tested)
    return filled


def _figure(table: Table, cell: Cell, shelf: Shelf) -> Figure:
    row, column = table.rows[cell.row], table.columns[cell.column]
    figure = Figure(cell, state=cell.state, why=cell.why, reasons=list(cell.differs))
    if cell.state == "printed_only":
        figure.why = cell.why or row.printed_only
    problems = []
    for path in cell.runs if cell.state != "printed_only" else ():
        try:
            record = shelf.get(path)
            if row.plugin is not None and record.plugin != row.plugin:
                raise DataError(f"run {path} is one of {record.plugin}, and the row is {row.plugin}'s")
            if record.seed in figure.values:
                raise DataError(f"run {path} is a second one of seed {record.seed} in a cell")
            figure.values[record.seed] = record.figure(column.split, cell.metric)
            figure.records.append(record)
        except DataError as problem:
            problems.append(str(problem))
    if figure.values:
        figure.mean, figure.half = mean_interval(list(figure.values.values()))[:2]
        if cell.state != "done":
            problems.append(f"the figure is of the {len(figure.values)} runs that are there")
        if problems:
            figure.reasons.append("runs: not all of them are there")
            figure.state = "failed" if figure.state == "done" else figure.state
        figure.records.sort(key=lambda record: record.seed)
        figure.evaluations = frozenset(evaluation_of(record, column.split) for record in figure.records)
        figure.reasons += [reason for reason in own_reasons(column, figure.records) if reason not in figure.reasons]
    elif cell.value is not None and not cell.runs:
        figure.mean, figure.state = cell.value, "done"
    elif cell.state == "done":
        figure.state = "failed" if problems else "missing"
    if problems:
        figure.why = "; ".join([*([figure.why] if figure.why else []), *problems])
    return figure


def _mean_of(cell: Cell, parts: Sequence[Figure]) -> Figure:
    """The figure of a cell that is the mean of others, with an interval over the seeds that fill all of them."""
    reasons = dict.fromkeys([*cell.differs, *(reason for part in parts for reason in part.reasons)])
    figure = Figure(cell, state=cell.state, why=cell.why, reasons=list(reasons))
    if cell.state == "printed_only":
        return figure
    means = [part.mean for part in parts if part.mean is not None]
    if len(means) < len(parts):
        if cell.state == "done" or figure.why is None:
            figure.why = f"{len(parts) - len(means)} of the {len(parts)} cells that it is the mean of have no figure"
        figure.state = "failed" if any(part.mean is None and part.state == "failed" for part in parts) else "missing"
        return figure
    states = [part.state for part in parts]
    figure.state = next((state for state in ("failed", "missing") if state in states), "done")
    if figure.state != "done" and figure.why is None:
        figure.why = f"{len(parts) - states.count('done')} of the {len(parts)} cells that it is the mean of lack runs"
    figure.mean = sum(means) / len(parts)
    seeds = parts[0].values.keys()
    if seeds and all(part.values.keys() == seeds for part in parts):
        figure.values = {seed: sum(part.values[seed] for part in parts) / len(parts) for seed in sorted(seeds)}
        figure.mean, figure.half = mean_interval(list(figure.values.values()))[:2]
    figure.records = [record for part in parts for record in part.records]
    figure.evaluations = frozenset[Evaluation]().union(*(part.evaluations for part in parts))
    return figure


def _mark_best(filled: Filled) -> None:
    """Mark the highest of at least two means of a column and evaluation, as they are printed, with two digits."""
    groups: dict[tuple[int, frozenset[Evaluation]], list[tuple[Figure, float]]] = {}
    for (_, column), figure in filled.figures.items():
        if figure.mean is not None:
            groups.setdefault((column, figure.evaluations), []).append((figure, round(figure.mean, 2)))
    for group in groups.values():
        highest = max(mean for _, mean in group)
        for figure, mean in group:
            figure.best = len(group) > 1 and mean == highest


# ------------------------------------------------------------------ tests


def _test(filled: Filled, library: Library, tested: Collection[str] | None) -> None:
    """Test each cell against the table's baseline, or else against the best other row of its column and evaluation."""
    compared: list[tuple[Figure, list[UnitCounts]]] = []
    drawn: list[tuple[Figure, SeedComparison]] = []
    for (row, column), figure in filled.figures.items():
        against = _opponent(filled, row, column)
        if figure.mean is None or against is None or (tested is not None and figure.cell.metric not in tested):
            continue
        other = filled.figures[against, column]
        try:
            if not figure.records or not other.records:
                raise DataError("one of the two has no runs")
            if figure.evaluations != other.evaluations:
                raise DataError(f"not asked alike: {difference_between(figure.evaluations, other.evaluations)}")
            places = _places(filled, other, figure)
            if library.draws_seeds:
                drawn.append((figure, library.over_seeds(places)))
            else:
                compared.append((figure, [library.counts(*place) for place in places]))
            figure.against = against
        except DataError as problem:
            figure.untested = str(problem)
    for (figure, _), test in zip(compared, paired_tests([parts for _, parts in compared]), strict=True):
        figure.test = test
    for (figure, seeds), p_holm in zip(drawn, holm([test["p"] for _, test in drawn]), strict=True):
        figure.test = PairedTest(seeds["difference"], seeds["p"], p_holm)


def _opponent(filled: Filled, row: int, column: int) -> int | None:
    """The row that a cell is tested against."""
    baseline = filled.table.baseline_row
    if baseline is not None:
        figure = filled.at(baseline, column)
        return None if row == baseline or figure is None or figure.mean is None else baseline
    evaluations = filled.figures[row, column].evaluations
    others = {
        place[0]: figure.mean
        for place, figure in filled.figures.items()
        if place[1] == column and place[0] != row and figure.mean is not None and figure.evaluations == evaluations
    }
    return max(others, key=lambda other: others[other]) if others else None


def _places(filled: Filled, a: Figure, b: Figure) -> list[tuple[list[tuple[Path, Path]], str, str]]:
    """Pairs of two cells' runs, their split and their metric: one for each cell that they are means of."""
    if len(a.cell.of) != len(b.cell.of):
        raise DataError("one is a mean of cells, and the other of other ones")
    if a.cell.of:
        pairs = ([filled.figures[place] for place in places] for places in zip(a.cell.of, b.cell.of, strict=True))
        return [place for part_a, part_b in pairs for place in _places(filled, part_a, part_b)]
    if a.cell.metric != b.cell.metric:
        raise DataError(f"{a.cell.metric} against {b.cell.metric}")
    return [(runs_of_one_seed(a, b), filled.table.columns[b.cell.column].split, b.cell.metric)]


def runs_of_one_seed(a: Figure, b: Figure) -> list[tuple[Path, Path]]:
    """Runs of the two, paired by their seeds."""
    runs_a, runs_b = ({record.seed: record.path for record in figure.records} for figure in (a, b))
    return [(runs_a[seed], runs_b[seed]) for seed in sorted(runs_a.keys() & runs_b.keys())]
