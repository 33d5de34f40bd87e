"""Options of the plugin `cross`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import PictureOptions
from mnerkit.options import DROPOUT, LAYERS, WEIGHT, option


@dataclass(frozen=True, kw_only=True)
class CrossOptions(PictureOptions, freeze_vision=False, max_images=4):
    """Options of the cross-attention from words to regions, and of the gate."""

    attention: Literal["cosine", "dot"] = option("cosine", "cosines with a learnt temperature, or scaled dot products")
    heads: int = option(1, "attention heads; must divide the text tower's width", LAYERS)
    gate: bool = option(True, "a gate by which a word can ignore the pictures")
    dropout: float = option(0.2, "share of the word states' features dropped, before and after the fusion", DROPOUT)
    augment: bool = option(True, "mirror and shift pictures while training; off where the vision tower is frozen")
    matching: float = option(0.0, "weight of the image-text matching loss; 0 turns it off", WEIGHT)
