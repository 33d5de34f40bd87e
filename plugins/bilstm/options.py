"""Options of the plugin `bilstm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import TaggerOptions
from mnerkit.options import DROPOUT, SIZE, Range, option


@dataclass(frozen=True, kw_only=True)
class BilstmOptions(TaggerOptions):
    """Options of word vectors, characters and the BiLSTM."""

    chars: Literal["none", "cnn", "lstm"] = option("cnn", "read the characters of words with a CNN, an LSTM, or not")
    width: int = option(200, "width of the word states, both directions together", Range(2, SIZE.most))
    word_width: int = option(100, "width of the word vectors, where no file gives them", SIZE)
    char_width: int = option(50, "width of the vector that the characters of a word make", SIZE)
    vectors: str | None = option(None, "a text file of pretrained word vectors in GloVe's format")
    dropout: float = option(
        0.5, "share dropped of the LSTM's input, of the character vectors and of the word states", DROPOUT
    )
