"""Each word on its own: a linear layer and a softmax over the tags."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mnerkit.data.batch import Batch
from mnerkit.data.tagset import TagSet
from mnerkit.encoders.base import WordStates
from mnerkit.ranges import DROPOUT, check
from mnerkit.tagging.heads.base import Head
from mnerkit.tagging.heads.rows import add_boundary, as_long_as_posts, cross_entropy, likeliest, words_of


class SoftmaxHead(Head):
    """A linear layer and a softmax over the tags of every word; the loss is the mean over words."""

    name: ClassVar[str] = "softmax"

    def __init__(self, dropout: float = 0.0) -> None:
        """Keep the options.

        Args:
            dropout: share of the word states' features dropped before the linear layer.
        """
        super().__init__()
        check("model.head", DROPOUT, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the linear layer."""
        self.linear = nn.Linear(width, len(tagset))

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Cross-entropy: mean over the words of all query rows, summed over environments."""
        words = words_of(encoded, batch)
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = add_boundary(self.linear(self.dropout(words.states)), encoded, words)
            return cross_entropy(emissions.log_softmax(-1), words.tags(batch), words.play)

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """The likeliest tag of each word, under the mean of the environments' log-probabilities."""
        words = words_of(encoded, batch)
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = add_boundary(self.linear(self.dropout(words.states)), encoded, words)
            mean = emissions.log_softmax(-1).mean(0)
        return as_long_as_posts(likeliest(mean, words), batch, words)
