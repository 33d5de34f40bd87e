"""A head turns word states into entities: a loss in training, tags after it."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from mnerkit.data.batch import Batch
from mnerkit.data.tagset import TagSet
from mnerkit.encoders.base import WordStates


class Head(nn.Module):
    """Base of all heads.

    A head is made from its options alone (`--model.head.X`); `build` gives it the width of the word states and the
    tags, and creates its weights. Losses of the E environments are summed, their emissions are averaged.
    Only rows of `batch.query` are scored; only words of `batch.text.read_mask` are seen.

    Attributes:
        name: what the user types (`--model.head NAME`).
        train_mode: whether it trains on plain batches or on episodes; the datamodule follows.
    """

    name: ClassVar[str]
    train_mode: ClassVar[Literal["plain", "episodic"]] = "plain"

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the weights for states of `width` and the tags of `tagset` (episodic heads ignore the latter)."""
        raise NotImplementedError

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Mean loss over the query rows, summed over environments; a scalar in float32."""
        raise NotImplementedError

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """One list of tag numbers (of `batch.tagset`) for each query row, as long as the post has words.

        Words that the tower did not see are O.
        """
        raise NotImplementedError
