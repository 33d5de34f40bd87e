"""Which posts hold entities of which types."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mnerkit.data.corpus.post import Post
from mnerkit.errors import DataError


class TypesOfPosts:
    """Which posts hold entities of which types, so that candidates are found without looking at the posts again.

    Args:
        posts: tagged posts.
        types: the types to ask about.
        split: where the posts are from, for the message.

    Attributes:
        count: (P,) how many types each post holds, `types` or not.

    Raises:
        DataError: a post without tags.
    """

    def __init__(self, posts: Sequence[Post], types: Sequence[str], split: str) -> None:
        self.types = {kind: number for number, kind in enumerate(types)}
        self._held = np.zeros((len(types) + 1, len(posts)), dtype=bool)  # the last row: another type
        self.count = np.zeros(len(posts), dtype=int)
        for place, post in enumerate(posts):
            if post.tags is None:
                raise DataError(f"post {post.id!r} of {split} has no tags: episodes need tagged posts")
            kinds = {tag[2:] for tag in post.tags if tag != "O"}
            self.count[place] = len(kinds)
            for kind in kinds:
                self._held[self.types.get(kind, -1), place] = True

    def of(self, place: int) -> list[str]:
        """Those of the types that a post holds, in their order."""
        return [kind for kind, row in self.types.items() if self._held[row, place]]

    def holding_any(self, types: Sequence[str]) -> np.ndarray:
        """(P,) bool: posts with an entity of one of `types`."""
        return np.logical_or.reduce([self._held[self.types[kind]] for kind in types])

    def holding_only(self, types: Sequence[str]) -> np.ndarray:
        """(P,) bool: posts without entities of other types than `types`."""
        others = [row for kind, row in self.types.items() if kind not in types]
        held: np.ndarray = np.logical_or.reduce(self._held[[*others, -1]])
        return ~held
