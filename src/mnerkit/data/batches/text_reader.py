"""Readers: words to the tensors that a text tower takes. Also the tokenizer of raw text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mnerkit.data.batches.batch import TextBatch
from mnerkit.data.batches.pieces import PieceReader
from mnerkit.data.batches.vocabulary import VocabularyReader
from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.errors import CheckpointError

__all__ = ["PieceReader", "Reader", "VocabularyReader", "reader_from_state", "split_text"]


class Reader(Protocol):
    """Turns words into a text tower's input; rebuilt from plain data without a hub."""

    def collate(self, rows: Sequence[Sequence[str]], second: Sequence[Sequence[str]] | None = None) -> TextBatch:
        """Pad rows of words, each with an optional second segment, into a batch."""
        ...

    def length(self, words: Sequence[str]) -> int:
        """Pieces or words of a row, for batches by length."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain data (text and numbers) for `reader_from_state`."""
        ...


def reader_from_state(state: dict[str, Any]) -> Reader:
    """Rebuild a reader from its `state()`.

    Raises:
        CheckpointError: the data is of no known reader.
    """
    kinds: dict[str, Callable[[dict[str, Any]], Reader]] = {
        "pieces": PieceReader.from_state,
        "vocabulary": VocabularyReader.from_state,
    }
    make = kinds.get(state.get("kind", ""))
    if make is None:
        raise CheckpointError(f"unknown reader {state.get('kind')!r} in the checkpoint; known: {', '.join(kinds)}")
    return make(state)
