"""Plugin `mgips_cl`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.piece_words import PieceTags
from mnerkit.methods.two_streams import TwoStreamTagger
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit_plugins.mgips_cl.model import MgipsEncoder
from mnerkit_plugins.mgips_cl.options import MgipsOptions


class MgipsTagger(TwoStreamTagger):
    """MGIPS-CL: two streams exchange keys and values, an interweave of extractors, implicit positives."""

    plugin = "mgips_cl"
    options_class = MgipsOptions
    released_tags = PieceTags()
    encoder: MgipsEncoder

    def make_encoder(self) -> MgipsEncoder:
        return MgipsEncoder(*self.two_towers(), self.options)

    def needs(self) -> Needs:
        o, reader, vision = self.options, self.towers["text"].reader, self.towers["vision"]
        if o.vision == CAPTIONS:
            return Needs(reader, frozenset({"captions"}), caption_reader=vision.reader)
        picture = replace(vision.picture, size=o.crop_size)
        return Needs(reader, frozenset({"objects"}), picture=picture, max_objects=o.max_objects)

    def loss_weights(self) -> dict[str, float]:
        """Eq. 19."""
        return {"ips": self.options.w_ips, "cl": self.options.w_cl}

    def other_rates(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Separate learning rates for the vision tower and the contrastive heads; with `sides` for extractors, too."""
        o, encoder = self.options, self.encoder
        text: list[nn.Module] = [self.towers["text"]]
        vision: list[nn.Module] = [self.towers["vision"]]
        if o.mge_rates == "sides":
            text += [each for each in (encoder.mge_text,) if each is not None]
            vision += [each for each in (encoder.mge_image, encoder.crops) if each is not None]
        vision_lr = o.tower_lr if o.vision_lr is None else o.vision_lr
        groups: dict[str, tuple[list[nn.Module], float | None]] = {"vision": (vision, vision_lr)}
        if o.mge_rates == "sides":
            groups["text"] = text, o.tower_lr
        if encoder.contrast is not None:
            groups["contrast"] = [encoder.contrast], o.contrast_lr
        return groups

    def configure_optimizers(self) -> Any:
        """Extend `Method`: the contrastive heads may have a weight decay of their own."""
        configured, decay = super().configure_optimizers(), self.options.contrast_decay
        for group in configured["optimizer"].param_groups if decay is not None else ():
            if group["name"] == "contrast" and (group["weight_decay"] or self.options.decay == "all"):
                group["weight_decay"] = decay
        return configured
