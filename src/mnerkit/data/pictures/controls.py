"""Posts with other pictures than their own: the controls that tell whether a method uses the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.options import Pictures
from mnerkit.data.random_draws import permutation
from mnerkit.errors import UsageError, did_you_mean

BLANK_SIZE = 16
BLANK_GREY = 128


def with_pictures(posts: Sequence[Post], pictures: Pictures, seed: int = 0) -> list[Post]:
    """Return `posts` with their own pictures (`right`), with others' (`shuffled`) or with grey ones (`blank`)."""
    if pictures == "right":
        return list(posts)
    if pictures == "shuffled":
        return shuffled(posts, seed)
    if pictures == "blank":
        return blanked(posts)
    choices = get_args(Pictures)
    raise UsageError(f"no pictures {pictures!r}: choose {', '.join(choices)}.{did_you_mean(pictures, choices)}")


def shuffled(posts: Sequence[Post], seed: int = 0) -> list[Post]:
    """Give each post the pictures (and captions) of another one; no post keeps its own.

    Posts without pictures stay as they are; the ground truth goes on telling of the post's own picture.
    """
    holders = [number for number, post in enumerate(posts) if post.images]
    order = [holders[place] for place in permutation(len(holders), "pictures", seed)]
    changed = list(posts)
    for receiver, giver in zip(order, order[1:] + order[:1], strict=True):
        changed[receiver] = replace(posts[receiver], images=posts[giver].images)
    return changed


def blanked(posts: Sequence[Post]) -> list[Post]:
    """Replace every picture by an evenly grey one without a caption; a missing picture becomes grey too.

    It keeps the name, and how relevant the picture was said to be.
    """
    import numpy as np

    grey = np.full((BLANK_SIZE, BLANK_SIZE, 3), BLANK_GREY, dtype=np.uint8)
    return [
        replace(
            post, images=tuple(ImageRef(image.name, pixels=grey, relevance=image.relevance) for image in post.images)
        )
        for post in posts
    ]
