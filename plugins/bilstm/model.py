"""BiLSTM, CNN-BiLSTM and HBiLSTM as encoders of words."""

from __future__ import annotations

from mnerkit.towers.interface import TextTower
from mnerkit.towers.word_encoder import WordEncoder
from mnerkit_plugins.bilstm.options import BilstmOptions


class BilstmEncoder(WordEncoder):
    """h = Drop(BiLSTM(Drop([word; shape; characters]))); `mnerkit.towers.text.bilstm` is all but the outer dropout."""

    def __init__(self, tower: TextTower, o: BilstmOptions) -> None:
        super().__init__(tower, o.dropout)
