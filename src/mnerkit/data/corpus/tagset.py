"""The tags of a set of entity types, numbered: O, B-a, I-a, B-b, I-b, ..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mnerkit.errors import DataError


@dataclass(frozen=True)
class TagSet:
    """BIO tags over `types`: O is 0, `B-types[k]` is 1 + 2k, `I-types[k]` is 2 + 2k."""

    types: tuple[str, ...]

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """All tags in the order of their numbers."""
        return ("O", *(f"{role}-{kind}" for kind in self.types for role in "BI"))

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
