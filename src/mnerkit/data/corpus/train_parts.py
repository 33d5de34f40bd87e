"""The training split in two parts: posts that teach to judge images, and posts for the tagger that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mnerkit.data.corpus.post import Post
from mnerkit.data.random_draws import stream

TrainOn = Literal["all_train", "d_model", "d_dis"]


def part_of(posts: Sequence[Post], part: TrainOn, fraction: float, seed: int = 0) -> list[Post]:
    """The posts of one part, in their order (GIFR: D_dis ranks images, D_model trains the tagger).

    The parts are disjoint and together all of `posts`. Where a post belongs depends on the seed and the ids alone, not
    on the order of the posts.

    Args:
        posts: the training split; ids are unique.
        part: all of it, the tagger's part, or the discriminator's.
        fraction: share of the discriminator's part.
        seed: of the draw.
    """
    if part == "all_train":
        return list(posts)
    order = sorted((stream("d_dis", seed, post.id).random(), post.id) for post in posts)
    chosen = {name for _, name in order[: round(fraction * len(posts))]}
    return [post for post in posts if (post.id in chosen) == (part == "d_dis")]
