"""Plugin `hvpnet`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.hvpnet.model import HvpnetEncoder
from mnerkit_plugins.hvpnet.options import HvpnetOptions

VIEWS = {"both": ("whole", "objects"), "image": ("whole",), "objects": ("objects",)}


class HvpnetTagger(PictureTagger):
    """HVPNet: image and objects as a visual prefix of every layer of the text tower (NAACL 2022 Findings)."""

    plugin = "hvpnet"
    options_class = HvpnetOptions

    def make_encoder(self) -> HvpnetEncoder:
        text = self.make_text()
        return HvpnetEncoder(text, self.make_sight(text), self.options)

    def views(self) -> tuple[str, ...]:
        return VIEWS[self.options.pictures]
