"""Plugin `adacan`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.adacan.model import AdacanEncoder
from mnerkit_plugins.adacan.options import AdacanOptions


class AdacanTagger(PictureTagger):
    """AdaCAN: words look at regions, what they see looks at words, and a filter weighs what both found (AAAI 2018)."""

    plugin = "adacan"
    options_class = AdacanOptions

    def make_encoder(self) -> AdacanEncoder:
        text = self.make_text()
        return AdacanEncoder(text, self.make_sight(text) if self.options.use_image else None, self.options)
