"""Plugin `vec_mner`."""

from __future__ import annotations

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.two_streams import TwoStreamTagger
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit_plugins.vec_mner.model import VecMnerEncoder
from mnerkit_plugins.vec_mner.options import VecMnerOptions


class VecMnerTagger(TwoStreamTagger):
    """VEC-MNER: two towers that exchange what an attention over tokens leaves of vision, and a contrast (ICMR 2024)."""

    plugin = "vec_mner"
    options_class = VecMnerOptions
    encoder: VecMnerEncoder

    def make_encoder(self) -> VecMnerEncoder:
        return VecMnerEncoder(*self.two_towers(), self.options)

    def needs(self) -> Needs:
        """The first picture, and its crops, the surest first; all at the picture's size, which the encoder shrinks."""
        o, reader, vision = self.options, self.towers["text"].reader, self.towers["vision"]
        if o.vision == CAPTIONS:
            return Needs(reader, frozenset({"captions"}), caption_reader=vision.reader)
        crops = o.max_objects + o.small_objects
        views = {"whole", "objects"} if crops else {"whole"}
        return Needs(reader, frozenset(views), picture=vision.picture, max_objects=crops or 1)

    def loss_weights(self) -> dict[str, float]:
        return {"contrast": self.options.contrast_weight}
