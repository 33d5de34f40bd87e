"""Significance tests: is one system better than another on the same posts?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from mnerkit.data.corpus.tags import Chunking
from mnerkit.scoring.counts import Tags, count_entities

SAMPLES = 10_000
# draws for each of many tests, at least: the smallest p-value that n tests can have is then 1 % after correction
DRAWS_A_TEST = 100
LEVEL = 0.05
DRAWS_IN_MEMORY = 1 << 22  # random numbers held in memory at once, by each thread
MOST_THREADS = 4


class Difference(TypedDict):
    """F1 of two systems in percent, `difference` = `f1_b - f1_a` with its interval, and the two-sided p-value.

    `posts` is the number of units: posts, or groups of posts that were counted together.
    """

    f1_a: float
    f1_b: float
    difference: float
    low: float
    high: float
    p: float
    posts: int


class Comparison(Difference):
    """Result of `paired_test`."""

    samples: int


def paired_test(
    gold: Tags,
    a: Tags,
    b: Tags,
    samples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
    chunking: Chunking = "lenient",
) -> Comparison:
    """Compare the micro F1 of two systems on the same posts.

    The p-value comes from two-sided approximate randomisation (Noreen, 1989; Yeh, 2000): how often a difference at
    least as large arises when the two systems' predictions for each post are swapped at random. The interval is the
    percentile interval of a paired bootstrap over posts (Koehn, 2004).

    Args:
        gold: gold BIO tags of each post.
        a: tags predicted by the first system.
        b: tags predicted by the second system.
        samples: number of random draws for the p-value, and for the interval.
        seed: seed of the draws.
        confidence: coverage of the interval.
        chunking: rule that turns tags into entities.

    Raises:
        ValueError: the three differ in posts or in words, or there are no posts.
    """
    if not gold:
        raise ValueError("no posts to compare on")
    if not len(gold) == len(a) == len(b):
        raise ValueError(f"{len(gold)} gold posts, {len(a)} and {len(b)} predicted")
    counts = np.array([[_totals(gold[k], tags[k], chunking) for tags in (a, b)] for k in range(len(gold))])
    return paired_counts_test(np.concatenate((counts[:, 0], counts[:, 1, 1:]), axis=1), samples, seed, confidence)


def paired_counts_test(
    counts: np.ndarray, samples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Comparison:
    """`paired_test` on counts of units that are swapped and drawn as a whole: a post, or an episode's query posts.

    Units with equal counts are drawn together, which only saves time.

    Args:
        counts: (n, 5) int: gold entities, predicted and correct ones of a, predicted and correct ones of b.
        samples: see `paired_test`.
        seed: seed of the draws.
        confidence: coverage of the interval.

    Raises:
        ValueError: there are no units.
    """
    if not len(counts):
        raise ValueError("nothing to compare on")
    kinds, times = np.unique(counts, axis=0, return_counts=True)
    gold_count, counts_a, counts_b = kinds[:, 0], kinds[:, 1:3], kinds[:, 3:5]
    rng = np.random.default_rng(seed)
    observed_a, observed_b = f1_of(times @ gold_count, times @ counts_a), f1_of(times @ gold_count, times @ counts_b)
    difference = observed_b - observed_a
    p = _p_value([counts], samples, rng)

    weights = rng.multinomial(len(counts), times / len(counts), size=samples)
    resampled = f1_of(weights @ gold_count, weights @ counts_b) - f1_of(weights @ gold_count, weights @ counts_a)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Comparison(
        f1_a=float(observed_a),
        f1_b=float(observed_b),
        difference=float(difference),
        low=float(low),
        high=float(high),
        p=p,
        posts=len(counts),
        samples=samples,
    )


def _totals(gold: Sequence[str], predicted: Sequence[str], chunking: Chunking) -> np.ndarray:
    """(gold, predicted, correct) entities of one post, over all types."""
    return sum(count_entities([gold], [predicted], chunking).values(), np.zeros(3, dtype=np.int64))


def f1_of(gold: np.ndarray, system: np.ndarray) -> np.ndarray:
    """F1 in percent from numbers of gold entities, and of predicted and correct ones (..., 2); 0 where undefined."""
    denominator = gold + system[..., 0]
    return np.where(denominator > 0, 200 * system[..., 1] / np.maximum(denominator, 1), 0.0)


# ------------------------------------------------------------------ many tests, and means of several parts


@dataclass(frozen=True)
class UnitCounts:
    """Counts of two systems for each unit; a unit is swapped and drawn as a whole.

    Attributes:
        units: (n,) int, distinct numbers; counts that are tested together use the same number for the same unit.
        table: (n, 5) gold entities, predicted and correct ones of a, of b, for `paired_counts_test`.
    """

    units: np.ndarray
    table: np.ndarray


def units_in(parts: Sequence[UnitCounts]) -> np.ndarray:
    """The distinct units of all parts."""
    return np.unique(np.concatenate([part.units for part in parts]))


def paired_mean_test(parts: Sequence[UnitCounts], samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
    """Difference b - a in points and its two-sided p-value.

    Several parts are tested together: the statistic is the mean over parts, and a unit that occurs in several parts is
    swapped in all of them or in none. For one part the draws are those of `paired_counts_test`, without its interval,
    which takes most of the time.

    Args:
        parts: counts, one item for each part.
        samples: number of random draws.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    names = units_in(parts)
    wide = np.zeros((len(names), 5 * len(parts)), dtype=np.int64)
    for place, part in enumerate(parts):
        wide[np.searchsorted(names, part.units), 5 * place : 5 * place + 5] = part.table
    tables = np.split(wide, len(parts), axis=1)
    return float(sum(map(_difference, tables)) / len(parts)), _p_value(tables, samples, rng)


