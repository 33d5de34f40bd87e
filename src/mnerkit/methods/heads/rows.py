"""The query and support words of a batch, as every head sees them, and what heads do with scores of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import DataError
from mnerkit.towers.interface import WordStates

# emission of a tag that the support says nothing of: finite, so that nothing turns into NaN, and out of reach
ABSENT = -1e4


class Words(NamedTuple):
    """Some rows of a batch.

    Attributes:
        states: (E, R, W, d) float32.
        mask: (R, W) bool, words that were read.
        play: (R, W) bool, those of them whose tag counts.
        rows: (R,) long, numbers of the rows.
    """

    states: Tensor
    mask: Tensor
    play: Tensor
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
    mask = batch.text.read_mask[rows]
    play = mask if batch.play_mask is None else mask & batch.play_mask[rows]
    return Words(encoded.states[:, rows].float(), mask, play, rows)


def support_of(encoded: WordStates, batch: Batch, head: str) -> tuple[Tensor, Tensor]:
    """States (E, m, d) and tags (m,) of the m support words whose tags count, m > 0.

    Args:
        encoded: what the encoder returned.
        batch: an episode.
        head: name of the head that asks.

    Raises:
        DataError: there is no such word, or the support carries no tags.
    """
    words = words_of(encoded, batch, query=False)
    if not words.play.any():
        raise DataError(f"{head} learns the types from support posts, and the batch holds none with words")
    return words.states[:, words.play], words.tags(batch)[words.play]


def in_rows(values: Tensor, words: Words) -> Tensor:
    """Values (E, n, K) of the n words that were read, put back in their rows: (E, R, W, K), 0 elsewhere."""
    rows = values.new_zeros(len(values), *words.mask.shape, values.shape[-1])
    rows[:, words.mask] = values
    return rows


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


def cross_entropy(log_p: Tensor, gold: Tensor, mask: Tensor) -> Tensor:
    """Sum over environments of the mean over words; zero (with a gradient) where there is no word.

    Args:
        log_p: (E, R, W, K).
        gold: (R, W) long.
        mask: (R, W) bool.
    """
    losses = -log_p.gather(-1, gold.expand(len(log_p), -1, -1).unsqueeze(-1)).squeeze(-1)
    return losses.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)


def likeliest(scores: Tensor, words: Words) -> list[list[int]]:
    """Numbers of the highest scores (R, W, K), the first where several are, of the words that were read."""
    read = words.mask.sum(1).tolist()
    return [row[:count] for row, count in zip(scores.argmax(-1).tolist(), read, strict=True)]


def from_io(classes: Iterable[Sequence[int]]) -> list[list[int]]:
    """BIO tags of IO classes (0 is O, k is the k-th type): words of one type that stand together are one entity."""
    return [
        [this and 2 * this - (before != this) for before, this in zip([0, *row], row, strict=False)] for row in classes
    ]


def as_long_as_posts(decoded: Sequence[Sequence[int]], batch: Batch, words: Words) -> list[list[int]]:
    """Tag numbers for every word of the query posts: O (0) for words that the tower did not see."""
    lengths = batch.text.word_mask[words.rows].sum(1).tolist()
    return [[*row, *[0] * (length - len(row))] for row, length in zip(decoded, lengths, strict=True)]
