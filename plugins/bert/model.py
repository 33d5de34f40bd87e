"""BERT as an encoder of words: the text tower's word states, dropout, and an optional BiLSTM."""

from __future__ import annotations

from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.nn.recurrent import run_lstm
from mnerkit.towers.interface import TextTower
from mnerkit.towers.word_encoder import WordEncoder
from mnerkit_plugins.bert.options import BertOptions


class BertEncoder(WordEncoder):
    """h = Drop(Tower(words)), or Drop(BiLSTM(Drop(Tower(words)))) with a BiLSTM of the tower's width."""

    def __init__(self, tower: TextTower, o: BertOptions) -> None:
        super().__init__(tower, o.dropout)
        self.bilstm: nn.LSTM | None = None
        if o.bilstm_after_encoder:
            half = tower.width // 2
            self.bilstm, self.width = nn.LSTM(tower.width, half, batch_first=True, bidirectional=True), 2 * half

    def words(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout."""
        words = super().words(batch)
        if self.bilstm is None:
            return words
        # words beyond the length limit are steps of zeros
        return self.dropout(run_lstm(self.bilstm, words, batch.text.word_mask.sum(1)))
