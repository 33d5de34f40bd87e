"""Plugin `umgf`."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import StepLR

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.umgf.model import UmgfEncoder
from mnerkit_plugins.umgf.options import UmgfOptions

DROP_EVERY = 2  # epochs


class UmgfTagger(PictureTagger):
    """UMGF: words and grounded objects in one graph, each taking in the other through gates (AAAI 2021)."""

    plugin = "umgf"
    options_class = UmgfOptions
    encoder: UmgfEncoder

    def make_encoder(self) -> UmgfEncoder:
        text = self.make_text()
        return UmgfEncoder(text, None if self.options.links == "none" else self.make_sight(text), self.options)

    def views(self) -> tuple[str, ...]:
        return (self.encoder.view,)

    def configure_optimizers(self) -> Any:
        """Extend `Method`: with `rate_decay` the rates drop after every two epochs."""
        configured, drop = super().configure_optimizers(), self.options.rate_decay
        if drop == 1:
            return configured
        schedule = StepLR(configured["optimizer"], DROP_EVERY, drop)
        return {**configured, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
