"""Which differences in a table are more than chance: paired tests of its cells, corrected for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnerkit.errors import DataError
from mnerkit.report.posts.answers import Library, file_of

SAMPLES = 10_000
# draws for each test of a table, at least: the smallest p-value that n tests can have is then 1 % after correction
DRAWS_A_TEST = 100
LEVEL = 0.05
# of a test's draws, in memory at once
NUMBERS = 1 << 22
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


@dataclass(frozen=True)
class Counts:
    """What two cells were asked, unit by unit.

    Attributes:
        units: (n,) int, each once; one number stands for the same unit in all counts of a `Library`.
        table: (n, 5) gold, predicted and correct of a, predicted and correct of b, for `paired_counts_test`.
    """

    units: np.ndarray
    table: np.ndarray


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down procedure (Holm, 1979), each at most 1.

    The smallest is multiplied by n, the next by n - 1, and so on; none becomes smaller than one before it.
    """
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected


def counts_of(library: Library, pairs: Sequence[tuple[Path, Path]], split: str, metric: str) -> Counts:
    """Counts of the units of all pairs of runs, whose F1 is then the metric.

    A unit that several pairs were asked, for instance with several seeds, is one, with the sum of its counts.

    With gold g, predicted p and correct c, its F1 is 200 c / (g + p). For recall p is set to g; for precision g to
    nothing and p is doubled.

    Args:
        library: where predictions are read.
        pairs: runs of a and of b, for instance one pair a seed.
        split: the split.
        metric: `f1`, `precision` or `recall`, or one of them of a type: `type/PER/f1`.

    Raises:
        DataError: no such counts can be had, or the two were not asked alike.
    """
    name, kind = metric, None
    if metric.startswith("type/") and metric.count("/") == 2:
        _, kind, name = metric.split("/")
    if name not in TESTABLE:
        raise DataError(f"{metric} is not counted from the predictions, so it has no paired test")
    units, found = [], []
    for a, b in pairs:
        asked = library.of(a, split)
        if library.of(b, split) is not asked:
            raise DataError(f"{a} and {b} were not asked alike: other posts, types or episodes")
        of_a, of_b = asked.counts(file_of(a, split), kind), asked.counts(file_of(b, split), kind)
        gold = of_a[:, 0]
        columns = {
            "f1": (gold, of_a[:, 1], of_a[:, 2], of_b[:, 1], of_b[:, 2]),
            "recall": (gold, gold, of_a[:, 2], gold, of_b[:, 2]),
            "precision": (0 * gold, 2 * of_a[:, 1], of_a[:, 2], 2 * of_b[:, 1], of_b[:, 2]),
        }[name]
        units.append(asked.units)
        found.append(np.stack(columns, axis=1))
    if not found:
        raise DataError("there is no seed that both were run with")
    names, places = np.unique(np.concatenate(units), return_inverse=True)
    whole = np.zeros((len(names), 5), dtype=np.int64)
    np.add.at(whole, places, np.concatenate(found))
    return Counts(names, whole)


def test_of(parts: Sequence[Counts], samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
    """Difference b - a in points and its two-sided p-value.

    Several parts are tested as one: the figure is the mean of the parts' own, and a unit that several parts were asked
    about changes sides in all of them or in none. One part is tested as `paired_counts_test` does, draw by draw,
    without its interval, which takes as long again.

    Args:
        parts: counts, one a column that the figure is the mean of.
        samples: random draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names = units_in(parts)
    wide = np.zeros((len(names), 5 * len(parts)), dtype=np.int64)
    for place, part in enumerate(parts):
        wide[np.searchsorted(names, part.units), 5 * place : 5 * place + 5] = part.table
    kinds, times = np.unique(wide, axis=0, return_counts=True)
    tables = np.split(kinds, len(parts), axis=1)
    observed = sum(_f1(times @ k[:, 0], times @ k[:, 3:5]) - _f1(times @ k[:, 0], times @ k[:, 1:3]) for k in tables)
    extreme, left = 0, samples
    while left:
        size = min(left, max(1, NUMBERS // len(times)))
        swapped = np.zeros(size)
        moved = rng.binomial(times, 0.5, size=(size, len(times)))  # (size, kinds) units that change sides
        for k in tables:
            a, b = k[:, 1:3], k[:, 3:5]
            gold, shift = times @ k[:, 0], moved @ (b - a)
            swapped += _f1(gold, times @ b - shift) - _f1(gold, times @ a + shift)
        # a hair below, so that rounding does not part equal differences
        extreme += int((np.abs(swapped) >= abs(observed) - 1e-9).sum())
        left -= size
    return float(observed / len(parts)), (1 + extreme) / (1 + samples)


def units_in(parts: Sequence[Counts]) -> np.ndarray:
    """The units that any of the parts was asked about, each once."""
    return np.unique(np.concatenate([part.units for part in parts]))


def _f1(gold: np.ndarray, answers: np.ndarray) -> np.ndarray:
    whole = gold + answers[..., 0]
    return np.where(whole > 0, 200 * answers[..., 1] / np.maximum(whole, 1), 0.0)
