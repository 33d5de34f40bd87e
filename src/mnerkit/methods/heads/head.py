"""The base class of heads, which turn word states into a loss and tags, and functions that heads share.

The shared functions select the query and support words of a batch and handle scores of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import DataError
from mnerkit.methods.former_interface import adopt, former_attribute
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.chain import from_io as from_io  # heads import them from here
from mnerkit.methods.heads.chain import most_likely as most_likely
from mnerkit.methods.heads.options import HeadOptions, Reduction
from mnerkit.methods.post_states import PostStates
from mnerkit.options import make
from mnerkit.towers.interface import Encoder, WordStates


class Head(nn.Module):
    """Base of all heads.

    A head is created from its options (`--model.head.X`); `build` creates its weights for a width of the word states
    and a set of tags. Losses of the E environments are summed, their emissions are averaged. Only rows of `batch.query`
    are scored, and only words of `batch.text.read_mask` are read; words outside `batch.play_mask` contribute to no loss
    and no support.

    Attributes:
        name: name of the head (`--model.head NAME`).
        options_class: declares its options (`--model.head.X`).
        train_mode: whether it trains on plain batches or on episodes; the datamodule follows it.
        reads_support: whether it tags from a support, so that dev and test are episodes. A head that trains on plain
            batches and reads a support is built for the training types.
        tunes: whether tagging needs gradients.
        tunes_encoder: whether tagging also changes the encoder, for the time of an episode.
        has_divergence: whether it implements `divergence` and `word_divergence`.
        calibrated: whether probabilities of entities follow from a likelihood that was trained; else they follow from
            distances, and only their order means something.
        choices: decoding settings from which dev chooses; empty for most heads.
    """

    name: ClassVar[str]
    options_class: ClassVar[type[HeadOptions]] = HeadOptions
    train_mode: ClassVar[Literal["plain", "episodic"]] = "plain"
    reads_support: ClassVar[bool] = False
    tunes: ClassVar[bool] = False
    tunes_encoder: bool = False
    has_divergence: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    choices: Sequence[float] = ()
    compares = former_attribute("compares", "has_divergence")

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Take over what a head of release 0.1.0 defines under a former name."""
        super().__init_subclass__(**keywords)
        adopt(cls, {"compares": "has_divergence"})

    def __init__(self, options: HeadOptions | None = None, **values: Any) -> None:
        """Store the options.

        Args:
            options: an object of `options_class`; default: made from `values`.
            values: single options by name.

        Raises:
            UsageError: an option is unknown or has an invalid value.
        """
        super().__init__()
        self.options: Any = make(self.options_class, values) if options is None else options

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the weights for states of `width` and the tags of `tagset` (episodic heads ignore the latter)."""
        raise NotImplementedError

    def prepare(self, posts: Sequence[Post], tagset: TagSet, ignore: bool = False) -> None:
        """Read the training posts, once before training, and store statistics in buffers.

        Args:
            posts: the training posts.
            tagset: tags of the training types.
            ignore: whether tags of other types are unknown instead of O.
        """

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Mean loss over the query rows, summed over environments; a scalar in float32."""
        raise NotImplementedError

    def divergence(self, encoded: WordStates, batch: Batch, rows: Tensor) -> Tensor:
        """KL divergence of the second environment's tag distribution from the first's, a scalar in float32.

        The first environment is the teacher and gets no gradient. The unit (a post, or a word) is that of `loss`; the
        result is the mean over the query rows in `rows`.

        Args:
            encoded: states of two environments.
            batch: the batch of the states.
            rows: (B,) bool.
        """
        raise NotImplementedError

    def word_divergence(self, encoded: WordStates, batch: Batch, rows: Tensor, temperature: float) -> Tensor:
        """`divergence` of the distributions of single words at a temperature, times its square, a scalar in float32.

        Summed over the words of a post, and averaged over the query rows in `rows` (`tempered_divergence`).

        Args:
            encoded: states of two environments, of which the first is the teacher.
            batch: the batch of the states.
            rows: (B,) bool.
            temperature: T.
        """
        raise NotImplementedError

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The scores from which the query rows are decoded; a head without them overrides `decode`."""
        raise NotImplementedError

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """Decode each query row: a list with one tag number (of `batch.tagset`) for each word of the post.

        Words that the tower did not read are O.
        """
        return pad_to_words(self.chain(encoded, batch).decode(), batch)

    @contextmanager
    def adapted(
        self, encoder: Encoder | PostStates, batch: Batch, *, trace: bool = False, seed: int = 0
    ) -> Iterator[tuple[Head, WordStates]]:
        """The head for decoding this batch, and the encoded batch; the head itself unless it `tunes`.

        Tuned weights are restored when the context ends.

        Args:
            encoder: encodes the batch; must be an `Encoder` if the head `tunes_encoder`.
            batch: the batch to decode.
            trace: whether the encoder returns its trace.
            seed: with the episode's number, the only source of randomness.
        """
        yield self, encoder(batch, trace=trace)

    def decodings(self, encoded: WordStates, batch: Batch) -> list[list[list[int]]]:
        """The results of `decode` for each of `choices`; a single one without choices."""
        return [self.decode(encoded, batch)]

    def choose(self, place: int) -> None:
        """Decode with `choices[place]` from now on; the choice is a buffer, so checkpoints contain it."""


# emission of a tag that the support does not contain: finite, to avoid NaN, and too low to be chosen
ABSENT = -1e4


class Words(NamedTuple):
    """Words of some rows of a batch.

    Attributes:
        states: (E, R, W, d) float32.
        mask: (R, W) bool, words that the tower read.
        play: (R, W) bool, words that were read and whose tag counts.
        rows: (R,) long, numbers of the rows.
        places: (n,) long, numbers r * W + w of the words of a query that were read; of a support, of those in play.
    """

    states: Tensor
    mask: Tensor
    play: Tensor
    rows: Tensor
    places: Tensor

    def flat(self) -> Tensor:
        """States (E, n, d) of the words at `places`."""
        return self.states.flatten(1, 2).index_select(1, self.places)

    def tags(self, batch: Batch) -> Tensor:
        """(R, W) tag numbers of these rows.

        Raises:
            DataError: the posts have no tags.
        """
        if batch.tags is None:
            raise DataError(f"post {batch.posts[0].id!r} has no tags: training and support posts need one a word")
        return batch.tags[self.rows]


def words_of(encoded: WordStates, batch: Batch, query: bool = True) -> Words:
    """The query rows of a batch, or (`query=False`) the support rows of an episode."""
    rows = batch.places.query if query else batch.places.support
    chosen = slice(None) if len(rows) == len(batch) else rows
    mask = batch.text.read_mask[chosen]
    play = mask if batch.play_mask is None else mask & batch.play_mask[chosen]
    places = batch.places.query_words() if query else batch.places.support_words()
    return Words(encoded.states[:, chosen].float(), mask, play, rows, places)


def support_of(encoded: WordStates, batch: Batch, head: str) -> tuple[Tensor, Tensor]:
    """States (E, m, d) and tags (m,) of the m support words whose tags count, m > 0.

    Args:
        encoded: output of the encoder.
        batch: an episode.
        head: name of the head, for the error message.

    Raises:
        DataError: there is no such word, or the support has no tags.
    """
    words = words_of(encoded, batch, query=False)
    if not len(words.places):
        raise DataError(f"{head} learns the types from support posts, and the batch contains none with words")
    return words.flat(), words.tags(batch).flatten()[words.places]


def in_rows(values: Tensor, words: Words) -> Tensor:
    """Put values (E, n, K) of the n words that were read back into rows: (E, R, W, K), 0 elsewhere."""
    rows = values.new_zeros(len(values), words.mask.numel(), values.shape[-1])
    return rows.index_copy(1, words.places, values).unflatten(1, words.mask.shape)


def add_boundary(emissions: Tensor, encoded: WordStates, words: Words) -> Tensor:
    """Add an encoder's B/I/O emissions, if it has any, to the emissions of all tags with the same role.

    Args:
        emissions: (E, R, W, K) over O, B-x, I-x, B-y, I-y ..., then the tags that belong to no type.
        encoded: output of the encoder.
        words: the rows.
    """
    if encoded.boundary is None:
        return emissions
    typed = emissions.shape[-1] - (encoded.boundary.shape[-1] - 3)  # 2N + 1
    tags = torch.arange(emissions.shape[-1], device=emissions.device)
    roles = torch.where(tags == 0, 2, 1 - tags % 2)  # O is 2, B-x 0, I-x 1
    roles = torch.where(tags < typed, roles, tags - typed + 3)
    return encoded.head_share * emissions + encoded.boundary[words.rows].float()[..., roles]


def reduced(losses: Tensor, mask: Tensor, reduction: Reduction) -> Tensor:
    """Sum over environments of the losses of rows, for each `post` with words or each `word`, or their `sum`.

    Args:
        losses: (E, R), zero in rows without words.
        mask: (R, W) bool, the words that count. Without any the result is zero, with a gradient.
        reduction: what the losses are averaged over.
    """
    if reduction == "sum":
        return losses.sum()
    counted = mask.any(1) if reduction == "post" else mask
    return losses.sum() / counted.sum().clamp_min(1)


def summed_over_words(losses: Tensor, words: Words, rows: Tensor) -> Tensor:
    """Losses of words (R, W), summed over the words of a post and averaged over the posts of `rows` (B,) bool."""
    mask = words.mask & rows[words.rows].unsqueeze(1)
    return reduced(losses.masked_fill(~mask, 0.0).sum(1).unsqueeze(0), mask, "post")


def cross_entropy(log_p: Tensor, gold: Tensor, mask: Tensor) -> Tensor:
    """Sum over environments of the mean over words; zero (with a gradient) if there are none.

    Args:
        log_p: (E, R, W, K).
        gold: (R, W) long.
        mask: (R, W) bool.
    """
    losses = -log_p.gather(-1, gold.expand(len(log_p), -1, -1).unsqueeze(-1)).squeeze(-1)
    return losses.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)


def pad_to_words(decoded: Sequence[Sequence[int]], batch: Batch, words: Words | None = None) -> list[list[int]]:
    """Tag numbers for every word of the query posts: O (0) for words that the tower did not read.

    `words` has no effect; heads written for release 0.1.0 pass it.
    """
    places = batch.places
    return [
        [*tags, *[0] * (places.lengths[row] - len(tags))] for row, tags in zip(places.queries, decoded, strict=True)
    ]
