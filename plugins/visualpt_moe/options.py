"""Options of the plugin `visualpt_moe`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import ObjectOptions, SubwordOptions, TrunkOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SHARE, SIZE, WEIGHT, option

EXPERTS = ("image", "objects", "labels", "caption", "random")


@dataclass(frozen=True, kw_only=True)
class VisualptMoeOptions(ObjectOptions, TrunkOptions, SubwordOptions, text="tiny-bert"):
    """Options of the experts, of the routers that mix them, and of the balance loss."""

    slots: int = option(16, "number of prefix positions, which all experts share", LAYERS)
    prompt_hidden: int = option(1024, "hidden width of the experts", SIZE)
    prefix_grid: int = option(2, "each stage is pooled to this many rows and columns, each a row of the source", LAYERS)
    max_labels: int = option(20, "the labels expert reads this many labels of objects, the surest", SIZE)
    use_image: bool = option(True, "expert of the whole picture")
    use_objects: bool = option(True, "expert of the objects in it")
    use_labels: bool = option(True, "expert of what the objects are called")
    use_caption: bool = option(True, "expert of the caption's words")
    use_random: bool = option(True, "expert of learnt vectors, the same for all posts")
    router: Literal["released", "text", "uniform"] = option(
        "released",
        "what a layer's router reads: the experts' keys and values, as in the authors' code; these times its text "
        "states, as in the paper's figure; or nothing, so that all experts count alike",
    )
    route: Literal["present", "all"] = option(
        "present", "experts that are mixed: those whose source a post has; or all, as in the authors' code"
    )
    noise: float = option(0.0625, "standard deviation of the noise on the routers' scores in training", WEIGHT)
    router_lr: float | None = option(
        None,
        "learning rate of the routers; default: lr. A router sums up many numbers that are nearly the same for all "
        "posts; at the rate of the rest its shares are soon all of one expert",
        POSITIVE,
    )
    alpha: float = option(1e-4, "weight of the balance loss; tagging has the rest", SHARE)
    empty: Literal["constant", "nothing"] = option(
        "constant",
        "what an expert makes of a slot that its source has no row for: a constant vector, as in the authors' code; or "
        "nothing",
    )
    words: Literal["frozen", "tower"] = option(
        "frozen",
        "labels and captions are rows of the text tower's word table as it was before training, or states of the tower",
    )
    layout: Literal["proper", "released"] = option(
        "proper",
        "a row holds the channels of one place; or, a fault of the authors' code, what a bare reshape makes of them",
    )
    standardise: bool = option(
        False,
        "standardise each channel of the stages to mean 0 and deviation 1 over a batch; helps short training. Has no "
        "effect on captions",
    )
    router_layout: Literal["proper", "released"] = option(
        "proper",
        "a router reads slots one after the other; or heads, as in the authors' code: no more than another order of "
        "weights, but with the router text a fault that mixes up columns and counts padding",
    )
    positions: Literal["zero", "heads"] = option(
        "zero",
        "place of the first word: 0; or the number of heads, a fault of the authors' code. Needs a BERT",
    )
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)

    def experts(self) -> tuple[str, ...]:
        """Names of the experts in use; of captions alone, those that need no pixels."""
        pixels = self.vision != "captions"
        return tuple(
            name for name in EXPERTS if getattr(self, f"use_{name}") and (pixels or name in ("caption", "random"))
        )

    def check(self) -> None:
        """Refuse that there is no expert, and readings of pixels where captions are read."""
        super().check()
        if self.vision == "captions":
            usual = {"absent": "mask", "picture_fit": "squeeze", "trunk_norm": "eval", "layout": "proper"}
            for name, value in usual.items():
                if getattr(self, name) != value:
                    raise UsageError(
                        f"--model.{name} {getattr(self, name)}: captions have no pixels; give {value} or a vision tower"
                    )
        if not self.experts():
            raise UsageError("--model.use_random false: no expert is left; give another one")
