"""Few-shot tagging by the nearest support word (NNShot)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import in_rows, support_of, words_of
from mnerkit.methods.heads.options import NearestOptions
from mnerkit.methods.heads.transfer import TransferHead
from mnerkit.nn.prototypes import distances
from mnerkit.towers.interface import WordStates


class NearestHead(TransferHead):
    """Trains a softmax on the source types; then each query word gets the IO tag of its nearest support word.

    NNShot (Yang and Katiyar, 2020, "Simple and effective few-shot named entity recognition with structured nearest
    neighbor learning"). Adjacent words of one type are one entity. The distance to the nearest word of each tag is
    computed in each environment and then averaged.
    """

    name: ClassVar[str] = "nearest"
    options_class = NearestOptions
    calibrated: ClassVar[bool] = False

    def similarity(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Minus the squared distance of each query word to the nearest support word of each IO tag.

        Returns:
            (E, Q, W, 1 + N) float32 over O and the N types in play; -inf for tags that no support word (that counts)
            has, and 0 for words that were not read.

        Raises:
            DataError: there is no support, or it has no tags.
        """
        support, tags = support_of(encoded, batch, self.name)
        query = words_of(encoded, batch)
        words = query.flat()
        with torch.autocast(words.device.type, enabled=False):
            if self.options.normalise:
                support, words = (nn.functional.normalize(each, dim=-1) for each in (support, words))
            to_words = distances(words, support)  # (E, n, m)
            if self.options.zero_distance == "drop":
                to_words = to_words.masked_fill(to_words == 0, torch.inf)
            classes = ((tags + 1) // 2).expand_as(to_words)
            closest = to_words.new_full((*to_words.shape[:2], 1 + len(batch.tagset.types)), torch.inf)
            return in_rows(-closest.scatter_reduce(2, classes, to_words, "amin"), query)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The similarity to the nearest support word of each class; ties go to O, then to the first type."""
        return Chain(self.similarity(encoded, batch).mean(0), words_of(encoded, batch).mask, io=True)
