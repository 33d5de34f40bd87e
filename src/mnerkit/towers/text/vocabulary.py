"""Words to numbers, shapes and characters, for towers that read whole words."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from mnerkit.data.batches.batch import TextBatch

MAX_CHARS = 24
MAX_CACHED_WORDS = 200_000
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
    """Index of a word's shape in `SHAPES`."""
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
        # a single capital ("I", "A") begins sentences as often as it abbreviates: it counts as capitalised
        return "capitals" if len(letters) > 1 else "capitalised"
    if letters[0].isupper() and word[1:] == word[1:].lower():
        return "capitalised"
    return "small" if word == word.lower() else "mixed"


_SEPARATOR = (1, SHAPES.index("separator"), np.array([1]))


class VocabularyReader:
    """Turns words into numbers of a fixed vocabulary, with shapes and characters.

    Words are looked up in lower case; their case is in the shape and the characters. The characters are printable ASCII
    and those of the vocabulary, in both cases.

    Attributes:
        words: the vocabulary, in lower case; word i has number i + 2 (0 is padding, 1 is unknown).
        characters: the character vocabulary; character i has number i + 2.
        second_words: maximum number of words of a second segment.
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
        self._cached: dict[str, tuple[int, int, np.ndarray]] = {}

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
        """Plain data from which `reader_from_state` rebuilds the reader."""
        return {"kind": self.kind, "words": list(self.words), "second_words": self.second_words}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> VocabularyReader:
        """Rebuild the reader from `state()`."""
        return cls(state["words"], state["second_words"])

    def length(self, words: Sequence[str]) -> int:
        """Number of words."""
        return len(words)

    def words_read(self, words: Sequence[str]) -> int:
        """Number of words: there is no limit."""
        return len(words)

    def windows(self, words: Sequence[str], second: Sequence[str] = ()) -> list[tuple[int, int]]:
        """The span of all words: there is no limit."""
        return [(0, len(words))]

    def cuts_second(self, words: Sequence[str], second: Sequence[str]) -> bool:
        """False: there is no limit."""
        return False

    def collate(self, rows: Sequence[Sequence[str]], second: Sequence[Sequence[str]] | None = None) -> TextBatch:
        """Pad rows of words into a batch.

        Args:
            rows: the words of each row; a row may be empty.
            second: the words of each row's second segment. They follow the row's words and a separator (an unknown word
                with its own shape), and are not in `word_mask`; an empty segment adds nothing.

        Returns:
            The batch: (B, V) numbers and shapes, (B, V, C) characters; V and C at least 1, C at most `MAX_CHARS`.

        """
        words = [tuple(row) for row in rows]
        features = [[self._read(word) for word in row] for row in words]
        width = max([1, *map(len, words)])
        word_mask = np.arange(width) < np.array([len(row) for row in words])[:, None]  # (B, W)
        if second is not None:
            for row, tail in zip(features, second, strict=True):
                if tail:
                    row += [_SEPARATOR, *(self._read(word) for word in tail[: self.second_words])]
        size, columns = len(words), max([width, *map(len, features)])
        letters = max([1, *(len(chars) for row in features for *_, chars in row)])
        word_ids = np.zeros((size, columns), dtype=np.int64)
        shapes = np.zeros((size, columns), dtype=np.int64)
        chars = np.zeros((size, columns, letters), dtype=np.int64)
        for line, row_features in enumerate(features):
            for place, (number, shape, spelling) in enumerate(row_features):
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
        """Number, shape and character numbers of a word, with a cache."""
        cached = self._cached.get(word)
        if cached is None:
            if len(self._cached) >= MAX_CACHED_WORDS:
                self._cached.clear()
            spelling = np.array([self._letters.get(letter, 1) for letter in word[:MAX_CHARS]], dtype=np.int64)
            cached = self._cached[word] = (self._numbers.get(word.lower(), 1), shape_of(word), spelling)
        return cached
