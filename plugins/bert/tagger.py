"""Plugin `bert`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, DROPOUT, check
from mnerkit_plugins.bert.model import BertEncoder


class BertTagger(Tagger):
    """A text tower and a head: BERT, BERT-CRF, BERT-BiLSTM-CRF and their RoBERTa twins."""

    plugin = "bert"

    def __init__(
        self,
        text: str = "tiny",
        freeze: bool = False,
        max_tokens: int = 128,
        word_pool: Literal["first", "mean"] = "first",
        dropout: float = 0.1,
        bilstm_after_encoder: bool = False,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower: `tiny`, a hub name such as `bert-base-cased`, or a folder.
            freeze: keep the tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            dropout: on the word states.
            bilstm_after_encoder: put a BiLSTM between tower and head.
            training: options of `Tagger`.
        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, max_tokens=max_tokens)
        self.text, self.freeze_tower, self.max_tokens, self.word_pool = text, freeze, max_tokens, word_pool
        self.dropout, self.bilstm_after_encoder = dropout, bilstm_after_encoder

    def make_encoder(self) -> BertEncoder:
        tower = self.text_tower(
            "text", self.text, freeze=self.freeze_tower, max_tokens=self.max_tokens, word_pool=self.word_pool
        )
        return BertEncoder(tower, dropout=self.dropout, bilstm_after_encoder=self.bilstm_after_encoder)

    def needs(self) -> Needs:
        return Needs(reader=self.towers["text"].reader)
