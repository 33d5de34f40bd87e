"""Options of TPM-MI (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import ImageSetOptions
from mnerkit.options import DROPOUT, LAYERS, SIZE, option


@dataclass(frozen=True, kw_only=True)
class TpmMiOptions(ImageSetOptions):
    """Options of the layers over the images, and of the network that makes the prefix."""

    pos: Literal["order", "none"] = option("order", "position vectors by the order of images, or none")
    graph_layers: int = option(1, "transformer layers over the images", LAYERS)
    heads: int = option(8, "attention heads of these layers; must divide the width of the image vectors", LAYERS)
    prompt_hidden: int = option(1024, "hidden width of the network that makes keys and values", SIZE)
    dropout: float = option(0.1, "dropout in the layers over the images and on the word states", DROPOUT)
