"""Options of the plugin `mkgformer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import SubwordOptions, TextOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SIZE, Range, option


@dataclass(frozen=True, kw_only=True)
class MkgformerOptions(TextOptions, SubwordOptions, text="bert-base-uncased"):
    """Options of the two streams, of the crops, and of what passes between the streams."""

    vision: str = option(
        "openai/clip-vit-base-patch32",
        "the vision tower, a CLIP as deep as the text tower: tiny-vit, a hub name, or a folder. With captions, the "
        "image stream is a second text tower like the first, which reads the caption",
    )
    tiny_heads: int = option(4, "attention heads of tiny-bert and tiny-vit; other towers have their own", LAYERS)
    max_objects: int = option(
        3,
        "number of crops of the first image of a post that are read at crop_size. With captions neither this nor the "
        "other options of crops are used",
        SIZE,
    )
    crop_size: int = option(
        128, "height and width of these crops in pixels; a multiple of the vision tower's patch", SIZE
    )
    small_objects: int = option(
        3,
        "number of further crops, those that are less sure, read at small_size; the authors take them from another "
        "detector",
        SIZE,
    )
    small_size: int = option(64, "height and width of the further crops in pixels, likewise a multiple", SIZE)
    crop_sets: Literal["both", "large", "small"] = option(
        "both", "read both sets of crops, those at crop_size alone, or those at small_size alone"
    )
    position_std: float = option(
        0.02,
        "standard deviation of the crops' new position embeddings before training, as CLIP's own have it; the authors' "
        "code has 1",
        POSITIVE,
    )
    exchange_layers: int = option(
        4,
        "number of last layers in which the streams meet (all, if there are fewer); 0: nowhere",
        Range(0, LAYERS.most),
    )
    guide: bool = option(
        True, "in these layers, vision also attends to the text layer before (prefix-guided interaction)"
    )
    exchange: Literal["text_to_vision", "both"] = option(
        "text_to_vision", "vision attends to text alone, as the authors have it; or text to vision, too (both)"
    )
    fuse: bool = option(
        True, "in these layers, text takes vision into its feed-forward networks (correlation-aware fusion)"
    )
    fusion_query: Literal["heads", "states"] = option(
        "heads", "what asks for vision: the joined heads of the text's attention, or the states after it"
    )
    fusion_scale: Literal["none", "sqrt_d"] = option(
        "none",
        "scores of the fusion are dot products of the states, so large that nearly all weight falls on one patch; or "
        "these divided by the root of the width",
    )
    mask_text_for_vision: bool = option(
        True,
        "vision does not see the padding of the text; false: it does, a fault of the authors' code, in which a post's "
        "tags depend on the length of its padding",
    )
    mask_missing_crops: bool = option(
        True,
        "places of missing crops are masked; false, a fault of the authors' code, reads them as crops of the mean "
        "colour",
    )
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)
