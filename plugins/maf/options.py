"""Options of the plugin `maf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import BertAdamOptions, PictureOptions, SubwordOptions, TrunkOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SHARE, SIZE, option


@dataclass(frozen=True, kw_only=True)
class MafOptions(PictureOptions, TrunkOptions, SubwordOptions, BertAdamOptions):
    """Options of attention, gate, matching and alignment."""

    alpha: float = option(0.62, "share of the tagging loss; matching and alignment have the rest each", SHARE)
    heads: int = option(12, "attention heads from words to regions; must divide the text tower's width", LAYERS)
    hidden: int | None = option(
        None, "hidden width of that layer's feed-forward network; default: four times the text tower's width", SIZE
    )
    visual_layers: int = option(1, "layers in which words attend to regions", LAYERS)
    gate: bool = option(True, "what words see is scaled by a gate")
    match: bool = option(True, "judge whether picture and text belong together, and scale what words see by it")
    match_pool: Literal["mean", "flat"] = option(
        "mean",
        "what is judged: the mean over the words; or flat, all max_tokens places side by side, padding included, so "
        "that ids behind the padding count. That is a fault of the authors' code, for comparison; it needs subword X",
    )
    negatives: Literal["image", "states"] = option(
        "image",
        "what a negative post is given of another one: its pictures; or, a fault of the authors' code, the states of "
        "its words after they saw its pictures, so that a match can be told without looking",
    )
    draw: Literal["random", "last"] = option(
        "random",
        "which posts of a batch are negatives: negative_share of them, drawn at random; or the last negative_count, as "
        "in the authors' code, none in a batch of no more posts",
    )
    negative_share: float = option(0.25, "share of the negatives, where they are drawn at random", SHARE)
    negative_count: int = option(16, "number of the negatives, where they are the last ones", SIZE)
    ner_on_negatives: bool = option(
        False,
        "in training, negatives are tagged by what they were given instead of their own pictures. That is a fault of "
        "the authors' code, for comparison",
    )
    align: bool = option(True, "draw the vectors of a post's text and picture together, away from other posts'")
    align_text: Literal["pooler", "state"] = option(
        "pooler", "vector of the text: tanh of a map of the sentence's state, as in the authors' code; or that state"
    )
    tau: float = option(0.179, "temperature of the alignment", POSITIVE)
    lambda_c: float = option(0.7, "weight of one direction of the alignment; the other has the rest", SHARE)
    lambda_c_on: Literal["t2i", "i2t"] = option(
        "t2i", "the direction that lambda_c weighs: text chooses among images, or image among texts"
    )
    dropout: float = option(0.1, "dropout of the word states and in the layer from words to regions", DROPOUT)

    def check(self) -> None:
        """Refuse a fault of the authors' code where it has no meaning."""
        super().check()
        if self.match_pool == "flat" and self.subword == "first":
            raise UsageError("--model.match_pool flat: it reads all pieces side by side; give --model.subword X")
