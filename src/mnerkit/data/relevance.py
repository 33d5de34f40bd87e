"""How much each picture has to do with its post."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mnerkit.data.post import Post
from mnerkit.errors import UsageError


def with_true_relevance(posts: Iterable[Post]) -> list[Post]:
    """The posts of a generated corpus, each picture with 1 where it shows an entity of its post and 0 elsewhere.

    Raises:
        UsageError: posts that nobody knows the truth of.
    """
    return [_told(post) for post in posts]


def _told(post: Post) -> Post:
    if post.truth is None:
        raise UsageError(
            "--data.relevance oracle is for the probe corpus: nobody knows the truth of others; give a file"
        )
    pairs = zip(post.images, post.truth.relevant, strict=True)
    return replace(post, images=tuple(replace(ref, relevance=float(relevant)) for ref, relevant in pairs))
