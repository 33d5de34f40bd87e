"""Options of the plugin `captions`."""

from __future__ import annotations

from dataclasses import dataclass

from mnerkit.methods.options import TwoViewOptions
from mnerkit.options import DROPOUT, WEIGHT, option


@dataclass(frozen=True, kw_only=True)
class CaptionsOptions(TwoViewOptions):
    """Options of a text tower that reads the picture's caption after the words."""

    caption_dropout: float = option(
        0.0,
        "share of the posts whose caption is hidden in a training step, so that words are read with and without it",
        DROPOUT,
    )
    agreement: float = option(
        0.0,
        "weight of the cross-view alignment. Above 0, every training step reads the posts with and without their "
        "captions, trains the tags of both, and pulls the tags predicted from the text alone towards those predicted "
        "with the caption; 1 sums the losses without weights. Needs a crf or softmax head",
        WEIGHT,
    )
