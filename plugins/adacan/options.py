"""Options of the plugin `adacan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import PictureOptions, WordVectorOptions
from mnerkit.options import option


@dataclass(frozen=True, kw_only=True)
class AdacanOptions(PictureOptions, WordVectorOptions, text="bilstm"):
    """Options of the two attentions, of the gate between them, and of the filter behind it."""

    score: Literal["add", "separable"] = option(
        "add",
        "how a query and what it looks at are compared: joined inside one tanh, or separable, a sum of two terms, of "
        "which the softmax drops the query's, so that every query sees the same",
    )
    gate: Literal["scalar", "feature"] = option(
        "scalar", "the gate between what a word sees of the picture and of the text has one share, or one a feature"
    )
    filter: bool = option(True, "what a word sees is scaled by how much it has to do with the word")
    use_image: bool = option(True, "false: the states of the text tower alone, and no picture is read")
    text_attention: bool = option(True, "what a word sees of the picture looks at the words; false: the word itself")
