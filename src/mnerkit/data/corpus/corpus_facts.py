"""What a model must know of a corpus to be built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mnerkit.data.corpus.post import Post


@dataclass(frozen=True)
class CorpusFacts:
    """Entity types, and the words of the training posts, most frequent first; plain data, kept in checkpoints.

    Attributes:
        types: entity types of the corpus, in a fixed order.
        words: lower-cased words that occur at least `MIN_COUNT` times in training posts and the captions of their
            pictures, for towers with a vocabulary.
    """

    types: tuple[str, ...]
    words: tuple[str, ...] = ()

    MIN_COUNT = 2

    @classmethod
    def of(cls, types: Iterable[str], posts: Iterable[Post]) -> CorpusFacts:
        """Facts of a corpus with these `types` and training `posts`."""
        counts = Counter(word.lower() for post in posts for word in _texts(post))
        kept = sorted((word for word, count in counts.items() if count >= cls.MIN_COUNT), key=lambda w: (-counts[w], w))
        return cls(tuple(types), tuple(kept))

    def state(self) -> dict[str, Any]:
        """Plain data; `CorpusFacts.from_state` reads it back."""
        return {"types": list(self.types), "words": list(self.words)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CorpusFacts:
        """Facts from `state()`."""
        return cls(tuple(state["types"]), tuple(state["words"]))


def _texts(post: Post) -> Iterator[str]:
    """Words of a post, and of its captions, which a method may read behind them."""
    yield from post.words
    for image in post.images:
        yield from (image.caption or "").split()
