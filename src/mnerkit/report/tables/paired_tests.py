"""Which differences in a table are more than chance: paired tests of its cells, corrected for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnerkit.errors import DataError
from mnerkit.report.posts.answers import Library, file_of
from mnerkit.scoring.significance import UnitCounts

# draws for each test of a table, at least: the smallest p-value that n tests can have is then 1 % after correction
DRAWS_A_TEST = 100
LEVEL = 0.05
# scores that are counted from predictions, and so can be tested on them
TESTABLE = ("f1", "precision", "recall")


@dataclass
class Test:
    """A paired test of a cell against that of row `against`: `difference` is cell - other, in points.

    `p` is two-sided, by approximate randomisation; `p_holm` is corrected for all tests of the table.
    """

    against: int
    difference: float
    p: float
    units: int
    seeds: int
    p_holm: float = 1.0

    @property
    def mark(self) -> str:
        """`better` or `worse`, if the corrected p-value is below 5 %; else empty."""
        if self.p_holm >= LEVEL or not self.difference:
            return ""
        return "better" if self.difference > 0 else "worse"


def counts_of(library: Library, pairs: Sequence[tuple[Path, Path]], split: str, metric: str) -> UnitCounts:
    """Counts of the units of all pairs of runs, whose F1 is then the metric.

    A unit that several pairs were scored on, for instance with several seeds, is one, with the sum of its counts.

    With gold g, predicted p and correct c, its F1 is 200 c / (g + p). For recall p is set to g; for precision g to
    nothing and p is doubled.

    Args:
        library: where predictions are read.
        pairs: runs of a and of b, for instance one pair a seed.
        split: the split.
        metric: `f1`, `precision` or `recall`, or one of them of a type: `type/PER/f1`.

    Raises:
        DataError: no such counts can be had, or the two were scored on other posts, types or episodes.
    """
    name, kind = metric, None
    if metric.startswith("type/") and metric.count("/") == 2:
        _, kind, name = metric.split("/")
    if name not in TESTABLE:
        raise DataError(f"{metric} is not counted from the predictions, so it has no paired test")
    units, counts = [], []
    for a, b in pairs:
        posts = library.of_pair(a, b, split)
        of_a, of_b = (posts.counts(file_of(run, split), kind) for run in (a, b))
        gold = of_a[:, 0]
        columns = {
            "f1": (gold, of_a[:, 1], of_a[:, 2], of_b[:, 1], of_b[:, 2]),
            "recall": (gold, gold, of_a[:, 2], gold, of_b[:, 2]),
            "precision": (0 * gold, 2 * of_a[:, 1], of_a[:, 2], 2 * of_b[:, 1], of_b[:, 2]),
        }[name]
        units.append(posts.units)
        counts.append(np.stack(columns, axis=1))
    if not counts:
        raise DataError("there is no seed that both were run with")
    names, places = np.unique(np.concatenate(units), return_inverse=True)
    whole = np.zeros((len(names), 5), dtype=np.int64)
    np.add.at(whole, places, np.concatenate(counts))
    return UnitCounts(names, whole)
