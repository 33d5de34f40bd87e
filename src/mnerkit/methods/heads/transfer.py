"""The base of heads that train a layer on the source types and tag other types from a support."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.heads.head import Head
from mnerkit.methods.heads.softmax import SoftmaxHead
from mnerkit.towers.interface import WordStates


class TransferHead(Head):
    """Base of heads that train the encoder with a softmax (or CRF) on the source types and do not use it afterwards.

    Boundary emissions of an encoder are trained with that layer. Subclasses have an option `dropout` for its input.

    Attributes:
        layer: `softmax` or `crf`.
    """

    train_mode: ClassVar[Literal["plain", "episodic"]] = "plain"
    reads_support: ClassVar[bool] = True
    layer: Literal["softmax", "crf"] = "softmax"

    def new_layer(self, width: int, tagset: TagSet) -> SoftmaxHead | CRFHead:
        """Create a layer for states of `width` and the tags of `tagset`, with new weights."""
        kind: type[SoftmaxHead | CRFHead] = SoftmaxHead if self.layer == "softmax" else CRFHead
        layer = kind(dropout=self.options.dropout)
        layer.build(width, tagset)
        return layer

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the layer for the source types."""
        self.source = self.new_layer(width, tagset)

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """The loss of the layer on the source types."""
        return self.source.loss(encoded, batch)
