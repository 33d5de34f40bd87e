"""Plugin `gmf`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.gmf.model import GmfEncoder
from mnerkit_plugins.gmf.options import GmfOptions


class GmfTagger(PictureTagger):
    """GMF: image and objects as a gated, refined visual prefix, and matching of sentences and images."""

    plugin = "gmf"
    options_class = GmfOptions

    def make_encoder(self) -> GmfEncoder:
        o, text = self.options, self.make_text()
        sight = self.make_sight(text) if o.vcg or o.matching else None
        if sight is not None and sight.kind == "captions" and o.csa:
            self.notes["switched_off"] = "cross-scale attention: captions have no height and width"
        return GmfEncoder(text, sight, o)

    def views(self) -> tuple[str, ...]:
        return ("whole", "objects") if self.options.vcg else ("whole",)

    def loss_weights(self) -> dict[str, float]:
        """Eq. 22."""
        return {"head": self.options.alpha, "matching": 1 - self.options.alpha}
