"""Options of the plugin `captions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import TextOptions
from mnerkit.options import DROPOUT, SIZE, WEIGHT, option

View = Literal["caption", "text", "both"]


@dataclass(frozen=True, kw_only=True)
class CaptionsOptions(TextOptions):
    """Options of a text tower that reads the picture's caption after the words."""

    freeze: bool = option(False, "freeze the text tower's weights")
    second_words: int = option(24, "maximum number of words of the captions", SIZE)
    max_images: int = option(1, "read the captions of this many images of a post, the first ones", SIZE)
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)
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
    read: View = option(
        "caption",
        "what is tagged after training: the text with its caption, the text alone, or both, by their mean emissions",
    )
