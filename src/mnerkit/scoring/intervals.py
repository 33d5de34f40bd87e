"""Confidence intervals: Student's t over seeds, the bootstrap over episodes. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mnerkit.data.corpus.corpus import TYPES
from mnerkit.data.corpus.tags import entities
from mnerkit.data.episodes.sampling import named_types, split_name, two_type_splits
from mnerkit.errors import DataError
from mnerkit.scoring.counts import Tags, post_pairs

# resamples held in memory at once
BLOCK = 1000


class Mean(NamedTuple):
    """A mean and the half width of its interval `mean - half` to `mean + half`; `half` is None for a single value."""

    mean: float
    half: float | None
    size: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean and t-interval: mean +- t(n - 1) * s / sqrt(n), s with n - 1 in the denominator.

    The interval is exact if the values (one for each seed) are independent and normal with one unknown variance.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to average")
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Mean(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Mean(mean, t_quantile(count - 1, confidence) * deviation / math.sqrt(count), count)


@lru_cache(maxsize=256)
def t_quantile(freedom: int, confidence: float = 0.95) -> float:
    """The t with P(|T| <= t) = `confidence` for Student's T with a whole number of degrees of freedom, by bisection.

    Raises:
        ValueError: no degree of freedom, or a confidence outside 0..1.
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise ValueError(f"no t quantile for {freedom} degrees of freedom and confidence {confidence}")
    low, high = 0.0, 1.0
    while t_within(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def t_within(t: float, freedom: int) -> float:
    """P(|T| <= t), in closed form (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    # cos + (2/3) cos^3 + (2*4)/(3*5) cos^5 + ... for odd, 1 + (1/2) cos^2 + (1*3)/(2*4) cos^4 + ... for even freedom
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def counts_by_unit(units: Sequence[object], gold: Tags, predicted: Tags) -> np.ndarray:
    """(n, 3) int: gold, predicted and correct entities (lenient) of each of n units, in order of first appearance.

    Args:
        units: the unit of each post, for instance the number of its episode.
        gold: gold BIO tags of each post.
        predicted: predicted BIO tags of each post.
    """
    rows: dict[object, np.ndarray] = {}
    for unit, (gold_tags, predicted_tags) in zip(units, post_pairs(gold, predicted), strict=True):
        gold_set, predicted_set = set(entities(gold_tags)), set(entities(predicted_tags))
        counts = np.array([len(gold_set), len(predicted_set), len(gold_set & predicted_set)])
        rows[unit] = rows.get(unit, 0) + counts
    return np.array(list(rows.values()), dtype=np.int64).reshape(-1, 3)


def f1_interval(counts: np.ndarray, units: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of the pooled F1 over units, in percent, from its linearisation: no draws, so it is quick.

    With gold g, predicted p and correct c of each unit, F1 = 2 C / (G + P), a ratio of sums, whose variance is that of
    the sum of (2 c - F1 (g + p)) / (G + P). Near to a bootstrap over units where there are a hundred units or more.

    Args:
        counts: (n, 3) int: gold, predicted and correct entities.
        units: (n,) int: the unit of each row, which is drawn whole (a post, an episode).
        confidence: coverage of the interval.
    """
    _, places = np.unique(units, return_inverse=True)
    sums = np.zeros((places.max(initial=-1) + 1, 3))
    np.add.at(sums, places, counts)
    size, whole = len(sums), float(sums[:, :2].sum())
    if size < 2 or not whole:
        return 0.0, 100.0
    f1 = 2 * float(sums[:, 2].sum()) / whole
    parts = (2 * sums[:, 2] - f1 * sums[:, :2].sum(axis=1)) / whole
    half = t_quantile(size - 1, confidence) * math.sqrt(size / (size - 1) * float((parts**2).sum()))
    return 100 * max(0.0, f1 - half), 100 * min(1.0, f1 + half)


def episode_scores(
    counts: np.ndarray, samples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> dict[str, float]:
    """Intervals of the pooled F1, and the mean of the episodes' own F1 with its interval; in percent.

    The intervals are percentile intervals of a bootstrap over episodes. An episode with neither gold nor predicted
    entities has no F1 and is left out of the mean; it adds nothing to the pooled F1. Episodes with equal counts are
    drawn together, from a multinomial distribution, which only saves time.

    Args:
        counts: (n, 3) int: gold, predicted and correct entities of each episode.
        samples: number of resamples.
        seed: seed of the draws.
        confidence: coverage of the intervals.

    Returns:
        `f1_low`, `f1_high`, `f1_episode`, `f1_episode_low`, `f1_episode_high` (0 where no episode has entities),
        `episodes` and `episodes_without_entities`.

    Raises:
        ValueError: there is no episode.
    """
    if not len(counts):
        raise ValueError("no episodes to score")
    kinds, times = np.unique(counts, axis=0, return_counts=True)
    denominator = kinds[:, 0] + kinds[:, 1]
    scored = denominator > 0
    f1 = np.where(scored, 200 * kinds[:, 2] / np.maximum(denominator, 1), 0.0)

    def figures(weights: np.ndarray) -> np.ndarray:
        """(..., 2) pooled and mean F1 of episodes drawn `weights` (..., kinds) times."""
        pooled = 200 * (weights @ kinds[:, 2]) / np.maximum(weights @ denominator, 1)
        return np.stack((pooled, weights @ f1 / np.maximum(weights @ scored, 1)), axis=-1)

    rng = np.random.default_rng(seed)
    resampled = np.concatenate(
        [
            figures(rng.multinomial(len(counts), times / len(counts), size=min(BLOCK, samples - start)))
            for start in range(0, samples, BLOCK)
        ]
    )
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return {
        "f1_low": float(low[0]),
        "f1_high": float(high[0]),
        "f1_episode": float(figures(times)[1]),
        "f1_episode_low": float(low[1]),
        "f1_episode_high": float(high[1]),
        "episodes": len(counts),
        "episodes_without_entities": int(times[~scored].sum()),
    }


def six_split_average(scores: Mapping[str, float], types: Sequence[str] = TYPES) -> float:
    """Average over all splits into two training types and the rest: the "Avg" of the papers.

    Args:
        scores: scores by the name of the split, in any spelling (`Per+Loc`, `loc+per`).
        types: the types of the corpus; four types make six splits.

    Raises:
        DataError: a split is missing or given twice.
        UsageError: a name is not the name of a split.
    """
    splits = two_type_splits(types)
    names = [split_name(named_types(name, types, "split")) for name in scores]
    for name in dict.fromkeys((*splits, *names)):
        if names.count(name) != 1 or name not in splits:
            problem = "missing" if name not in names else "given twice" if name in splits else "no split of two types"
            raise DataError(f"split {name} is {problem}: the average is over {', '.join(splits)}")
    return math.fsum(scores.values()) / len(scores)
