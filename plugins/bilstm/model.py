"""BiLSTM, CNN-BiLSTM and HBiLSTM as encoders of words."""

from __future__ import annotations

from mnerkit.towers.text.bilstm import BiLstmTower
from mnerkit.towers.words import WordEncoder


class BilstmEncoder(WordEncoder):
    """h = Drop(BiLSTM(Drop([word; shape; characters]))).

    Word vectors and what the characters say are those of `mnerkit.towers.text.bilstm`.

    Args:
        tower: the BiLSTM tower.
        dropout: on word states.

    """

    tower: BiLstmTower

    def __init__(self, tower: BiLstmTower, dropout: float = 0.5) -> None:
        super().__init__(tower, dropout)
