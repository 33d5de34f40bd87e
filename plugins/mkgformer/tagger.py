"""Plugin `mkgformer`."""

from __future__ import annotations

from dataclasses import replace

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.two_streams import TwoStreamTagger
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit_plugins.mkgformer.model import MkgformerEncoder
from mnerkit_plugins.mkgformer.options import MkgformerOptions


class MkgformerTagger(TwoStreamTagger):
    """MKGformer: vision attends to text, and text takes vision into its feed-forward networks (SIGIR 2022)."""

    plugin = "mkgformer"
    options_class = MkgformerOptions
    encoder: MkgformerEncoder

    def make_encoder(self) -> MkgformerEncoder:
        return MkgformerEncoder(*self.two_towers(), self.options)

    def needs(self) -> Needs:
        """Crops of one size, the surest first: those that are read smaller are shrunk by the encoder."""
        o, reader, vision = self.options, self.towers["text"].reader, self.towers["vision"]
        if o.vision == CAPTIONS:
            return Needs(reader, frozenset({"captions"}), caption_reader=vision.reader)
        size = o.small_size if o.crop_sets == "small" else o.crop_size
        count = o.max_objects + (o.small_objects if o.crop_sets != "large" else 0)
        return Needs(reader, frozenset({"objects"}), picture=replace(vision.picture, size=size), max_objects=count)
