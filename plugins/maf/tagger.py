"""Plugin `maf`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.maf.model import MafEncoder
from mnerkit_plugins.maf.options import MafOptions


class MafTagger(PictureTagger):
    """MAF: what words see counts as far as picture and text match; both are aligned by a contrast (WSDM 2022)."""

    plugin = "maf"
    options_class = MafOptions
    encoder: MafEncoder

    def make_encoder(self) -> MafEncoder:
        text = self.make_text()
        return MafEncoder(text, self.make_sight(text), self.options)

    def loss_weights(self) -> dict[str, float]:
        alpha = self.options.alpha
        return {"head": alpha, "match": 1 - alpha, "align": 1 - alpha}
