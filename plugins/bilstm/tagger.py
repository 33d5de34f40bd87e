"""Plugin `bilstm`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, DROPOUT, Range, check
from mnerkit_plugins.bilstm.model import BilstmEncoder


class BilstmTagger(Tagger):
    """Word vectors, characters by CNN or LSTM, a BiLSTM, and a head: BiLSTM-CRF, CNN-BiLSTM-CRF, HBiLSTM-CRF."""

    plugin = "bilstm"

    def __init__(
        self,
        chars: Literal["none", "cnn", "lstm"] = "cnn",
        width: int = 200,
        word_width: int = 100,
        char_width: int = 50,
        vectors: str | None = None,
        dropout: float = 0.5,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            chars: read characters not at all, by a CNN, or by an LSTM.
            width: of the word states, both directions together.
            word_width: of the word vectors, where no file gives them.
            char_width: of what the characters say.
            vectors: a text file of pretrained word vectors in GloVe's form.
            dropout: on the LSTM's input, on character vectors and on the word states.
            training: options of `Tagger`.

        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, word_width=word_width, char_width=char_width)
        check("model", Range(2), width=width)
        self.options = {
            "chars": chars,
            "width": width,
            "word_width": word_width,
            "char_width": char_width,
            "vectors": vectors,
            "dropout": dropout,
        }
        self.dropout = dropout

    def make_encoder(self) -> BilstmEncoder:
        return BilstmEncoder(self.text_tower("text", "bilstm", **self.options), self.dropout)

    def needs(self) -> Needs:
        return Needs(reader=self.towers["text"].reader)
