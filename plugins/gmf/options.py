"""Options of the plugin `gmf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import ObjectOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SHARE, SIZE, option


@dataclass(frozen=True, kw_only=True)
class GmfOptions(ObjectOptions, text="tiny-bert"):
    """Visual clue guidance and consistency matching; where the paper states a setting, it is the default."""

    behaviour: ClassVar[int] = 2

    alpha: float = option(0.7, "share of the tagging loss; the matching has the rest, with 1 none (Eq. 22)", SHARE)
    vcg: bool | Literal["last_stage_only"] = option(
        True, "visual clue guidance, the prefix; false: text alone; last_stage_only: a prefix of the last stage"
    )
    csa: bool = option(True, "cross-scale attention on the stage maps (Eq. 1-4); there is none on captions")
    csa_r: int = option(16, "its bottleneck has a stage's channels divided by this", SIZE)
    csa_dilation: int = option(4, "dilation of its 3 x 3 convolutions", SIZE)
    csa_relu: bool = option(True, "norms and ReLU between its layers, as in BAM; false: none, as printed")
    csa_norm: Literal["bn", "gn"] = option("bn", "BatchNorm, or GroupNorm for batches of very few images")
    prefix_grid: int = option(7, "each stage is pooled to this many rows and columns of positions", LAYERS)
    prefix_layers: Literal["all"] | list[int] = option("all", "the text tower's layers with a prefix, counted from 0")
    prefix_share_layers: bool = option(False, "one projection to keys and values for all layers")
    prefix_bias: bool = option(False, "a bias in these projections")
    cm_text: Literal["plain", "fused", "detach"] = option(
        "plain",
        "the sentence that is matched comes from a pass without prefix (plain), from the pass with prefix (fused), or "
        "from one without prefix that does not train the text tower (detach)",
    )
    cm_image: Literal["refined", "raw"] = option(
        "refined", "the image that is matched is its last stage after cross-scale attention, or before it"
    )
    cm_lambda: float = option(0.7, "lambda of Eq. 16", SHARE)
    cm_lambda_on: Literal["i2t", "t2i"] = option("i2t", "the direction of the matching that lambda weighs")
    tau: float = option(0.21, "temperature of the matching", POSITIVE)
    blank_in_cm: bool = option(
        False,
        "posts without an image take part in the matching, with a grey one, zeros once normalised; not with captions",
    )
    standardise: bool = option(
        False,
        "standardise each channel of the stages to mean 0 and deviation 1 over a batch; helps short training. Has no "
        "effect on captions",
    )
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)

    @property
    def matching(self) -> bool:
        """Whether sentences and images are matched."""
        return self.alpha < 1

    def check(self) -> None:
        """Refuse a blank image without matching."""
        super().check()
        if self.blank_in_cm and not self.matching:
            raise UsageError("--model.blank_in_cm true needs the matching, which --model.alpha 1 turns off")
