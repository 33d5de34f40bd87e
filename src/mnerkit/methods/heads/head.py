"""A head turns word states into entities: a loss in training, tags after it; and what heads share.

That is the query and support words of a batch, and what is done with scores of words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import DataError
from mnerkit.methods.heads.options import HeadOptions
from mnerkit.methods.post_states import PostStates
from mnerkit.options import make
from mnerkit.towers.interface import Encoder, WordStates


class Head(nn.Module):
    """Base of all heads.

    A head is made from its options alone (`--model.head.X`); `build` gives it the width of the word states and the
    tags, and creates its weights. Losses of the E environments are summed, their emissions are averaged.
    Only rows of `batch.query` are scored; only words of `batch.text.read_mask` are seen, and of those, words that
    `batch.play_mask` leaves out are in no loss and no support.

    Attributes:
        name: what the user types (`--model.head NAME`).
        options_class: declares its options (`--model.head.X`).
        train_mode: whether it trains on plain batches or on episodes; the datamodule follows.
        reads_support: whether it tags from a support, so that dev and test are episodes. A head that trains on plain
            batches and reads a support is built with the training types.
        tunes: whether tagging takes gradients.
        tunes_encoder: whether tagging changes the encoder, too, for the time of an episode.
        compares: whether it has a `divergence`.
        choices: settings of the decoding from which dev chooses; empty for most heads.
    """

    name: ClassVar[str]
    options_class: ClassVar[type[HeadOptions]] = HeadOptions
    train_mode: ClassVar[Literal["plain", "episodic"]] = "plain"
    reads_support: ClassVar[bool] = False
    tunes: ClassVar[bool] = False
    tunes_encoder: bool = False
    compares: ClassVar[bool] = False
    choices: Sequence[float] = ()

    def __init__(self, options: HeadOptions | None = None, **given: Any) -> None:
        """Keep the options.

        Args:
            options: of the class's `options_class`; default: made of `given`.
            given: single options by name.

        Raises:
            UsageError: an unknown option, or a value that one does not take.
        """
        super().__init__()
        self.options: Any = make(self.options_class, given) if options is None else options

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the weights for states of `width` and the tags of `tagset` (episodic heads ignore the latter)."""
        raise NotImplementedError

    def prepare(self, posts: Sequence[Post], tagset: TagSet, ignore: bool = False) -> None:
        """Look at the training posts, once before training; what is learnt from them goes into buffers.

        Args:
            posts: the training posts.
            tagset: the training types.
            ignore: tags of other types are unknown, not O.
        """

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Mean loss over the query rows, summed over environments; a scalar in float32."""
        raise NotImplementedError

    def divergence(self, encoded: WordStates, batch: Batch, rows: Tensor) -> Tensor:
        """How far the tags of the second environment are from those of the first: a KL divergence, a scalar in float32.

        The first is the teacher: no gradient goes through it. In the unit of `loss` (a post, or a word), a mean over
        those query rows that are in `rows`.

        Args:
            encoded: states of two environments.
            batch: what they were read from.
            rows: (B,) bool.
        """
        raise NotImplementedError

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """One list of tag numbers (of `batch.tagset`) for each query row, as long as the post has words.

        Words that the tower did not see are O.
        """
        raise NotImplementedError

    @contextmanager
    def adapted(
        self, encoder: Encoder | PostStates, batch: Batch, *, trace: bool = False, seed: int = 0
    ) -> Iterator[tuple[Head, WordStates]]:
        """The head that decodes this batch and the states that it decodes; other than this head where it `tunes`.

        What is tuned is as before when the context ends.

        Args:
            encoder: encodes the batch; an `Encoder` where the head `tunes_encoder`.
            batch: what will be decoded.
            trace: ask the encoder for its trace.
            seed: with the episode's number, the only source of randomness.
        """
        yield self, encoder(batch, trace=trace)

    def decodings(self, encoded: WordStates, batch: Batch) -> list[list[list[int]]]:
        """What `decode` would return under each of `choices`; without choices, what it returns."""
        return [self.decode(encoded, batch)]

    def choose(self, place: int) -> None:
        """Decode with `choices[place]` from now on; kept in a buffer, so that checkpoints carry it."""


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
