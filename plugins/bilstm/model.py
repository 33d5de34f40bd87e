"""BiLSTM, CNN-BiLSTM and HBiLSTM as encoders of words."""

from __future__ import annotations

from mnerkit.towers.interface import TextTower
from mnerkit.towers.words import WordEncoder
from mnerkit_plugins.bilstm.options import BilstmOptions


class BilstmEncoder(WordEncoder):
    """h = Drop(BiLSTM(Drop([word; shape; characters]))), all but the outer dropout by `mnerkit.towers.text.bilstm`."""

    def __init__(self, tower: TextTower, o: BilstmOptions) -> None:
        super().__init__(tower, o.dropout)
