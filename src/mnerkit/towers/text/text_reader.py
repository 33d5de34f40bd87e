"""All readers of text towers, which turn words into a tower's input tensors, and the tokenizer of raw text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mnerkit.data.batches.needs import Reader
from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.errors import CheckpointError
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.vocabulary import VocabularyReader

__all__ = ["PieceReader", "Reader", "VocabularyReader", "reader_from_state", "split_text"]


def reader_from_state(state: dict[str, Any]) -> Reader:
    """Rebuild a reader from its `state()`.

    Raises:
        CheckpointError: the state is not that of a known reader.
    """
    kinds: dict[str, Callable[[dict[str, Any]], Reader]] = {
        "pieces": PieceReader.from_state,
        "vocabulary": VocabularyReader.from_state,
    }
    make = kinds.get(state.get("kind", ""))
    if make is None:
        raise CheckpointError(f"unknown reader {state.get('kind')!r} in the checkpoint; known: {', '.join(kinds)}")
    return make(state)
