"""Measures that need a corpus with ground truth: scores on ambiguous entities, pointing, relevance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mnerkit.data.corpus.post import Entity, EntityTruth, Post
from mnerkit.data.corpus.tags import entities

# how far, in pixels, the centre of a region may lie outside the box that it points to
_MARGIN = 2


def f1_by_clarity(
    posts: Sequence[Post], tags: Sequence[Sequence[str]], types: Sequence[Sequence[str]] | None = None
) -> dict[str, float]:
    """Micro F1 in percent on all, clear and ambiguous entities.

    The score of a subset counts its gold entities and the predictions that overlap one of them: a wrong span elsewhere
    counts in `all` only.

    Args:
        posts: posts with ground truth.
        tags: predicted BIO tags of each post.
        types: types in play for each post; gold entities of other types do not count. None: all types.

    Returns:
        `all`, `clear` and `ambiguous`; NaN for a subset with neither gold entities nor predictions.

    Raises:
        ValueError: a post has no ground truth.
    """
    counts = {"all": [0, 0, 0], "clear": [0, 0, 0], "ambiguous": [0, 0, 0]}  # right, predicted, gold
    for number, (post, predicted_tags) in enumerate(zip(posts, tags, strict=True)):
        truths = [truth for truth in _truth(post) if types is None or truth.entity.type in types[number]]
        predicted = entities(predicted_tags)
        subsets = {
            "all": [truth.entity for truth in truths],
            "clear": [truth.entity for truth in truths if not truth.ambiguous],
            "ambiguous": [truth.entity for truth in truths if truth.ambiguous],
        }
        for name, gold in subsets.items():
            near = predicted if name == "all" else [span for span in predicted if _overlaps(span, gold)]
            counts[name][0] += len(set(near) & set(gold))
            counts[name][1] += len(near)
            counts[name][2] += len(gold)
    return {
        name: 200 * right / (predicted + gold) if predicted + gold else math.nan
        for name, (right, predicted, gold) in counts.items()
    }


def pointing(
    posts: Sequence[Post],
    attentions: Sequence[np.ndarray | None],
    grid: tuple[int, int] | None = None,
) -> float:
    """How often, in percent, the region that an ambiguous entity attends to most lies in the entity's box.

    Attention is averaged over the words of the entity. A region lies in the box if it is in the right image and its
    centre is in the box, with a margin of two pixels. Chance is about 9 % on one 64 x 64 picture.

    Args:
        posts: posts with ground truth and their own pictures.
        attentions: (W, R) of each post, R the regions of all images, image by image, each row-major; there may be
            more images than the post has (padding of a batch). None for a post without attention.
        grid: rows and columns of an image's regions; default: the largest square grid that fits all posts, which is
            the true one as long as one post fills the image axis of its batch.

    Returns:
        Percentage of the ambiguous entities with a box; NaN if there are none.

    Raises:
        ValueError: no square grid fits.
    """
    pairs = [(post, weights) for post, weights in zip(posts, attentions, strict=True) if weights is not None]
    rows, columns = grid or _square_grid(pairs)
    hits: list[bool] = []
    for post, weights in pairs:
        for truth in _truth(post):
            if not truth.ambiguous or truth.box is None:
                continue
            strongest = int(weights[truth.entity.start : truth.entity.end].mean(0).argmax())
            image, region = divmod(strongest, rows * columns)
            hits.append(image == truth.image and _in_box(post, truth, region, rows, columns))
    return 100 * sum(hits) / len(hits) if hits else math.nan


def relevance_auc(posts: Sequence[Post], relevance: Sequence[Sequence[float]]) -> float:
    """Area under the ROC curve of image relevance, over the images with a score; a tie counts one half.

    Args:
        posts: posts with ground truth and their own pictures.
        relevance: scores of each post's first images; scores beyond the number of its images are ignored.

    Returns:
        In 0..1; NaN unless there are both relevant and irrelevant images.
    """
    scores: list[float] = []
    relevant: list[bool] = []
    for post, image_scores in zip(posts, relevance, strict=True):
        _truth(post)
        assert post.truth is not None
        scores += [float(score) for score, _ in zip(image_scores, post.truth.relevant, strict=False)]
        relevant += post.truth.relevant[: len(image_scores)]
    truth, values = np.array(relevant, bool), np.array(scores)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return math.nan
    # the Mann-Whitney statistic by mean ranks
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _truth(post: Post) -> tuple[EntityTruth, ...]:
    if post.truth is None:
        raise ValueError(f"post {post.id} has no ground truth; only generated corpora have one")
    return post.truth.entities


def _overlaps(span: Entity, others: Sequence[Entity]) -> bool:
    return any(span.start < other.end and other.start < span.end for other in others)


def _square_grid(pairs: Sequence[tuple[Post, np.ndarray]]) -> tuple[int, int]:
    """Rows and columns of the largest square that divides every number of regions and leaves room for all images."""
    counts = [(weights.shape[1], max(len(post.images), 1)) for post, weights in pairs]
    most = min((regions // images for regions, images in counts), default=1)
    for side in range(math.isqrt(most), 0, -1):
        if all(regions % side**2 == 0 for regions, _ in counts) and (side > 1 or most < 4):
            return side, side
    raise ValueError("the regions of attention form no square grid: give rows and columns")


def _in_box(post: Post, truth: EntityTruth, region: int, rows: int, columns: int) -> bool:
    """Whether the centre of a region of the entity's own image lies in its box."""
    assert truth.box is not None and truth.image is not None
    pixels = post.images[truth.image].pixels
    if pixels is None:
        raise ValueError(f"post {post.id} does not have its own generated picture")
    height, width = pixels.shape[:2]
    row, column = divmod(region, columns)
    x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
    x0, y0, x1, y1 = truth.box
    return x0 - _MARGIN <= x <= x1 + _MARGIN and y0 - _MARGIN <= y <= y1 + _MARGIN
