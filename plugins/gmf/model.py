"""GMF: visual clue guidance and consistency matching. Equation numbers are the paper's, shapes behind the lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.contrast import info_nce
from mnerkit.nn.eval_mode import evaluating
from mnerkit.nn.initialisation import begin_quiet
from mnerkit.nn.visual_prefix import DynamicGate, VisualPyramid, gated_sum, masked_mean
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.fusion.stages import StageMaps, idle
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import pieces_of
from mnerkit_plugins.gmf.cross_scale import CrossScaleAttention, Norm

Guidance = Literal["last_stage_only"]
MatchText = Literal["plain", "fused", "detach"]


class GmfEncoder(Encoder):
    """H = Drop(BERT(words, prefix of image and objects)), and a contrast of sentences and images.

    Args:
        text: the text tower, of L layers and width d; it takes a prefix.
        sight: sees images and objects; its tower has b stages. None: neither guidance nor matching, text alone.
        vcg: visual clue guidance: the prefix. False: none, and images matter to the contrast alone; last_stage_only:
            the prefix shows the last stage, without gates.
        csa: cross-scale attention on the stage maps (Eq. 1-4); captions, which have no height, go without.
        csa_r: r, the channels are divided by it within.
        csa_dilation: of its 3 x 3 convolutions.
        csa_relu: norms and ReLU between its layers, as BAM has them.
        csa_norm: BatchNorm or GroupNorm.
        grid: every stage has grid x grid positions; captions keep their words as positions.
        prefix_layers: layers with a prefix, counted from 0; None: all.
        prefix_share: one projection to keys and values for all layers.
        prefix_bias: a bias in the projection.
        matching: whether to return the named loss `matching` (consistency matching, Eq. 14-16).
        cm_text: the sentence comes from a pass without prefix, from the one with it, or from one without prefix and
            without gradient to the tower.
        cm_refined: the image vector comes from the last stage after CSA.
        cm_lambda: lambda of Eq. 16.
        cm_lambda_on: the direction that lambda weighs.
        temperature: tau.
        blank_in_cm: posts without an image take part in the contrast, with a black one.
        standardise: bring the pooled channels of a CNN to mean 0 and deviation 1 before conv1x1.
        dropout: on word states.

    Raises:
        UsageError: the text tower takes no prefix, the vision tower has no stages, or there is no such layer.
    """

    by_post = True

    def __init__(
        self,
        text: TextTower,
        sight: Sight | None,
        *,
        vcg: bool | Guidance = True,
        csa: bool = True,
        csa_r: int = 16,
        csa_dilation: int = 4,
        csa_relu: bool = True,
        csa_norm: Norm = "bn",
        grid: int = 7,
        prefix_layers: Sequence[int] | None = None,
        prefix_share: bool = False,
        prefix_bias: bool = False,
        matching: bool = True,
        cm_text: MatchText = "plain",
        cm_refined: bool = True,
        cm_lambda: float = 0.7,
        cm_lambda_on: Literal["i2t", "t2i"] = "i2t",
        temperature: float = 0.21,
        blank_in_cm: bool = False,
        standardise: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text, self.width, d = pieces_of(text), text.width, text.width
        self.vcg, self.matching = vcg, matching
        self.dropout = nn.Dropout(dropout)
        self.sight: Any = sight  # None where nothing is looked at
        if sight is None:
            if vcg or matching:
                raise ValueError("without sight there is neither guidance nor matching")
            return
        channels = sight.stage_widths
        if not channels:
            raise UsageError(f"--model.vision {sight.tower.spec}: has no stages; give a ResNet, tiny, or captions")
        self.layers: int = self.text.config.num_hidden_layers
        self.guided = tuple(range(self.layers) if prefix_layers is None else sorted(set(prefix_layers)))
        if not self.guided or not 0 <= self.guided[0] <= self.guided[-1] < self.layers:
            raise UsageError(f"--model.prefix_layers: tower {text.spec} has the layers 0 to {self.layers - 1}")
        self.cm_text, self.cm_refined = cm_text, cm_refined
        self.temperature, self.blank_in_cm = temperature, blank_in_cm
        # the contrast's first direction is image to text
        self.i2t = cm_lambda if cm_lambda_on == "i2t" else 1 - cm_lambda
        pixels = sight.kind == "pixels"
        # without guidance, or guided by the last stage alone, the lower ones are not looked at
        self.used = slice(None) if vcg is True else slice(len(channels) - 1, None)
        channels = channels[self.used]
        attends = csa and pixels and (bool(vcg) or (matching and cm_refined))
        self.csa = nn.ModuleList(
            CrossScaleAttention(each, csa_r, csa_dilation, csa_relu, csa_norm) for each in channels if attends
        )
        if vcg:
            self.pyramid = VisualPyramid(channels, d, grid if pixels else None, standardise and pixels)
            self.gate = DynamicGate(d, self.layers, len(channels)) if vcg is True else None
            count = 1 if prefix_share else len(self.guided)
            self.to_prefix = nn.ModuleList(nn.Linear(d, 2 * d, bias=prefix_bias) for _ in range(count))  # W_phi
            begin_quiet(*self.to_prefix)
        if matching:
            self.sentence = nn.Linear(d, d)  # C_g = tanh(FC(c_0))
            self.match_text = _mlp(d, d)
            self.match_image = _mlp(channels[-1], d)

    # ------------------------------------------------------------------ what is seen

    def refine(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """F' of the stages in use (Eq. 1-4), (R, c_i, h_i, w_i) each; themselves where there is no CSA."""
        return [attend(each) for attend, each in zip(self.csa, maps, strict=True)] if len(self.csa) else list(maps)

    def weights(self, stages: Tensor, mask: Tensor) -> Tensor:
        """Gates (R, L, b) of V (R, b, P, d) with real positions `mask` (R, P) (Eq. 7-8)."""
        if self.gate is None:
            return stages.new_ones(len(stages), self.layers, 1)
        return self.gate(masked_mean(stages, mask).mean(1))

    def prefix(self, seen: StageMaps, refined: Sequence[Tensor]) -> tuple[Prefix, Tensor]:
        """Keys and values of each layer (Eq. 5-12), and the gates (B, k, L, b)."""
        v = self.pyramid(refined)  # (R, b, P, d)                                                   Eq. 5-6
        gates = self.weights(v, seen.position_mask(v.shape[2]))  # (R, L, b)                        Eq. 7-8
        gated = gated_sum(gates[:, list(self.guided)], v)  # (R, L', P, d)                          Eq. 9
        maps = list(self.to_prefix) * (len(self.guided) if len(self.to_prefix) == 1 else 1)
        phi = torch.stack([to(each) for to, each in zip(maps, gated.unbind(1), strict=True)], 1)  # (R, L', P, 2d)
        found = seen.prefix(phi)  # Eq. 10 joins the pictures
        keys: list[Tensor | None] = [None] * self.layers
        values: list[Tensor | None] = [None] * self.layers
        for place, layer in enumerate(self.guided):
            keys[layer], values[layer] = found.keys[place], found.values[place]
        return Prefix(tuple(keys), tuple(values), found.mask), seen.spread(gates)

    # ------------------------------------------------------------------ consistency matching

    def image_vectors(self, seen: StageMaps, refined: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """V_g of each post (B, c), mean of its images' last stages, and which posts have one (B,) bool."""
        last = (refined if self.cm_refined else seen.maps)[-1]  # (R, c, h, w)
        real = seen.position_mask(last.flatten(2).shape[2]).to(last.dtype)  # (R, P)
        pooled = (last.flatten(2) * real.unsqueeze(1)).sum(-1) / real.sum(-1, keepdim=True).clamp_min(1)
        images = seen.mask[:, : seen.images]  # (B, m)
        vectors = seen.spread(pooled)[:, : seen.images].sum(1) / images.sum(1, keepdim=True).clamp_min(1)
        has = images.any(1)
        assert self.sight is not None
        if self.blank_in_cm and self.sight.kind == "pixels" and not bool(has.all()):
            vectors, has = torch.where(has.unsqueeze(1), vectors, self._black()), torch.ones_like(has)
        return vectors, has

    def _black(self) -> Tensor:
        """V_g of the black picture, (1, c); it is not among the pictures that BatchNorm's statistics are of."""
        last = self.sight.blank().stages[-1]  # (1, c, h, w)
        if self.cm_refined and len(self.csa):
            with evaluating(self.csa[-1]):
                last = self.csa[-1](last)
        return last.mean((2, 3))

    def match(self, sentence: Tensor, images: Tensor, valid: Tensor) -> Tensor:
        """L_CM of c_0 (B, d) and V_g (B, c), over the posts that `valid` (B,) tells (Eq. 14-16)."""
        c_n = self.match_text(torch.tanh(self.sentence(sentence)))  # (B, d)
        p_n = self.match_image(images)  # (B, d)
        return info_nce(p_n, c_n, self.temperature, self.i2t, valid)

    # ------------------------------------------------------------------ the whole

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        matching = self.matching and self.training
        if not self.vcg and not matching:
            return WordStates(self.dropout(self.text(batch.text).words).unsqueeze(0))
        assert self.sight is not None
        seen = StageMaps.of(self.sight, batch, objects=bool(self.vcg))
        seen.maps = seen.maps[self.used]
        some = len(seen.rows) > 0
        refined = self.refine(seen.maps) if some else list(seen.maps)
        prefix, gates = self.prefix(seen, refined) if self.vcg and some else (None, None)
        fused = self.text(batch.text, prefix=prefix)  # H = fused.words, (B, W, d)                  Eq. 11-13
        states = self.dropout(fused.words)
        losses = {}
        if matching:
            sentence = fused.pooled if prefix is None or self.cm_text == "fused" else self._plain(batch)
            if self.cm_text == "detach":
                sentence = sentence.detach()
            losses["matching"] = self.match(sentence, *self.image_vectors(seen, refined))
        if not some:
            states = states + idle(module for name, module in self.named_children() if name not in ("text", "dropout"))
        kept = {"gate": gates, "picture_mask": seen.mask} if trace and gates is not None else {}
        return WordStates(states.unsqueeze(0), losses, trace=kept)

    def _plain(self, batch: Batch) -> Tensor:
        """c_0 of a pass without prefix, (B, d): with it the sentence would know its own image already."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.cm_text != "detach"):
            return self.text(batch.text).pooled


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
