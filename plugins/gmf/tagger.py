"""Plugin `gmf`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.errors import UsageError
from mnerkit.methods.stage_prefix_tagger import StagePrefixTagger
from mnerkit.ranges import COUNT, DROPOUT, POSITIVE, SHARE, check
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit_plugins.gmf.model import GmfEncoder


class GmfTagger(StagePrefixTagger):
    """GMF: image and objects as a gated, refined visual prefix, and matching of sentences and images."""

    plugin = "gmf"
    encoder: GmfEncoder

    def __init__(
        self,
        alpha: float = 0.7,
        vcg: bool | Literal["last_stage_only"] = True,
        csa: bool = True,
        csa_r: int = 16,
        csa_dilation: int = 4,
        csa_relu: bool = True,
        csa_norm: Literal["bn", "gn"] = "bn",
        prefix_grid: int = 7,
        prefix_layers: Literal["all"] | list[int] = "all",
        prefix_share_layers: bool = False,
        prefix_bias: bool = False,
        cm_text: Literal["plain", "fused", "detach"] = "plain",
        cm_image: Literal["refined", "raw"] = "refined",
        cm_lambda: float = 0.7,
        cm_lambda_on: Literal["i2t", "t2i"] = "i2t",
        tau: float = 0.21,
        blank_in_cm: bool = False,
        standardise: bool = False,
        dropout: float = 0.1,
        **training: Any,
    ) -> None:
        """Keep the options; where the paper states a setting, it is the default.

        Args:
            alpha: share of the tagging loss in Eq. 22; the rest is that of the matching. 1 leaves the matching out.
            vcg: visual clue guidance, the prefix; false: text alone; last_stage_only: a prefix of the last stage.
            csa: cross-scale attention on the stage maps (Eq. 1-4); there is none on captions.
            csa_r: its bottleneck has a stage's channels divided by this.
            csa_dilation: of its 3 x 3 convolutions.
            csa_relu: norms and ReLU between its layers, as BAM has them; false is as printed.
            csa_norm: BatchNorm, or GroupNorm for batches of very few images.
            prefix_grid: each stage is pooled to this many rows and columns of positions.
            prefix_layers: layers of the text tower that have a prefix, counted from 0.
            prefix_share_layers: one projection to keys and values for all layers.
            prefix_bias: a bias in these projections.
            cm_text: the sentence that is matched comes from a pass without prefix (plain), from the one with it
                (fused), or from one without prefix that teaches the text tower nothing (detach).
            cm_image: the image that is matched is its last stage after cross-scale attention, or before it.
            cm_lambda: lambda of Eq. 16.
            cm_lambda_on: the direction of the matching that lambda weighs.
            tau: temperature of the matching.
            blank_in_cm: posts without an image take part in the matching, with a black one; not with captions.
            standardise: bring each channel of the stages to mean 0 and deviation 1 over a batch (not with captions);
                a help for short training.
            dropout: on the word states.
            training: options of `StagePrefixTagger`: towers, limits and training.

        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", SHARE, alpha=alpha, cm_lambda=cm_lambda)
        check("model", POSITIVE, tau=tau)
        check("model", COUNT, prefix_grid=prefix_grid, csa_r=csa_r, csa_dilation=csa_dilation)
        if alpha == 1 and blank_in_cm:
            raise UsageError("--model.blank_in_cm true is about the matching, which --model.alpha 1 leaves out")
        self.alpha = alpha
        self.options: dict[str, Any] = {
            "vcg": vcg,
            "csa": csa,
            "csa_r": csa_r,
            "csa_dilation": csa_dilation,
            "csa_relu": csa_relu,
            "csa_norm": csa_norm,
            "grid": prefix_grid,
            "prefix_layers": None if prefix_layers == "all" else prefix_layers,
            "prefix_share": prefix_share_layers,
            "prefix_bias": prefix_bias,
            "matching": alpha < 1,
            "cm_text": cm_text,
            "cm_refined": cm_image == "refined",
            "cm_lambda": cm_lambda,
            "cm_lambda_on": cm_lambda_on,
            "temperature": tau,
            "blank_in_cm": blank_in_cm,
            "standardise": standardise,
            "dropout": dropout,
        }

    def make_encoder(self) -> GmfEncoder:
        text = self.make_text()
        if not self.options["vcg"] and not self.options["matching"]:
            return GmfEncoder(text, None, **self.options)
        sight = self.make_sight(text)
        if self.vision == CAPTIONS and self.options["csa"]:
            self.noted["switched_off"] = "cross-scale attention: captions have no height and width"
        return GmfEncoder(text, sight, **self.options)

    def views(self) -> tuple[str, ...]:
        return ("whole", "objects") if self.options["vcg"] else ("whole",)

    def needs(self) -> Needs:
        if self.encoder.sight is None:
            return Needs(reader=self.towers["text"].reader)
        return super().needs()

    def loss_weights(self) -> dict[str, float]:
        """Eq. 22."""
        return {"head": self.alpha, "matching": 1 - self.alpha}
