"""Options of the plugin `gvatt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import PictureOptions, WordVectorOptions
from mnerkit.options import option


@dataclass(frozen=True, kw_only=True)
class GvattOptions(PictureOptions, WordVectorOptions, text="bilstm", chars="lstm"):
    """Options of the attention of a post to the regions of its pictures, and of the gates behind it."""

    query: Literal["sentence", "word"] = option(
        "sentence", "who looks at the regions: a post once, by its last LSTM states or its [CLS]; or every word"
    )
    score: Literal["add", "separable"] = option(
        "add",
        "how query and region are compared: joined inside one tanh, or separable, a sum of two terms, of which the "
        "softmax drops the query's, so that every query gets the same context",
    )
    attention: bool = option(True, "regions are weighted by attention; false: the context is their mean")
    fuse: Literal["two_gates", "one_gate", "sum"] = option(
        "two_gates",
        "how the context c joins a word h: a gate for the word and one for what both make; one gate, h + g c; or h + c",
    )
    use_image: bool = option(True, "false: the context is zero in every post, and no picture is read")
    exact_limit: bool = option(
        True,
        "a post without pictures has the states of the text tower; false: the gates act on its words, too. It has no "
        "effect where use_image is false",
    )
