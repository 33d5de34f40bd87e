"""The picture's caption as second segment: words see it through the text tower's own attention."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mnerkit.data.batch import Batch, TextBatch
from mnerkit.encoders.base import TextTower
from mnerkit.encoders.text import PieceTower
from mnerkit.encoders.words import WordEncoder
from mnerkit.errors import UsageError


class CaptionsEncoder(WordEncoder):
    """h = Drop(Tower([words; caption])), the states of the words alone.

    Args:
        tower: the text tower; words must see what stands behind them.
        dropout: on word states.
        caption_dropout: share of the posts whose caption is hidden in a training step.

    Raises:
        UsageError: the tower is causal (CLIP's): no word would see the caption; or captions are to be hidden from a
            tower that reads whole words.

    """

    def __init__(self, tower: TextTower, dropout: float = 0.1, caption_dropout: float = 0.0) -> None:
        if tower.causal:
            raise UsageError(
                f"tower {tower.spec} is causal: its words do not see a caption that stands behind them.\n"
                "Give a tower like BERT or RoBERTa as --model.text."
            )
        if caption_dropout and not isinstance(tower, PieceTower):
            raise UsageError(f"caption_dropout hides pieces, and tower {tower.spec} reads whole words; set it to 0")
        super().__init__(tower, dropout)
        self.caption_dropout = caption_dropout

    def words(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout; in training some posts are read without their captions."""
        text = batch.text
        if self.training and self.caption_dropout:
            text = without_captions(text, torch.rand(len(batch), device=batch.query.device) < self.caption_dropout)
        return self.dropout(self.tower(text).words)


def without_captions(text: TextBatch, rows: Tensor) -> TextBatch:
    """The batch with the second segment of `rows` (B,) bool masked like padding (RoBERTa's separator stays)."""
    assert text.attn_mask is not None and text.type_ids is not None
    hidden = rows.unsqueeze(1) & (text.type_ids == 1)  # (B, n)
    return replace(text, attn_mask=text.attn_mask & ~hidden)
