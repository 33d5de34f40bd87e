"""Options of the plugin `hvpnet`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import ObjectOptions, SubwordOptions
from mnerkit.options import DROPOUT, LAYERS, SIZE, option


@dataclass(frozen=True, kw_only=True)
class HvpnetOptions(ObjectOptions, SubwordOptions, text="tiny-bert"):
    """Options of the visual prefix and its gates."""

    pictures: Literal["both", "image", "objects"] = option("both", "pictures of the prefix: image, objects, or both")
    prefix_grid: int = option(2, "each stage is pooled to this many rows and columns of positions", LAYERS)
    hidden: int = option(800, "width between the two maps from stages to keys and values", SIZE)
    gate: bool = option(True, "weigh the stages for each layer; false takes their mean")
    gate_input: Literal["flat", "mean"] = option(
        "flat", "a gate reads all positions side by side, or their mean; for captions always their mean"
    )
    layout: Literal["proper", "released"] = option(
        "proper", "a position holds the channels of one place, or what the reshape in the authors' code makes of them"
    )
    standardise: bool = option(
        False,
        "standardise each channel of the stages to mean 0 and deviation 1 over a batch; helps short training. Has no "
        "effect on captions",
    )
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)
