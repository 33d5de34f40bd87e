"""Options of the plugin `umt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import BertAdamOptions, PictureOptions, SubwordOptions, TrunkOptions
from mnerkit.options import DROPOUT, LAYERS, SHARE, SIZE, WEIGHT, option


@dataclass(frozen=True, kw_only=True)
class UmtOptions(PictureOptions, TrunkOptions, SubwordOptions, BertAdamOptions):
    """Options of the attention between words and regions, and of the span task."""

    heads: int = option(12, "attention heads of all layers; must divide the text tower's width", LAYERS)
    hidden: int | None = option(
        None, "hidden width of the layers' feed-forward networks; default: four times the text tower's width", SIZE
    )
    visual_layers: int = option(1, "layers in which words attend to regions (TL_1)", LAYERS)
    region_layers: int = option(1, "layers in which regions attend to words (TL_2)", LAYERS)
    textual_layers: int = option(1, "layers in which words attend to what regions have read (TL_3)", LAYERS)
    fuse: Literal["both", "visual", "none"] = option(
        "both",
        "states that are tagged: image-aware words beside gated visual ones; the main words in place of the former "
        "(visual); or the main words alone, without pictures (none)",
    )
    gate: bool = option(True, "the visual words are scaled by a gate")
    span_mix: float = option(
        0.5,
        "share of the typed scores in what is decoded; the rest are the span task's scores, shared among the types. 1 "
        "decodes the typed ones alone. The heads softmax, crf and finetune mix, others decode their own scores",
        SHARE,
    )
    span_weight: float = option(0.5, "weight of the span task's loss; with 0 and span_mix 1 there is no task", WEIGHT)
    dropout: float = option(0.1, "dropout of the word states and in all layers", DROPOUT)
