"""Few-shot tagging by distances to the prototypes of a support set and a CRF (MOUSING)."""

from __future__ import annotations

import random
from typing import ClassVar

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import UsageError
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import reduced, words_of
from mnerkit.methods.heads.options import PrototypeCRFOptions
from mnerkit.methods.heads.prototype import PrototypeHead
from mnerkit.nn.linear_chain import CRF, Scores, TiedCRF, crf_nll
from mnerkit.towers.interface import WordStates


class PrototypeCRFHead(PrototypeHead):
    """Distances to prototypes as emissions, and one CRF for all environments (MOUSING, Eq. 10-12)."""

    name: ClassVar[str] = "prototype_crf"
    options_class = PrototypeCRFOptions

    @property
    def reads_probabilities(self) -> bool:  # type: ignore[override]
        """Whether the CRF reads probabilities instead of their logarithms."""
        return self.options.emission == "p"

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the CRF; only `full` transitions use `tagset`, for the number of types."""
        super().build(width, tagset)
        self.num_types = len(tagset.types)
        self.crf = CRF(len(tagset), batch_first=True) if self.options.transitions == "full" else TiedCRF()

    def _scores(self, batch: Batch) -> Scores:
        """The CRF's scores for the tags of the episode."""
        num_types = len(batch.tagset.types)
        scores = self.crf.scores(num_types)
        if self.options.transitions == "tied":
            return scores
        if num_types != self.num_types:
            raise UsageError(
                f"transitions: full was built for {self.num_types} types, and an episode has {num_types}; use tied"
            )
        if not self.options.slot_shuffle:
            return scores
        slots = random.Random(batch.episode or 0).sample(range(num_types), num_types)
        order = [0, *(2 * slot + 1 + role for slot in slots for role in (0, 1))]
        return scores.permuted(torch.tensor(order, device=scores.start.device))

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Negative log-likelihood of the gold tags (MOUSING, Eq. 12; `reduction`), summed over environments."""
        words = words_of(encoded, batch)
        emissions, defined = self.emissions(encoded, batch)
        gold = words.tags(batch)
        gold = gold * defined[gold]
        worlds = len(emissions)
        losses = crf_nll(
            emissions.flatten(0, 1),
            gold.repeat(worlds, 1),
            words.mask.repeat(worlds, 1),
            self._scores(batch),
            observed=None if batch.play_mask is None else words.play.repeat(worlds, 1),
        )
        return reduced(losses.view(worlds, -1), words.play, self.options.reduction)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The mean of the environments' emissions, and the CRF's scores."""
        emissions, scores = self.emissions(encoded, batch)[0].mean(0), self._scores(batch)
        chosen = scores.constrained() if self.options.constrain_bio else scores
        return Chain(emissions, words_of(encoded, batch).mask, chosen)
