"""BERT as an encoder of words: the text tower's word states, dropout, and, where asked for, a BiLSTM."""

from __future__ import annotations

from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.nn.recurrent import run_lstm
from mnerkit.towers.interface import TextTower
from mnerkit.towers.words import WordEncoder


class BertEncoder(WordEncoder):
    """h = Drop(Tower(words)), or Drop(BiLSTM(Drop(Tower(words)))).

    Args:
        tower: the text tower.
        dropout: on word states.
        bilstm_after_encoder: put a BiLSTM of the tower's width between tower and head.

    """

    def __init__(self, tower: TextTower, dropout: float = 0.1, bilstm_after_encoder: bool = False) -> None:
        super().__init__(tower, dropout)
        self.bilstm: nn.LSTM | None = None
        if bilstm_after_encoder:
            half = tower.width // 2
            self.bilstm, self.width = nn.LSTM(tower.width, half, batch_first=True, bidirectional=True), 2 * half

    def words(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout."""
        words = super().words(batch)
        if self.bilstm is None:
            return words
        # a word that was cut off is a step of zeros
        return self.dropout(run_lstm(self.bilstm, words, batch.text.word_mask.sum(1)))
