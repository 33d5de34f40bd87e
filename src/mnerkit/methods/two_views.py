"""Methods that read a post in two views: its words with a second segment about the pictures, and its words alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.data.batches.needs import Needs
from mnerkit.errors import UsageError
from mnerkit.methods.options import TwoViewOptions
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.interface import TextTower, WordStates
from mnerkit.towers.word_encoder import WordEncoder


class TwoViewEncoder(WordEncoder):
    """h = Drop(Tower([words; second segment])), only the states of the words; with two views h' = Drop(Tower(words)).

    Args:
        tower: the text tower.
        o: the options.
        trains_both: whether both views are read in training; else the first one.
        hidden: share of the posts that are read without their second segment in a training step.

    Raises:
        UsageError: the tower is causal (CLIP's), so words can't attend to the second segment.
    """

    def __init__(self, tower: TextTower, o: TwoViewOptions, trains_both: bool, hidden: float = 0.0) -> None:
        if tower.causal:
            raise UsageError(
                f"tower {tower.spec} is causal: its words can't attend to a caption that follows them.\n"
                "Give a tower like BERT or RoBERTa as --model.text."
            )
        super().__init__(tower, o.dropout)
        self.options, self.trains_both, self.hidden = o, trains_both, hidden

    def words(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout; in training some posts are read without their second segments."""
        text = batch.text
        if self.training and self.hidden:
            text = without_second(text, torch.rand(len(batch), device=batch.query.device) < self.hidden)
        return self.dropout(self.tower(text).words)

    def alone(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout: the words alone."""
        return self.dropout(self.tower(text_alone(batch.text)).words)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        """(1, B, W, d), or (2, B, W, d) if both views are read: text with second segment, and text alone."""
        view = self.options.read
        if self.training:
            view = "both" if self.trains_both else "caption"
        if view == "both":
            return WordStates(torch.stack((self.words(batch), self.alone(batch))))
        return WordStates((self.words(batch) if view == "caption" else self.alone(batch)).unsqueeze(0))


class TwoViewTagger(Tagger):
    """Base of taggers whose encoder is a `TwoViewEncoder`."""

    options_class: ClassVar[type[TwoViewOptions]] = TwoViewOptions

    def make_text(self) -> TextTower:
        """The text tower of the options `text`, `freeze`, `max_tokens`, `word_pool` and `second_words`."""
        o = self.options
        return self.text_tower(
            "text",
            o.text,
            freeze=o.freeze,
            max_tokens=o.max_tokens,
            word_pool=o.word_pool,
            second_words=o.second_words,
        )

    def check_divergence(self) -> None:
        """Refuse a head that can't compare two views.

        Raises:
            UsageError: the head has no divergence.
        """
        if not self.head.has_divergence:
            raise UsageError(
                f"agreement compares two distributions over tags: give head crf or softmax, not {self.head.name}"
            )

    def needs(self) -> Needs:
        """The second segment."""
        reader, more = self.towers["text"].reader, self.second_parts()
        return Needs(reader, views=frozenset({"second"}), max_images=self.options.max_images, **more)

    def second_parts(self) -> dict[str, Any]:
        """What `Needs` says of the second segment, beside the number of images."""
        return {}


def second_segment(text: TextBatch) -> Tensor:
    """(B, n) bool, the pieces of second segments; for towers of whole words (B, V), separators included."""
    if text.word_ids is None:
        assert text.attn_mask is not None and text.type_ids is not None
        return text.attn_mask & (text.type_ids == 1)
    after = torch.arange(text.word_ids.shape[1], device=text.word_ids.device) >= text.word_mask.sum(1, keepdim=True)
    return after & (text.word_ids > 0)


def without_second(text: TextBatch, rows: Tensor) -> TextBatch:
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
    text = without_second(text, torch.ones(len(text.words), dtype=torch.bool, device=text.word_mask.device))
    by_piece = ("input_ids", "attn_mask", "type_ids", "piece_word")
    by_word = ("word_ids", "shapes", "chars")
    width = text.word_mask.shape[1] if text.attn_mask is None else int(text.attn_mask.sum(1).max())
    cut = {name: getattr(text, name)[:, :width] for name in (by_word if text.attn_mask is None else by_piece)}
    return replace(text, **cut)
