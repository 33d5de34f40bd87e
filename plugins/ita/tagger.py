"""Plugin `ita`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.two_views import TwoViewTagger
from mnerkit.towers.interface import WordStates
from mnerkit_plugins.ita.model import ItaEncoder
from mnerkit_plugins.ita.options import ItaOptions


class ItaTagger(TwoViewTagger):
    """ITA: captions, labels of objects and written words stand for the picture; the text alone agrees (NAACL 2022)."""

    plugin = "ita"
    options_class = ItaOptions

    @property
    def agreement(self) -> float:
        """Weight of the agreement; 0 with a head that can't compare two views."""
        return self.options.agreement if self.head.has_divergence else 0.0

    def make_encoder(self) -> ItaEncoder:
        return ItaEncoder(self.make_text(), self.options, aligned=self.agreement > 0)

    def second_parts(self) -> dict[str, Any]:
        return {"second": tuple(self.options.context), "max_objects": self.options.max_labels}

    def losses_of(self, encoded: WordStates, batch: Batch) -> dict[str, Tensor]:
        """The losses of the text alone (`head`), of the text with its context, and of their agreement.

        Posts without a context have one view, and count in the first loss alone.
        """
        if len(encoded.states) == 1:
            return {"context": self.head.loss(encoded, batch)}
        needs = self.needs()
        has_context = [bool(needs.second_segment(post)) for post in batch.posts]
        rows = torch.tensor(has_context, device=batch.query.device)
        context, text = (replace(encoded, states=states) for states in encoded.states.split(1))
        counted = batch
        if not all(has_context):
            play = batch.text.word_mask if batch.play_mask is None else batch.play_mask
            counted = replace(batch, play_mask=play & (rows | ~batch.query).unsqueeze(1))
        losses = {"head": self.head.loss(text, batch), "context": self.head.loss(context, counted)}
        if self.agreement:
            losses["agreement"] = self.head.word_divergence(encoded, batch, rows, self.options.agreement_temperature)
        return losses

    def loss_weights(self) -> dict[str, float]:
        o = self.options
        return {"head": o.text_weight, "context": o.context_weight, "agreement": self.agreement}
