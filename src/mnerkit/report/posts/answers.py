"""Predictions of runs, read once each and grouped by the posts that were predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnerkit.errors import DataError
from mnerkit.report.folders import Record, once
from mnerkit.scoring.post_sets import PostSet, PostSets, pooled_counts
from mnerkit.scoring.seeds_and_folds import SeedComparison, mean_test, runs_test, sides
from mnerkit.scoring.significance import UnitCounts


class Library:
    """The predictions of runs, read once each and grouped by the posts; a run's are there under its file's path.

    Attributes:
        draws_seeds: whether tests hold for the methods, whatever the seed, and not for the runs at hand.
    """

    def __init__(self, draws_seeds: bool = False) -> None:
        self.draws_seeds = draws_seeds
        self._sets = PostSets()
        self._read: dict[Path, PostSet | DataError] = {}

    def of(self, run: Path, split: str) -> PostSet:
        """The posts of a split on which a run was scored.

        Raises:
            DataError: it has no predictions of the split, or they are damaged.
        """
        path = file_of(run, split)
        return once(self._read, path, lambda: self._add(path))

    def of_pair(self, a: Path, b: Path, split: str) -> tuple[PostSet, Path, Path]:
        """The posts of a split on which two runs were scored alike, and the files of their predictions.

        Raises:
            DataError: they were not, or see `of`.
        """
        posts = self.of(a, split)
        if self.of(b, split) is not posts:
            raise DataError(f"{a} and {b} were not asked alike: other posts, types or episodes")
        return posts, file_of(a, split), file_of(b, split)

    def counts(self, pairs: Sequence[tuple[Path, Path]], split: str, metric: str) -> UnitCounts:
        """Counts of the units of all pairs of runs, whose F1 is then the metric; see `pooled_counts`.

        Raises:
            DataError: no such counts can be had, or the two were scored on other posts, types or episodes.
        """
        return pooled_counts((self.of_pair(a, b, split) for a, b in pairs), metric)

    def over_seeds(self, cells: Sequence[tuple[Sequence[tuple[Path, Path]], str, str]]) -> SeedComparison:
        """The test that draws posts and seeds, of the mean of some cells, each given as the arguments of `counts`.

        Raises:
            DataError: there is one seed, seeds were scored on other posts or episodes, or cells share posts, which the
                test takes for independent; or see `counts`.
        """
        tests, units = [], list[np.ndarray]()
        for pairs, split, metric in cells:
            runs = [self.counts([pair], split, metric) for pair in pairs]
            if len(runs) < 2:
                raise DataError("with one seed it is unknown how much a figure changes with the seed")
            if not all(np.array_equal(run.units, runs[0].units) for run in runs):
                raise DataError("the seeds were scored on other posts or episodes, so they can't be drawn")
            table = np.array([run.table for run in runs])  # (R, n, 5)
            tests.append(runs_test([sides(table)]))
            units.append(np.unique(runs[0].units))
        if len(np.unique(np.concatenate(units))) < sum(map(len, units)):
            raise DataError("the cells of this mean share posts, so seeds are drawn for single cells alone")
        return mean_test(tests)

    def _add(self, path: Path) -> PostSet:
        if not path.is_file():
            raise DataError(f"run {path.parent} has no {path.name}, so nothing can be compared post by post")
        return self._sets.add_file(path)


def file_of(run: Path, split: str) -> Path:
    """The file of a run's predictions of a split."""
    return run / f"predictions.{split}.jsonl"


def predicted_split(record: Record) -> str | None:
    """The first split (test before dev) of which a run has scores and predictions."""
    return next((split for split in record.splits() if file_of(record.path, split).is_file()), None)
