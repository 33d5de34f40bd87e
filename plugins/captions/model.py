"""The picture's caption as a second segment, to which words attend in the text tower."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.errors import UsageError
from mnerkit.towers.interface import TextTower, WordStates
from mnerkit.towers.word_encoder import WordEncoder
from mnerkit_plugins.captions.options import CaptionsOptions, View


class CaptionsEncoder(WordEncoder):
    """h = Drop(Tower([words; caption])), only the states of the words; with two views also h' = Drop(Tower(words)).

    Raises:
        UsageError: the tower is causal (CLIP's), so words can't attend to the caption.
    """

    def __init__(self, tower: TextTower, o: CaptionsOptions) -> None:
        if tower.causal:
            raise UsageError(
                f"tower {tower.spec} is causal: its words can't attend to a caption that follows them.\n"
                "Give a tower like BERT or RoBERTa as --model.text."
            )
        super().__init__(tower, o.dropout)
        self.options = o

    def words(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout; in training some posts are read without their captions."""
        text, share = batch.text, self.options.caption_dropout
        if self.training and share:
            text = without_captions(text, torch.rand(len(batch), device=batch.query.device) < share)
        return self.dropout(self.tower(text).words)

    def alone(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout: the words read without captions."""
        return self.dropout(self.tower(text_alone(batch.text)).words)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        """(1, B, W, d), or (2, B, W, d) if both views are read: text with caption, and text alone."""
        view: View = self.options.read
        if self.training:
            view = "both" if self.options.agreement else "caption"
        if view == "both":
            return WordStates(torch.stack((self.words(batch), self.alone(batch))))
        return WordStates((self.words(batch) if view == "caption" else self.alone(batch)).unsqueeze(0))


def second_segment(text: TextBatch) -> Tensor:
    """(B, n) bool, the pieces of second segments; for towers of whole words (B, V), separators included."""
    if text.word_ids is None:
        assert text.attn_mask is not None and text.type_ids is not None
        return text.attn_mask & (text.type_ids == 1)
    after = torch.arange(text.word_ids.shape[1], device=text.word_ids.device) >= text.word_mask.sum(1, keepdim=True)
    return after & (text.word_ids > 0)


def without_captions(text: TextBatch, rows: Tensor) -> TextBatch:
    """Mask the second segment of the rows in `rows` (B,) bool; with pieces, RoBERTa's separator stays."""
    hidden = rows.unsqueeze(1) & second_segment(text)
    if text.word_ids is None:
        assert text.attn_mask is not None
        return replace(text, attn_mask=text.attn_mask & ~hidden)
    assert text.shapes is not None and text.chars is not None
    return replace(
        text,
        word_ids=text.word_ids.masked_fill(hidden, 0),
        shapes=text.shapes.masked_fill(hidden, 0),
        chars=text.chars.masked_fill(hidden.unsqueeze(-1), 0),
    )


def text_alone(text: TextBatch) -> TextBatch:
    """The batch without second segments, cut to its longest text, which costs no more than a batch without captions."""
    text = without_captions(text, torch.ones(len(text.words), dtype=torch.bool, device=text.word_mask.device))
    by_piece = ("input_ids", "attn_mask", "type_ids", "piece_word")
    by_word = ("word_ids", "shapes", "chars")
    width = text.word_mask.shape[1] if text.attn_mask is None else int(text.attn_mask.sum(1).max())
    cut = {name: getattr(text, name)[:, :width] for name in (by_word if text.attn_mask is None else by_piece)}
    return replace(text, **cut)
