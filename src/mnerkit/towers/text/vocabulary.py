"""Words to numbers, shapes and characters, for towers that read whole words."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from mnerkit.data.batches.batch import TextBatch

MAX_CHARS = 24
MAX_KEPT_WORDS = 200_000
SHAPES = (
    "padding",
    "url",
    "tag",
    "mention",
    "digits",
    "letters and digits",
    "capitals",
    "capitalised",
    "small",
    "mixed",
    "other",
    "separator",
)


def shape_of(word: str) -> int:
    """Number of a word's shape in `SHAPES`."""
    return SHAPES.index(_shape_name(word))


def _shape_name(word: str) -> str:
    if word.lower().startswith(("http:", "https:")):
        return "url"
    if len(word) > 1 and word[0] in "#@":
        return "tag" if word[0] == "#" else "mention"
    letters = [letter for letter in word if letter.isalpha()]
    if any(letter.isdigit() for letter in word):
        return "letters and digits" if letters else "digits"
    if not letters:
        return "other"
    if all(letter.isupper() for letter in letters):
        # A single capital ("I", "A") opens sentences as often as it abbreviates: it counts as capitalised.
        return "capitals" if len(letters) > 1 else "capitalised"
    if letters[0].isupper() and word[1:] == word[1:].lower():
        return "capitalised"
    return "small" if word == word.lower() else "mixed"


_SEPARATOR = (1, SHAPES.index("separator"), np.array([1]))


class VocabularyReader:
    """Reads words as numbers of a fixed vocabulary, with shapes and characters.

    Words are looked up in lower case; a word's case lives in its shape and characters. The characters are printable
    ASCII and those of the vocabulary, in both cases.

    Attributes:
        words: the vocabulary, in lower case; word i has number i + 2 (0 pads, 1 is unknown).
        characters: the known characters; character i has number i + 2.
        second_words: most words of a second segment.
    """

    kind = "vocabulary"

    def __init__(self, words: Iterable[str], second_words: int = 24):
        self.second_words = second_words
        self.words = tuple(dict.fromkeys(word.lower() for word in words))
        self._numbers = {word: number for number, word in enumerate(self.words, start=2)}
        letters = set(string.ascii_letters + string.digits + string.punctuation)
        for word in self.words:
            letters.update(word, word.upper())
        self.characters = "".join(sorted(letters))
        self._letters = {letter: number for number, letter in enumerate(self.characters, start=2)}
        self._kept: dict[str, tuple[int, int, np.ndarray]] = {}

    @property
    def n_words(self) -> int:
        """Size of a word embedding: the vocabulary, padding and unknown."""
        return len(self.words) + 2

    @property
    def n_chars(self) -> int:
        """Size of a character embedding: the characters, padding and unknown."""
        return len(self.characters) + 2

    @property
    def n_shapes(self) -> int:
        """Size of a shape embedding, padding included."""
        return len(SHAPES)

    def state(self) -> dict[str, Any]:
        """Plain data that `reader_from_state` rebuilds this from."""
        return {"kind": self.kind, "words": list(self.words), "second_words": self.second_words}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> VocabularyReader:
        """The reader of `state()`."""
        return cls(state["words"], state["second_words"])

    def length(self, words: Sequence[str]) -> int:
        """Number of words."""
        return len(words)

    def collate(self, rows: Sequence[Sequence[str]], second: Sequence[Sequence[str]] | None = None) -> TextBatch:
        """Pad rows of words into a batch.

        Args:
            rows: the words of each row; a row may be empty.
            second: the words of each row's second segment. They stand behind the row's words and a separator (an
                unknown word of its own shape), and are no part of `word_mask`; an empty segment adds nothing.

        Returns:
            The batch: (B, V) numbers and shapes, (B, V, C) characters; V and C at least 1, C at most `MAX_CHARS`.

        """
        words = [tuple(row) for row in rows]
        known = [[self._read(word) for word in row] for row in words]
        width = max([1, *map(len, words)])
        word_mask = np.arange(width) < np.array([len(row) for row in words])[:, None]  # (B, W)
        if second is not None:
            for row, tail in zip(known, second, strict=True):
                if tail:
                    row += [_SEPARATOR, *(self._read(word) for word in tail[: self.second_words])]
        size, columns = len(words), max([width, *map(len, known)])
        letters = max([1, *(len(chars) for row in known for *_, chars in row)])
        word_ids = np.zeros((size, columns), dtype=np.int64)
        shapes = np.zeros((size, columns), dtype=np.int64)
        chars = np.zeros((size, columns, letters), dtype=np.int64)
        for line, facts in enumerate(known):
            for place, (number, shape, spelling) in enumerate(facts):
                word_ids[line, place] = number
                shapes[line, place] = shape
                chars[line, place, : len(spelling)] = spelling
        return TextBatch(
            words,
            word_mask=torch.from_numpy(word_mask),
            word_ids=torch.from_numpy(word_ids),
            shapes=torch.from_numpy(shapes),
            chars=torch.from_numpy(chars),
        )

    def _read(self, word: str) -> tuple[int, int, np.ndarray]:
        """Number, shape and character numbers of a word; words met before are looked up."""
        kept = self._kept.get(word)
        if kept is None:
            if len(self._kept) >= MAX_KEPT_WORDS:
                self._kept.clear()
            spelling = np.array([self._letters.get(letter, 1) for letter in word[:MAX_CHARS]], dtype=np.int64)
            kept = self._kept[word] = (self._numbers.get(word.lower(), 1), shape_of(word), spelling)
        return kept
