"""Measures of relevance scores: their distribution, and their agreement with ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mnerkit.data.corpus.post import Post
from mnerkit.scoring.probe_measures import relevance_auc
from mnerkit_plugins.relevance.ranking import pair_hits, ranked_pairs

BINS = 10


def spread(relevance: Sequence[Sequence[float | None]]) -> dict[str, float | int | list[int]]:
    """Number of images, mean R, percentage with R > 0.5, and counts in ten equal bins of R."""
    values = [value for row in relevance for value in row if value is not None]
    if not values:
        return {"images": 0}
    counts = [0] * BINS
    for value in values:
        counts[min(int(value * BINS), BINS - 1)] += 1
    above = 100 * sum(value > 0.5 for value in values) / len(values)
    return {"images": len(values), "mean_r": sum(values) / len(values), "above_blank": above, "histogram": counts}


def against_truth(
    scored: Sequence[tuple[Post, Sequence[float | None]]], blank: float | Sequence[float]
) -> dict[str, float]:
    """Agreement of scores with the ground truth of generated posts.

    Args:
        scored: posts with ground truth and their own pictures, and the scores of their first images.
        blank: score of the blank image for each post, or one for all.

    Returns:
        `pair_accuracy`: percentage of pairs in the right order (relevant above blank above irrelevant; equal scores
        count one half); `separated`: percentage of images on the right side of the blank one; `auc`: area under the ROC
        curve of the scores minus the blank one's, over all images.
    """
    blanks = [blank] * len(scored) if isinstance(blank, float) else list(blank)
    right = pairs = sides = images = 0.0
    posts, shifted = [], []
    for (post, scores), zero in zip(scored, blanks, strict=True):
        assert post.truth is not None
        judged = [(s - zero, t) for s, t in zip(scores, post.truth.relevant, strict=False) if s is not None]
        if not judged:
            continue
        row = torch.tensor([[*(s for s, _ in judged), 0.0]])
        worths = torch.tensor([[*(1.0 if t else -1.0 for _, t in judged), 0.0]])
        hits, count = pair_hits(row, ranked_pairs(worths, torch.ones_like(worths, dtype=torch.bool)))
        right, pairs = right + float(hits), pairs + float(count)
        sides, images = sides + sum((s > 0) == t for s, t in judged), images + len(judged)
        if len(judged) == len(scores):
            posts.append(post)
            shifted.append([s for s, _ in judged])
    if not pairs:
        return {"pair_accuracy": math.nan, "separated": math.nan, "auc": math.nan}
    return {
        "pair_accuracy": 100 * right / pairs,
        "separated": 100 * sides / images,
        "auc": relevance_auc(posts, shifted),
    }
