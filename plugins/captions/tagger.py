"""Plugin `captions`."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.errors import UsageError
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, DROPOUT, WEIGHT, check
from mnerkit.towers.interface import WordStates
from mnerkit_plugins.captions.model import CaptionsEncoder, second_segment


class CaptionsTagger(Tagger):
    """A text tower that reads the picture's caption as second segment, and a head."""

    plugin = "captions"

    def __init__(
        self,
        text: str = "tiny",
        freeze: bool = False,
        max_tokens: int = 128,
        word_pool: Literal["first", "mean"] = "first",
        second_words: int = 24,
        max_images: int = 1,
        dropout: float = 0.1,
        caption_dropout: float = 0.0,
        agreement: float = 0.0,
        read: Literal["caption", "text", "both"] = "caption",
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower: `tiny`, `bilstm`, a hub name such as `bert-base-cased`, or a folder.
            freeze: keep the tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included; the caption is cut first.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            second_words: most words of the captions.
            max_images: captions of this many images, the first ones.
            dropout: on the word states.
            caption_dropout: share of the posts whose caption is hidden in a training step, so that words are read with
                and without it.
            agreement: weight of the cross-view alignment. Above 0, every training step reads the posts with and without
                their captions, learns the tags from both, and draws the tags read from the text alone towards those
                read with the caption; 1 sums the losses as they are. Needs a `crf` or `softmax` head.
            read: what is tagged from, after training: the text with its `caption`, the `text` alone, or the mean
                emissions of `both`.
            training: options of `Tagger`.

        """
        super().__init__(**training)
        if agreement and not self.head.compares:
            raise UsageError(
                f"agreement compares two distributions over tags: give head crf or softmax, not {self.head.name}"
            )
        check("model", DROPOUT, dropout=dropout, caption_dropout=caption_dropout)
        check("model", WEIGHT, agreement=agreement)
        check("model", COUNT, max_tokens=max_tokens, second_words=second_words, max_images=max_images)
        self.text, self.freeze_tower, self.max_tokens, self.word_pool = text, freeze, max_tokens, word_pool
        self.second_words, self.max_images, self.dropout = second_words, max_images, dropout
        self.caption_dropout, self.agreement, self.read = caption_dropout, agreement, read

    def make_encoder(self) -> CaptionsEncoder:
        tower = self.text_tower(
            "text",
            self.text,
            freeze=self.freeze_tower,
            max_tokens=self.max_tokens,
            word_pool=self.word_pool,
            second_words=self.second_words,
        )
        return CaptionsEncoder(tower, self.dropout, self.caption_dropout, two_views=self.agreement > 0, read=self.read)

    def losses_of(self, encoded: WordStates, batch: Batch) -> dict[str, Tensor]:
        losses = super().losses_of(encoded, batch)
        if self.agreement and len(encoded.states) == 2:
            losses["agreement"] = self.head.divergence(encoded, batch, second_segment(batch.text).any(1))
        return losses

    def loss_weights(self) -> dict[str, float]:
        return {"agreement": self.agreement}

    def needs(self) -> Needs:
        return Needs(reader=self.towers["text"].reader, views=frozenset({"second"}), max_images=self.max_images)
