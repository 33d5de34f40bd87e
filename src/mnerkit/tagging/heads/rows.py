"""The query and support words of a batch, as every head sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mnerkit.data.batch import Batch
from mnerkit.encoders.base import WordStates
from mnerkit.errors import DataError


class Words(NamedTuple):
    """Some rows of a batch: `states` (E, R, W, d) float32, `mask` (R, W) of the words that were read, `rows` (R,)."""

    states: Tensor
    mask: Tensor
    rows: Tensor

    def tags(self, batch: Batch) -> Tensor:
        """(R, W) tag numbers of these rows.

        Raises:
            DataError: the posts carry no tags.
        """
        if batch.tags is None:
            raise DataError(f"post {batch.posts[0].id!r} carries no tags: training and support posts need one a word")
        return batch.tags[self.rows]


def words_of(encoded: WordStates, batch: Batch, query: bool = True) -> Words:
    """The query rows of a batch, or (`query=False`) the support rows of an episode."""
    rows = torch.nonzero(batch.query if query else ~batch.query).flatten()
    return Words(encoded.states[:, rows].float(), batch.text.read_mask[rows], rows)


def add_boundary(emissions: Tensor, encoded: WordStates, words: Words) -> Tensor:
    """Add an encoder's B/I/O emissions, where it has any, to those of all tags of the same role.

    Args:
        emissions: (E, R, W, K) over O, B-x, I-x, B-y, I-y ...
        encoded: what the encoder returned.
        words: the rows.
    """
    if encoded.boundary is None:
        return emissions
    roles = torch.arange(emissions.shape[-1], device=emissions.device)
    roles = torch.where(roles == 0, 2, 1 - roles % 2)  # O is 2, B-x 0, I-x 1
    return emissions + encoded.boundary[words.rows].float()[..., roles]


def mean_over_rows(losses: Tensor, mask: Tensor) -> Tensor:
    """Sum over environments of the mean over the rows that have a word; zero (with a gradient) where none has.

    Args:
        losses: (E, R), zero in rows without words.
        mask: (R, W) bool.
    """
    return losses.sum() / mask.any(1).sum().clamp_min(1)


def as_long_as_posts(decoded: Sequence[Sequence[int]], batch: Batch, words: Words) -> list[list[int]]:
    """Tag numbers for every word of the query posts: O (0) for words that the tower did not see."""
    lengths = batch.text.word_mask[words.rows].sum(1).tolist()
    return [[*row, *[0] * (length - len(row))] for row, length in zip(decoded, lengths, strict=True)]
