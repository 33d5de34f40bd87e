"""Options of the plugin `ocsga`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import TextOptions, WordVectorOptions
from mnerkit.options import DROPOUT, LAYERS, SIZE, option


@dataclass(frozen=True, kw_only=True)
class OcsgaOptions(TextOptions, WordVectorOptions, text="bilstm", chars="lstm"):
    """Options of the labels of objects, and of the attention between words and labels."""

    max_images: int = option(1, "read the labels of this many images of a post, the first ones", SIZE)
    max_labels: int = option(
        4,
        "read this many labels of an image, those of the surest objects; of an image without labels, as many nouns of "
        "its caption, the first ones",
        SIZE,
    )
    labels: bool = option(True, "words read labels; false: the text tower's states are tagged")
    freeze_labels: bool = option(
        False, "labels are read by the text tower's word vectors as they are; false: labels train these vectors, too"
    )
    self_attention: bool = option(True, "words attend to each other before labels are read; false: labels ask at once")
    layers: int = option(1, "layers of words that attend to each other, and as many of labels", LAYERS)
    heads: int = option(2, "attention heads of all layers; must divide the text tower's width", LAYERS)
    hidden: int | None = option(
        None, "hidden width of the layers' feed-forward networks; default: four times the text tower's width", SIZE
    )
    layer_dropout: float = option(0.6, "dropout in these layers", DROPOUT)
    last_residual: bool = option(
        False, "what words read of the labels is added to the words at once; false, as in the authors' code: at the end"
    )
    empty: Literal["zeros", "uniform"] = option(
        "zeros",
        "what a post without labels reads: nothing; or, a fault of the authors' code, the map of a vector of zeros",
    )
    norm: Literal["layer", "batch"] = option(
        "layer",
        "norm of the states that are tagged; batch, as in the authors' code: over all places of a batch, padding too",
    )
    layer_norm: Literal["torch", "released"] = option(
        "torch", "norms in the layers: torch's; or the authors' own, with the unbiased deviation"
    )
