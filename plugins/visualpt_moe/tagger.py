"""Plugin `visualpt_moe`."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.visualpt_moe.model import VisualptMoeEncoder
from mnerkit_plugins.visualpt_moe.options import VisualptMoeOptions

# labels are read off the objects, which are only looked for where they are seen
VIEWS = {"image": "whole", "objects": "objects", "labels": "objects"}


class VisualptMoeTagger(PictureTagger):
    """VisualPT-MoE: five experts make a prefix of every layer, mixed by a router (DASFAA 2023)."""

    plugin = "visualpt_moe"
    options_class = VisualptMoeOptions
    encoder: VisualptMoeEncoder

    def make_encoder(self) -> VisualptMoeEncoder:
        text = self.make_text()
        return VisualptMoeEncoder(text, self.make_sight(text) if self.views() else None, self.options)

    def views(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(VIEWS[name] for name in self.options.experts() if name in VIEWS))

    def needs(self) -> Needs:
        """Extend `PictureTagger`: the captions, read as the words are."""
        needs, o = super().needs(), self.options
        if "caption" not in o.experts():
            return needs
        views = needs.views | {"captions"}
        return replace(needs, views=views, caption_reader=needs.reader, max_images=o.max_images)

    def other_rates(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """The routers have a learning rate of their own."""
        return {"routers": ([self.encoder.routers], self.options.router_lr)}

    def loss_weights(self) -> dict[str, float]:
        return {"head": 1 - self.options.alpha, "balance": self.options.alpha}
