"""Plugin `captions`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.heads.head import Head
from mnerkit.methods.two_views import TwoViewTagger, second_segment
from mnerkit.towers.interface import WordStates
from mnerkit_plugins.captions.model import CaptionsEncoder
from mnerkit_plugins.captions.options import CaptionsOptions


class CaptionsTagger(TwoViewTagger):
    """A text tower that reads the picture's caption as a second segment, and a head."""

    plugin = "captions"
    options_class = CaptionsOptions

    def __init__(self, options: CaptionsOptions | None = None, head: Head | None = None, **values: Any) -> None:
        """Extend `Tagger`: check that the head has a divergence if `agreement` needs one.

        Raises:
            UsageError: the head has no divergence.
        """
        super().__init__(options, head, **values)
        if self.options.agreement:
            self.check_divergence()

    def make_encoder(self) -> CaptionsEncoder:
        return CaptionsEncoder(self.make_text(), self.options)

    def losses_of(self, encoded: WordStates, batch: Batch) -> dict[str, Tensor]:
        losses = super().losses_of(encoded, batch)
        if self.options.agreement and len(encoded.states) == 2:
            losses["agreement"] = self.head.divergence(encoded, batch, second_segment(batch.text).any(1))
        return losses

    def loss_weights(self) -> dict[str, float]:
        return {"agreement": self.options.agreement}
