"""The text-only encoder: word states of a text tower."""

from __future__ import annotations

from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.interface import Encoder, TextTower, WordStates


class WordEncoder(Encoder):
    """h = Drop(Tower(words)); a second segment of the batch is read, but never tagged.

    Args:
        tower: the text tower.
        dropout: dropout of the word states.

    """

    by_post = True

    def __init__(self, tower: TextTower, dropout: float = 0.1) -> None:
        super().__init__()
        self.tower, self.width = tower, tower.width
        self.dropout = nn.Dropout(dropout)

    def words(self, batch: Batch) -> Tensor:
        """(B, W, d), after dropout."""
        return self.dropout(self.tower(batch.text).words)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        """One state for each word, (1, B, W, d)."""
        return WordStates(self.words(batch).unsqueeze(0))
