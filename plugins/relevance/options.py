"""Options of GIFR's first stage (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import MethodOptions
from mnerkit.options import COUNT, DROPOUT, SHARE, SIZE, Range, option

Blank = Literal["zeros", "white", "black"]
PairMean = Literal["pairs", "posts"]


@dataclass(frozen=True, kw_only=True)
class RelevanceOptions(MethodOptions):
    """Options of the towers, the rankings, and the network that scores images."""

    text: str = option(
        "openai/clip-vit-base-patch32",
        "the text tower: tiny, a hub name such as openai/clip-vit-base-patch32, or a folder",
    )
    vision: str = option(
        "openai/clip-vit-base-patch32",
        "the vision tower, named in the same way, or captions, which reads captions instead of pictures",
    )
    freeze: bool = option(False, "freeze the weights of both towers")
    max_tokens: int = option(77, "length limit in pieces, special pieces included", SIZE)
    max_images: int = option(4, "use this many images of a post, the first ones", SIZE)
    preference: Literal["utility", "matched", "clip", "file", "oracle"] = option(
        "utility",
        "source of the rankings: an image's gain in the likelihood of the gold tags (utility), a post's own images "
        "before those of others (matched), cosines of the towers (clip), a file of human rankings (file), or the truth "
        "of the probe corpus (oracle)",
    )
    rankings: str | None = option(None, "with preference file, JSON lines {'id', 'order', 'blank_pos'}")
    clip_quantile: float = option(
        0.5, "with preference clip, share of all images that is ranked below the blank one", SHARE
    )
    utility_seeds: int = option(3, "with preference utility, taggers trained on each half of the posts", COUNT)
    utility_epochs: int = option(8, "with preference utility, epochs of each", COUNT)
    held_out: float = option(
        0.2,
        "share of the ranked posts that selects the checkpoint and is not trained on",
        Range(0, 1, above=True, below=True),
    )
    pair_mean: PairMean = option(
        "pairs", "the loss is the mean over all pairs of a batch, or over the pairs of each post first"
    )
    blank: Blank = option("zeros", "pixels of the blank image: zeros once normalised, white, or black")
    joint: int = option(512, "width of the text's and of the image's linear map", SIZE)
    hidden: int = option(512, "width of the score's MLP", SIZE)
    dropout: float = option(0.1, "dropout in the MLP", DROPOUT)
    augment: bool = option(False, "mirror and shift pictures while training; off for frozen towers")

    def check(self) -> None:
        """Refuse a file of rankings without the preference `file`, and the reverse."""
        super().check()
        if (self.preference == "file") != (self.rankings is not None):
            raise UsageError("--model.rankings FILE and --model.preference file go together")
