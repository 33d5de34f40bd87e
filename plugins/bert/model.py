"""BERT as an encoder of words: the text tower's word states, dropout, and, where asked for, a BiLSTM."""

from __future__ import annotations

from torch import nn

from mnerkit.data.batch import Batch
from mnerkit.encoders.base import Encoder, TextTower, WordStates


class BertEncoder(Encoder):
    """h = Drop(Tower(words)), or Drop(BiLSTM(Drop(Tower(words)))).

    Args:
        tower: the text tower.
        dropout: on word states.
        bilstm_after_encoder: put a BiLSTM of the tower's width between tower and head.
    """

    def __init__(self, tower: TextTower, dropout: float = 0.1, bilstm_after_encoder: bool = False) -> None:
        super().__init__()
        self.tower, self.width = tower, tower.width
        self.dropout = nn.Dropout(dropout)
        half = tower.width // 2
        self.bilstm = nn.LSTM(tower.width, half, batch_first=True, bidirectional=True) if bilstm_after_encoder else None
        if self.bilstm is not None:
            self.width = 2 * half

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        """One state a word, (1, B, W, d)."""
        words = self.dropout(self.tower(batch.text).words)  # (B, W, d)
        if self.bilstm is not None:
            lengths = batch.text.word_mask.sum(1).clamp_min(1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
            words, _ = nn.utils.rnn.pad_packed_sequence(
                self.bilstm(packed)[0], batch_first=True, total_length=words.shape[1]
            )
            words = self.dropout(words)
        return WordStates(words.unsqueeze(0))