def _difference(table: np.ndarray) -> float:
    """F1 of b minus F1 of a, in points, of counts (units, 5)."""
    gold, *systems = table.sum(axis=0)
    return float(f1_of(gold, np.array(systems[2:])) - f1_of(gold, np.array(systems[:2])))


def _p_value(tables: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of the mean difference of some tables, by approximate randomisation.

    A unit whose counts are alike on both sides moves nothing, and swapping d is as likely as swapping -d. So units are
    grouped by what they move, whichever its sign; how many of n units are swapped is the number of ones in n random
    bits.

    Args:
        tables: counts (units, 5), in which one row is one unit.
        samples: number of random draws.
        rng: their source.
    """
    moves = np.concatenate([table[:, 3:5] - table[:, 1:3] for table in tables], axis=1)  # (units, 2 x tables)
    moves = moves[moves.any(axis=1)]
    first = np.take_along_axis(moves, (moves != 0).argmax(axis=1)[:, None], axis=1)  # that is not 0
    kinds, times = np.unique(moves * np.sign(first), axis=0, return_counts=True)
    words = -(-times // 64)  # random words for each kind
    masks = np.full(words.sum(), 2**64 - 1, dtype=np.uint64)
    masks[words.cumsum() - 1] >>= ((64 * words - times) % 64).astype(np.uint64)
    # products of floating-point numbers are faster, and these are exact: halves, far below 2^52
    weights, expected = np.repeat(kinds, words, axis=0).astype(float), times @ kinds / 2
    observed, extreme, remaining = abs(sum(map(_difference, tables))), 0, samples
    while remaining:
        size = min(remaining, max(1, DRAWS_IN_MEMORY // max(1, len(masks))))
        bits = rng.integers(2**64 - 1, size=(size, len(masks)), dtype=np.uint64, endpoint=True)
        moved = np.bitwise_count(bits & masks) @ weights - expected  # (size, 2 x tables)
        swapped = np.zeros(size)
        for table, shift in zip(tables, np.split(moved, len(tables), axis=1), strict=True):
            gold, middle = table[:, 0].sum(), (table[:, 1:3] + table[:, 3:5]).sum(axis=0) / 2
            swapped += f1_of(gold, middle + shift) - f1_of(gold, middle - shift)
        # the tolerance keeps rounding from separating equal differences
        extreme += int((np.abs(swapped) >= observed - 1e-9).sum())
        remaining -= size
    return (1 + extreme) / (1 + samples)


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


@dataclass
class PairedTest:
    """A paired test of a system b against a system a: `difference` is b - a, in points.

    `p` is two-sided, by approximate randomisation; `p_holm` is corrected for all tests that were made together.
    """

    difference: float
    p: float
    p_holm: float = 1.0

    @property
    def mark(self) -> str:
        """`better` or `worse`, if the corrected p-value is below 5 %; else empty."""
        if self.p_holm >= LEVEL or not self.difference:
            return ""
        return "better" if self.difference > 0 else "worse"


def paired_tests(comparisons: Sequence[Sequence[UnitCounts]]) -> list[PairedTest]:
    """`paired_mean_test` of each comparison, with p-values corrected for their number."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as pool:  # numpy draws without the interpreter
        tests = [PairedTest(*result) for result in pool.map(paired_mean_test, comparisons)]
        # of many tests, only with more draws can a p-value stay small after correction
        samples = DRAWS_A_TEST * len(tests)
        again = [number for number, test in enumerate(tests) if samples > SAMPLES and test.p < LEVEL]
        results = pool.map(lambda number: paired_mean_test(comparisons[number], samples), again)
        for number, (_, p) in zip(again, results, strict=True):
            tests[number].p = p
    for test, p_holm in zip(tests, holm([test.p for test in tests]), strict=True):
        test.p_holm = p_holm
    return tests
