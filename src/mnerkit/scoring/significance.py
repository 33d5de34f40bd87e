"""Whether one system is better than another on the same posts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from mnerkit.data.corpus.tags import Chunking
from mnerkit.scoring.counts import Tags, count_entities


class Comparison(TypedDict):
    """What `paired_test` finds: F1 in percent, `difference` = `f1_b - f1_a` with its interval, and the p-value.

    `posts` is the number of units: posts, or what else was counted together.
    """

    f1_a: float
    f1_b: float
    difference: float
    low: float
    high: float
    p: float
    posts: int
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

    The p-value is that of approximate randomisation (Noreen, 1989; Yeh, 2000), two-sided: how often a difference at
    least as large arises when the two systems' answers to a post are swapped by the toss of a coin. The interval is the
    percentile interval of a paired bootstrap over posts (Koehn, 2004).

    Args:
        gold: BIO tags of each post.
        a: what the first system predicts.
        b: what the second system predicts.
        samples: random draws for the p-value, and as many for the interval.
        seed: of the draws.
        confidence: coverage of the interval.
        chunking: rule that makes entities of tags.

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
    """`paired_test` on counts of any unit that is swapped and drawn whole: a post, or an episode's query posts.

    Units with equal counts are drawn together, by binomial and multinomial numbers, which changes nothing but the time.

    Args:
        counts: (n, 5) int: entities of gold, predicted and correct of a, predicted and correct of b.
        samples: see `paired_test`.
        seed: of the draws.
        confidence: coverage of the interval.

    Raises:
        ValueError: there is no unit.
    """
    if not len(counts):
        raise ValueError("nothing to compare on")
    kinds, times = np.unique(counts, axis=0, return_counts=True)
    gold_count, of_a, of_b = kinds[:, 0], kinds[:, 1:3], kinds[:, 3:5]
    rng = np.random.default_rng(seed)

    def f1(all_gold: np.ndarray, answers: np.ndarray) -> np.ndarray:
        whole = all_gold + answers[..., 0]
        return np.where(whole > 0, 200 * answers[..., 1] / np.maximum(whole, 1), 0.0)

    observed_a, observed_b = f1(times @ gold_count, times @ of_a), f1(times @ gold_count, times @ of_b)
    difference = observed_b - observed_a

    moved = rng.binomial(times, 0.5, size=(samples, len(times))) @ (of_b - of_a)
    swapped = f1(times @ gold_count, times @ of_b - moved) - f1(times @ gold_count, times @ of_a + moved)
    # a hair below, so that rounding does not part equal differences
    extreme = int((np.abs(swapped) >= abs(difference) - 1e-9).sum())

    drawn = rng.multinomial(len(counts), times / len(counts), size=samples)
    resampled = f1(drawn @ gold_count, drawn @ of_b) - f1(drawn @ gold_count, drawn @ of_a)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Comparison(
        f1_a=float(observed_a),
        f1_b=float(observed_b),
        difference=float(difference),
        low=float(low),
        high=float(high),
        p=(1 + extreme) / (1 + samples),
        posts=len(counts),
        samples=samples,
    )


def _totals(gold: Sequence[str], predicted: Sequence[str], chunking: Chunking) -> np.ndarray:
    """(gold, predicted, correct) entities of one post, over all types."""
    return sum(count_entities([gold], [predicted], chunking).values(), np.zeros(3, dtype=np.int64))
