"""Plugin `gvatt`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.gvatt.model import GvattEncoder
from mnerkit_plugins.gvatt.options import GvattOptions


class GvattTagger(PictureTagger):
    """GVATT: a post attends once to the regions of its picture, and gates mix what it saw into its words (ACL 2018)."""

    plugin = "gvatt"
    options_class = GvattOptions

    def make_encoder(self) -> GvattEncoder:
        text = self.make_text()
        return GvattEncoder(text, self.make_sight(text) if self.options.use_image else None, self.options)
