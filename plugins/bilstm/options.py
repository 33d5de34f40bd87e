"""Options of the plugin `bilstm`."""

from __future__ import annotations

from dataclasses import dataclass

from mnerkit.methods.options import TaggerOptions, WordVectorOptions


@dataclass(frozen=True, kw_only=True)
class BilstmOptions(TaggerOptions, WordVectorOptions):
    """Options of word vectors, characters and the BiLSTM."""
