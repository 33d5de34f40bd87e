"""A linear layer and a conditional random field over the tags."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import Head, Words, add_boundary, reduced, summed_over_words, words_of
from mnerkit.methods.heads.options import CRFOptions
from mnerkit.nn.linear_chain import (
    CRF,
    TiedCRF,
    crf_divergence,
    crf_log_marginals,
    crf_nll,
    tempered_divergence,
)
from mnerkit.towers.interface import WordStates


class CRFHead(Head):
    """A linear layer and a linear-chain CRF; the loss is the negative log-likelihood (`reduction`)."""

    name: ClassVar[str] = "crf"
    options_class = CRFOptions
    has_divergence: ClassVar[bool] = True

    def __init__(self, options: CRFOptions | None = None, **values: Any) -> None:
        super().__init__(options, **values)
        self.dropout = nn.Dropout(self.options.dropout)

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the linear layer and the CRF."""
        self.num_types = len(tagset.types)
        self.linear = nn.Linear(width, len(tagset))
        self.crf = CRF(len(tagset), batch_first=True) if self.options.transitions == "full" else TiedCRF()

    def emissions(self, words: Words, encoded: WordStates) -> Tensor:
        """(E, R, W, K) scores of the tags of each word."""
        return add_boundary(self.linear(self.dropout(words.states)), encoded, words)  # (E, R, W, K)

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Negative log-likelihood of the gold tags of the query rows (`reduction`), summed over environments.

        For words whose tag does not count, the likelihood is summed over all tags.
        """
        words = words_of(encoded, batch)
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = self.emissions(words, encoded)
            worlds = len(emissions)
            losses = crf_nll(
                emissions.flatten(0, 1),
                words.tags(batch).repeat(worlds, 1),
                words.mask.repeat(worlds, 1),
                self.crf.scores(self.num_types),
                observed=None if batch.play_mask is None else words.play.repeat(worlds, 1),
            )
        return reduced(losses.view(worlds, -1), words.play, self.options.reduction)

    def divergence(self, encoded: WordStates, batch: Batch, rows: Tensor) -> Tensor:
        """KL between the two environments' distributions over tag sequences of the query rows in `rows`."""
        words = words_of(encoded, batch)
        mask = words.mask & rows[words.rows].unsqueeze(1)
        with torch.autocast(words.states.device.type, enabled=False):
            first, second = self.emissions(words, encoded)
            losses = crf_divergence(first, second, mask, self.crf.scores(self.num_types))
        return reduced(losses, mask, self.options.reduction)

    def word_divergence(self, encoded: WordStates, batch: Batch, rows: Tensor, temperature: float) -> Tensor:
        """KL between the two environments' distributions over the tags of each word, from forward-backward."""
        words = words_of(encoded, batch)
        with torch.autocast(words.states.device.type, enabled=False):
            scores = self.crf.scores(self.num_types)
            first, second = (crf_log_marginals(each, words.mask, scores) for each in self.emissions(words, encoded))
        return summed_over_words(tempered_divergence(first, second, temperature), words, rows)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The mean of the environments' emissions, and the CRF's scores."""
        words = words_of(encoded, batch)
        scores = self.crf.scores(self.num_types)
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = self.emissions(words, encoded).mean(0)
        return Chain(emissions, words.mask, scores.constrained() if self.options.constrain_bio else scores)
