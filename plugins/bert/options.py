"""Options of the plugin `bert`."""

from __future__ import annotations

from dataclasses import dataclass

from mnerkit.methods.options import TextOptions
from mnerkit.options import DROPOUT, option


@dataclass(frozen=True, kw_only=True)
class BertOptions(TextOptions):
    """Options of a text tower with an optional BiLSTM."""

    freeze: bool = option(False, "freeze the text tower's weights")
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)
    bilstm_after_encoder: bool = option(False, "put a BiLSTM between tower and head")
