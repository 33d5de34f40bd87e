"""What heads share that train a layer of their own on the source types, and tag other types from a support."""

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
    """Base: a softmax (or CRF) that trains the encoder on plain batches of the source types and is dropped after.

    Boundary emissions of an encoder train with that layer. Its options have `dropout`, of the layer's input.

    Attributes:
        layer: `softmax` or `crf`.
    """

    train_mode: ClassVar[Literal["plain", "episodic"]] = "plain"
    reads_support: ClassVar[bool] = True
    layer: Literal["softmax", "crf"] = "softmax"

    def new_layer(self, width: int, tagset: TagSet) -> SoftmaxHead | CRFHead:
        """A layer for states of `width` and the tags of `tagset`, with new weights."""
        kind: type[SoftmaxHead | CRFHead] = SoftmaxHead if self.layer == "softmax" else CRFHead
        made = kind(dropout=self.options.dropout)
        made.build(width, tagset)
        return made

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the layer for the source types."""
        self.source = self.new_layer(width, tagset)

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """The layer's own loss on the source types."""
        return self.source.loss(encoded, batch)
