"""Few-shot tagging by the nearest support word (NNShot)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.heads.head import as_long_as_posts, from_io, in_rows, likeliest, support_of, words_of
from mnerkit.methods.heads.options import NearestOptions
from mnerkit.methods.heads.transfer import TransferHead
from mnerkit.nn.prototypes import distances
from mnerkit.towers.interface import WordStates


class NearestHead(TransferHead):
    """Trains a softmax on the source types; then each query word gets the IO tag of its nearest support word.

    NNShot (Yang and Katiyar, 2020, "Simple and effective few-shot named entity recognition with structured nearest
    neighbor learning"). Neighbouring words of one type are one entity. Distances are averaged over environments, in
    each of which the nearest word of every tag is sought apart.
    """

    name: ClassVar[str] = "nearest"
    options_class = NearestOptions

    def similarity(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Minus the squared distance of each query word to the nearest support word of each IO tag.

        Returns:
            (E, Q, W, 1 + N) float32 over O and the N types in play; -inf for tags that no support word has, and 0 for
            words that were not read.

        Raises:
            DataError: there is no support, or it carries no tags.
        """
        support, tags = support_of(encoded, batch, self.name)
        query = words_of(encoded, batch)
        words = query.states[:, query.mask]
        with torch.autocast(words.device.type, enabled=False):
            if self.options.normalise:
                support, words = (nn.functional.normalize(each, dim=-1) for each in (support, words))
            apart = distances(words, support)  # (E, n, m)
            classes = ((tags + 1) // 2).expand_as(apart)
            closest = apart.new_full((*apart.shape[:2], 1 + len(batch.tagset.types)), torch.inf)
            return in_rows(-closest.scatter_reduce(2, classes, apart, "amin"), query)

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """The tag of the nearest support word; of equally near ones O, then the first type."""
        words = words_of(encoded, batch)
        classes = likeliest(self.similarity(encoded, batch).mean(0), words)
        return as_long_as_posts(from_io(classes), batch, words)
