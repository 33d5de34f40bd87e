"""BIO tags: to entities and back, under the two chunking rules of the field, and to numbers and back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Literal

from mnerkit.data.corpus.post import Entity
from mnerkit.errors import DataError

Chunking = Literal["lenient", "strict"]


def entities(tags: Sequence[str], chunking: Chunking = "lenient") -> list[Entity]:
    """Return the entities of a BIO sequence, left to right.

    `lenient` is the CoNLL rule (seqeval's default): an orphan `I-` (after O) and a switch (an `I-` after another type)
    start an entity. `strict` is IOB2: they belong to no entity.
    """
    if tags.count("O") == len(tags):  # as most posts
        return []
    spans: list[Entity] = []
    start, kind = -1, ""
    for position, tag in enumerate([*tags, "O"]):
        if tag == "O" and start < 0:
            continue
        role, _, this = tag.partition("-")
        if start >= 0 and (role != "I" or this != kind):
            spans.append(Entity(start, position, kind))
            start = -1
        if role == "B" or (role == "I" and start < 0 and chunking == "lenient"):
            start, kind = position, this
    return spans


def orphans_and_switches(tags: Sequence[str]) -> tuple[int, int]:
    """Count the `I-` tags that begin the sequence or follow O, and those that follow a tag of another type.

    Lenient chunking starts an entity at each, strict chunking ignores them.
    """
    orphans = switches = 0
    before = "O"
    for tag in tags:
        if tag[0] == "I" and tag[1:] != before[1:]:
            orphans += before == "O"
            switches += before != "O"
        before = tag
    return orphans, switches


def counted(spans: Iterable[Entity], ignored: Collection[int]) -> list[Entity]:
    """The predicted entities that count: one that holds an ignored word is neither right nor wrong.

    Args:
        spans: predicted entities of a post.
        ignored: words of the post whose tags do not count (`--data.out_of_play ignore`).
    """
    return [span for span in spans if not any(span.start <= word < span.end for word in ignored)]


def tags_of(spans: Iterable[Entity], length: int) -> list[str]:
    """BIO tags of `length` words that hold `spans`, which must not overlap."""
    tags = ["O"] * length
    for span in spans:
        tags[span.start : span.end] = [f"B-{span.type}"] + [f"I-{span.type}"] * (span.end - span.start - 1)
    return tags


def insert_disjoint(spans: list[Entity], new: Entity) -> bool:
    """Insert a span into a list in order of position, unless it overlaps one of them; whether it was inserted."""
    place = bisect_left(spans, new.end, key=attrgetter("start"))
    if place and spans[place - 1].end > new.start:
        return False
    spans.insert(place, new)
    return True


@dataclass(frozen=True)
class TagSet:
    """BIO tags over `types`: O is 0, `B-types[k]` is 1 + 2k, `I-types[k]` is 2 + 2k; then `others`.

    Attributes:
        types: types of entities.
        others: tags that belong to no entity, such as those of pieces that begin no word (`batches.piece_words`).
    """

    types: tuple[str, ...]
    others: tuple[str, ...] = ()

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """All tags in the order of their numbers."""
        return ("O", *(f"{role}-{kind}" for kind in self.types for role in "BI"), *self.others)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {tag: number for number, tag in enumerate(self.tags)}

    def __len__(self) -> int:
        return len(self.tags)

    def encode(self, tags: Sequence[str], out_of_play: str = "error") -> list[int]:
        """Numbers of `tags`; a type that is not in the set raises (`error`), or becomes O (any other `out_of_play`)."""
        if out_of_play != "error":
            return [self._number.get(tag, 0) for tag in tags]
        try:
            return [self._number[tag] for tag in tags]
        except KeyError as unknown:
            raise DataError(f"tag {unknown} is not among {', '.join(self.tags)}") from None

    def in_play(self, tags: Sequence[str]) -> list[bool]:
        """Which of `tags` are O or of a type in the set."""
        return [tag in self._number for tag in tags]

    def decode(self, numbers: Sequence[int]) -> list[str]:
        """Tags of `numbers`."""
        return [self.tags[number] for number in numbers]
