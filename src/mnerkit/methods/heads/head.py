"""A head turns word states into entities: a loss in training, tags after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tagset import TagSet
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
