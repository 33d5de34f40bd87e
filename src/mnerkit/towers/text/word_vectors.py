"""The vectors of a text tower's vocabulary, without what its layers make of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mnerkit.data.batches.batch import TextBatch
from mnerkit.towers.interface import TextTower
from mnerkit.towers.text.piece_tower import PieceTower, pool_words


def _table(tower: TextTower) -> Any:
    """The embedding of words, or of pieces."""
    return tower.model.get_input_embeddings() if isinstance(tower, PieceTower) else tower.word


def vector_width(tower: TextTower) -> int:
    """e, the width of a tower's word vectors."""
    return int(_table(tower).embedding_dim)


def word_vectors(tower: TextTower, text: TextBatch) -> Tensor:
    """Vectors (B, W, e) of words, zeros where padded; of a word of several pieces their mean.

    Args:
        tower: a tower of pieces, or of whole words.
        text: from the tower's own reader, without second segments.
    """
    vectors = _table(tower)(text.word_ids if text.input_ids is None else text.input_ids)
    if text.input_ids is not None:
        return pool_words(vectors, text, "mean") * text.read_mask.unsqueeze(-1)
    return vectors * text.word_mask.unsqueeze(-1)
