"""Plugin `captions`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.errors import UsageError
from mnerkit.methods.heads.head import Head
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.interface import WordStates
from mnerkit_plugins.captions.model import CaptionsEncoder, second_segment
from mnerkit_plugins.captions.options import CaptionsOptions


class CaptionsTagger(Tagger):
    """A text tower that reads the picture's caption as a second segment, and a head."""

    plugin = "captions"
    options_class = CaptionsOptions

    def __init__(self, options: CaptionsOptions | None = None, head: Head | None = None, **values: Any) -> None:
        """Extend `Tagger`: check that the head has a divergence if `agreement` needs one.

        Raises:
            UsageError: the head has no divergence.
        """
        super().__init__(options, head, **values)
        if self.options.agreement and not self.head.has_divergence:
            raise UsageError(
                f"agreement compares two distributions over tags: give head crf or softmax, not {self.head.name}"
            )

    def make_encoder(self) -> CaptionsEncoder:
        o = self.options
        tower = self.text_tower(
            "text",
            o.text,
            freeze=o.freeze,
            max_tokens=o.max_tokens,
            word_pool=o.word_pool,
            second_words=o.second_words,
        )
        return CaptionsEncoder(tower, o)

    def losses_of(self, encoded: WordStates, batch: Batch) -> dict[str, Tensor]:
        losses = super().losses_of(encoded, batch)
        if self.options.agreement and len(encoded.states) == 2:
            losses["agreement"] = self.head.divergence(encoded, batch, second_segment(batch.text).any(1))
        return losses

    def loss_weights(self) -> dict[str, float]:
        return {"agreement": self.options.agreement}

    def needs(self) -> Needs:
        reader = self.towers["text"].reader
        return Needs(reader, views=frozenset({"second"}), max_images=self.options.max_images)
