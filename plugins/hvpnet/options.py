"""Options of the plugin `hvpnet`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import ObjectOptions, SubwordOptions, TrunkOptions
from mnerkit.options import DROPOUT, LAYERS, SIZE, option


@dataclass(frozen=True, kw_only=True)
class HvpnetOptions(ObjectOptions, TrunkOptions, SubwordOptions, text="tiny-bert"):
    """Options of the visual prefix and its gates. `released` is a fault of the authors' code, for comparison."""

    pictures: Literal["both", "image", "objects"] = option("both", "pictures of the prefix: image, objects, or both")
    prefix_grid: int = option(2, "each stage is pooled to this many rows and columns of positions", LAYERS)
    pool: Literal["adaptive", "released"] = option(
        "adaptive",
        "pooling of a stage whose side the grid does not divide: every place counts; or, a fault of the authors' code, "
        "the last row and column of a 7 x 7 map are not read",
        since=("0.1.0", "adaptive"),
    )
    layout: Literal["proper", "released"] = option(
        "proper",
        "a position holds the channels of one place; or, a fault of the authors' code, what a reshape makes of them, "
        "which mixes places. To compute what that code computes give --ablation released",
    )
    prefix_heads: Literal["proper", "released"] = option(
        "proper",
        "a head sees its own columns of all positions; or, a fault of the authors' code, all columns of some "
        "positions, so that it sees one or two pictures. The latter needs absent zeros",
        since=("0.1.0", "proper"),
    )
    prefix_map: Literal["shared", "per_layer"] = option(
        "shared",
        "two maps from all stages to keys and values, for all layers, as in the authors' code; or a map for each stage "
        "and then one for each layer, as in the paper",
        since=("0.1.0", "shared"),
    )
    hidden: int = option(800, "width between the two shared maps from stages to keys and values", SIZE)
    stages: Literal["all", "last", "by_layer"] = option(
        "all",
        "stages of which a layer's prefix is made: all, weighed by gates; the last one alone (the paper's Flat); or "
        "one, deeper ones for deeper layers (1T3)",
        since=("0.1.0", "all"),
    )
    gate: bool = option(True, "weigh the stages for each layer; false takes their mean")
    gate_input: Literal["flat", "mean"] = option(
        "flat", "a gate reads all positions side by side, or their mean; for captions always their mean"
    )
    standardise: bool = option(
        False,
        "standardise each channel of the stages to mean 0 and deviation 1 over a batch; helps short training. Has no "
        "effect on captions",
    )
    caption_keys: Literal["fresh", "own"] = option(
        "fresh",
        "with captions in place of pictures: the prefix is made by the maps of this method (fresh), or it is what each "
        "layer's own key and value maps make of the caption, which the text tower reads as it trains (own); then there "
        "are no stages, maps and gates",
        since=("0.1.0", "fresh"),
    )
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)

    def check(self) -> None:
        """Refuse readings of which one undoes the other."""
        super().check()
        if self.prefix_heads == "released" and self.absent != "zeros":
            # a column of the mask would belong to other pictures in each head
            raise UsageError(
                "--model.prefix_heads released: absent pictures can't be masked; give --model.absent zeros"
            )
        if self.caption_keys == "own" and self.vision != "captions":
            raise UsageError(
                "--model.caption_keys own: pictures have no keys of the text tower; give fresh, or "
                "--model.vision captions"
            )
        if self.prefix_map == "per_layer" and self.layout == "released":
            raise UsageError("--model.prefix_map per_layer: a map for each stage needs --model.layout proper")
