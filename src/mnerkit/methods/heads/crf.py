"""A linear layer and a conditional random field over the tags."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tagset import TagSet
from mnerkit.methods.heads.head import Head
from mnerkit.methods.heads.rows import Words, add_boundary, as_long_as_posts, mean_over_rows, words_of
from mnerkit.nn.linear_chain import CRF, TiedCRF, crf_divergence, crf_nll, viterbi
from mnerkit.ranges import DROPOUT, check
from mnerkit.towers.interface import WordStates


class CRFHead(Head):
    """A linear layer and a linear-chain CRF; the loss is the mean over posts of the tag sequence's log-loss."""

    name: ClassVar[str] = "crf"
    compares: ClassVar[bool] = True

    def __init__(
        self, transitions: Literal["full", "tied"] = "full", constrain_bio: bool = False, dropout: float = 0.0
    ) -> None:
        """Keep the options.

        Args:
            transitions: a score for each pair of tags, or one for each pair of roles (`O->B`, `B->I same` ...), the
                same for all types.
            constrain_bio: never decode an `I-x` at the start, after O or after another type. The loss is the same:
                gold tags keep such orphans, and what they cost is learnt.
            dropout: share of the word states' features dropped before the linear layer.
        """
        super().__init__()
        check("model.head", DROPOUT, dropout=dropout)
        self.transitions, self.constrain_bio = transitions, constrain_bio
        self.dropout = nn.Dropout(dropout)

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the linear layer and the CRF."""
        self.num_types = len(tagset.types)
        self.linear = nn.Linear(width, len(tagset))
        self.crf = CRF(len(tagset), batch_first=True) if self.transitions == "full" else TiedCRF()

    def _emissions(self, words: Words, encoded: WordStates) -> Tensor:
        return add_boundary(self.linear(self.dropout(words.states)), encoded, words)  # (E, R, W, K)

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Negative log-likelihood of the gold tags: mean over query rows, summed over environments.

        Where a word's tag does not count, it is summed over all tags.
        """
        words = words_of(encoded, batch)
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = self._emissions(words, encoded)
            worlds = len(emissions)
            losses = crf_nll(
                emissions.flatten(0, 1),
                words.tags(batch).repeat(worlds, 1),
                words.mask.repeat(worlds, 1),
                self.crf.scores(self.num_types),
                given=None if batch.play_mask is None else words.play.repeat(worlds, 1),
            )
        return mean_over_rows(losses.view(worlds, -1), words.play)

    def divergence(self, encoded: WordStates, batch: Batch, rows: Tensor) -> Tensor:
        """KL between the two environments' distributions over tag sequences: mean over the query rows in `rows`."""
        words = words_of(encoded, batch)
        mask = words.mask & rows[words.rows].unsqueeze(1)
        with torch.autocast(words.states.device.type, enabled=False):
            first, second = self._emissions(words, encoded)
            losses = crf_divergence(first, second, mask, self.crf.scores(self.num_types))
        return mean_over_rows(losses, mask)

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """Viterbi over the mean of the environments' emissions."""
        words = words_of(encoded, batch)
        scores = self.crf.scores(self.num_types)
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = self._emissions(words, encoded).mean(0)
        decoded = viterbi(emissions, words.mask, scores.constrained() if self.constrain_bio else scores)
        return as_long_as_posts(decoded, batch, words)
