"""Plugin `gifr`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.gifr.model import GifrEncoder
from mnerkit_plugins.gifr.options import GifrOptions


class GifrTagger(PictureTagger):
    """GIFR: several images as prompts of BERT, weighted by how relevant each is; `relevance` is its first stage."""

    plugin = "gifr"
    options_class = GifrOptions
    encoder: GifrEncoder

    def make_encoder(self) -> GifrEncoder:
        text = self.make_text()
        return GifrEncoder(text, self.make_sight(text), self.options)
