"""Options of the plugin `vec_mner`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import TextOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SIZE, WEIGHT, Range, option

CROPS = Range(0, 64)


@dataclass(frozen=True, kw_only=True)
class VecMnerOptions(TextOptions, text="bert-base-uncased"):
    """Options of the two streams, of what vision hands over, and of the contrast."""

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
        CROPS,
    )
    crop_size: int = option(
        128, "height and width of these crops in pixels; a multiple of the vision tower's patch", SIZE
    )
    small_objects: int = option(
        3,
        "number of further crops, those that are less sure, read at small_size; the authors take them from another "
        "detector",
        CROPS,
    )
    small_size: int = option(64, "height and width of the further crops in pixels, likewise a multiple", SIZE)
    position_std: float = option(
        0.02,
        "standard deviation of the new position embeddings before training, as CLIP's own have it; the authors' code "
        "has 1",
        POSITIVE,
    )
    align_layer: bool = option(
        True, "in the second layer each stream attends to the other one alone; false: to both, as in later layers"
    )
    ca: bool = option(
        True, "what vision hands over is weighted by an attention over its tokens (CA); false: it is as it is"
    )
    ca_scale: Literal["mean", "sum"] = option(
        "mean",
        "the weights of CA have mean 1 over a post's real tokens; or sum 1, as in the authors' code, which leaves a "
        "hundredth of each token",
    )
    ca_hidden: int = option(6, "width of CA's bottleneck", SIZE)
    hand: Literal["keys_values", "keys"] = option(
        "keys_values", "text gets vision's keys and values; or its keys as both, as in the authors' code"
    )
    contrast: bool = option(True, "train texts and pictures of a post to be alike, beside the tagging")
    contrast_weight: float = option(1.0, "weight of that loss", WEIGHT)
    temperature: Literal["learned", "released"] = option(
        "learned",
        "divisor of its cosines: learned, from 0.07 on; released: the constant 0.376, since the authors' code forgets "
        "an exponential",
    )
    noise: float = option(
        0.0,
        "in training, magnitude of the uniform noise on embeddings times the root of their number; authors: 5",
        WEIGHT,
    )
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)
