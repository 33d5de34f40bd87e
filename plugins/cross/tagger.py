"""Plugin `cross`."""

from __future__ import annotations

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.cross.model import CrossEncoder
from mnerkit_plugins.cross.options import CrossOptions


class CrossTagger(PictureTagger):
    """One gated cross-attention from words to the regions of the pictures."""

    plugin = "cross"
    options_class = CrossOptions

    def make_encoder(self) -> CrossEncoder:
        o = self.options
        return CrossEncoder(self.make_text(), self.vision_tower("vision", o.vision, freeze=o.freeze_vision), o)

    def needs(self) -> Needs:
        reader, picture = self.towers["text"].reader, self.towers["vision"].picture
        return Needs(reader, frozenset({"whole"}), picture, max_images=self.options.max_images)

    def loss_weights(self) -> dict[str, float]:
        return {"matching": self.options.matching}
