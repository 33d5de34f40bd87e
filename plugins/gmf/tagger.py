"""Plugin `gmf`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.views import Needs
from mnerkit.encoders.sight import CAPTIONS
from mnerkit.errors import UsageError
from mnerkit.ranges import COUNT, DROPOUT, POSITIVE, SHARE, check
from mnerkit.tagging.tagger import Tagger
from mnerkit_plugins.gmf.model import GmfEncoder


class GmfTagger(Tagger):
    """GMF: image and objects as a gated, refined visual prefix, and matching of sentences and images."""

    plugin = "gmf"
    encoder: GmfEncoder

    def __init__(
        self,
        text: str = "tiny-bert",
        vision: str = "tiny",
        freeze_text: bool = False,
        freeze_vision: bool = True,
        max_tokens: int = 128,
        word_pool: Literal["first", "mean"] = "first",
        max_images: int = 1,
        max_objects: int = 3,
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
            text: the text tower, one that takes a prefix: `tiny-bert`, a hub name such as `bert-base-uncased`, or a
                folder.
            vision: the vision tower, one with stages: `tiny`, `resnet50`; or `captions`, whose words stand in for
                positions (then there is no cross-scale attention).
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: look at this many images of a post, the first ones.
            max_objects: look at this many objects of an image, the surest ones.
            alpha: share of the tagging loss in Eq. 22; the rest is that of the matching. 1 leaves the matching out.
            vcg: visual clue guidance, the prefix; false: text alone; last_stage_only: a prefix of the last stage.
            csa: cross-scale attention on the stage maps (Eq. 1-4).
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
            blank_in_cm: posts without an image take part in the matching, with a black one.
            standardise: bring each channel of the stages to mean 0 and deviation 1 over a batch (not with captions);
                a help for short training.
            dropout: on the word states.
            training: options of `Tagger`.

        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", SHARE, alpha=alpha, cm_lambda=cm_lambda)
        check("model", POSITIVE, tau=tau)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, max_objects=max_objects)
        check("model", COUNT, prefix_grid=prefix_grid, csa_r=csa_r, csa_dilation=csa_dilation)
        if alpha == 1 and blank_in_cm:
            raise UsageError("--model.blank_in_cm true is about the matching, which --model.alpha 1 leaves out")
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision = freeze_text, freeze_vision
        self.max_tokens, self.word_pool = max_tokens, word_pool
        self.max_images, self.max_objects, self.alpha = max_images, max_objects, alpha
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
        text = self.text_tower(
            "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
        )
        if not self.options["vcg"] and not self.options["matching"]:
            return GmfEncoder(text, None, **self.options)
        # a new text tower that were to read captions frozen would know nothing of them
        freeze = self.freeze_vision and self.vision != CAPTIONS
        sight = self.sight("vision", self.vision, text, freeze=freeze)
        if self.vision == CAPTIONS and self.options["csa"]:
            self.noted["switched_off"] = "cross-scale attention: captions have no height and width"
        return GmfEncoder(text, sight, **self.options)

    def needs(self) -> Needs:
        if self.encoder.sight is None:
            return Needs(reader=self.towers["text"].reader)
        views = ("whole", "objects") if self.options["vcg"] else ("whole",)
        limits = {"max_images": self.max_images, "max_objects": self.max_objects}
        return self.encoder.sight.needs(self.towers["text"].reader, views, **limits)

    def loss_weights(self) -> dict[str, float]:
        """Eq. 22."""
        return {"head": self.alpha, "matching": 1 - self.alpha}
