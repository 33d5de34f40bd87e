"""GMF: visual clue guidance and consistency matching. Equation numbers are the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.contrast import info_nce
from mnerkit.nn.eval_mode import evaluating
from mnerkit.nn.visual_prefix import (
    DynamicGate,
    Standardise,
    gated_sum,
    init_small,
    map_each,
    masked_mean,
    pooled_stages,
)
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.fusion.stage_maps import StageMaps, idle
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import pieces_of
from mnerkit_plugins.gmf.options import GmfOptions


class CrossScaleAttention(nn.Module):
    """F' = F + F * M(F), M(F) = sigmoid(M_c(F) + M_s(F)) of one stage map.

    M_c (C, one number for each channel) = BN(W_1 (W_0 avgpool(F) + b_0) + b_1), M_s (1, H, W) =
    BN(conv1x1(dil3x3(dil3x3(conv1x1(F))))). The bottleneck has C / r channels; padding keeps the size of the map.
    """

    def __init__(self, channels: int, o: GmfOptions) -> None:
        super().__init__()
        narrow = max(1, channels // o.csa_r)  # C / r

        def norm(width: int) -> nn.Module:
            # GroupNorm with one group does not depend on the batch
            return _BatchNorm(width) if o.csa_norm == "bn" else nn.GroupNorm(1, width)

        def between() -> list[nn.Module]:
            return [norm(narrow), nn.ReLU()] if o.csa_relu else []

        def dilated() -> nn.Module:
            return nn.Conv2d(narrow, narrow, 3, padding=o.csa_dilation, dilation=o.csa_dilation)

        # linear maps are 1 x 1 convolutions on a map of one pixel, so that both branches can use both norms
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, narrow, 1),
            *between(),
            nn.Conv2d(narrow, channels, 1),
            norm(channels),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            *between(),
            dilated(),
            *between(),
            dilated(),
            *between(),
            nn.Conv2d(narrow, 1, 1),
            norm(1),
        )

    def attention(self, x: Tensor) -> Tensor:
        """M(F) of (N, C, H, W), in (0, 1) (Eq. 2)."""
        return torch.sigmoid(self.channel(x) + self.spatial(x))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape (Eq. 1)."""
        return x + x * self.attention(x)


class _BatchNorm(nn.BatchNorm2d):
    """BatchNorm that uses the running statistics if a channel has one value, which has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x[:, 0].numel() == 1:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class VisualPyramid(nn.Module):
    """V_i = conv1x1_i(pool(F_i)): every stage at one grid and one width (Eq. 5-6).

    Args:
        channels: c_i of each of the b stages.
        width: d.
        grid: as in `pooled_stages`.
        standardise: whether to standardise the channels before the maps.
    """

    def __init__(self, channels: Sequence[int], width: int, grid: int | None, standardise: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.norms = nn.ModuleList(Standardise(count) if standardise else nn.Identity() for count in channels)
        # a 1 x 1 convolution is a linear map of each position
        self.maps = nn.ModuleList(nn.Linear(count, width) for count in channels)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Stage maps (N, c_i, h_i, w_i) to (N, b, P, d)."""
        pooled = pooled_stages(stages, self.grid)
        parts = zip(self.maps, self.norms, pooled, strict=True)
        return torch.stack([to_width(norm(stage)) for to_width, norm, stage in parts], 1)


class GmfEncoder(Encoder):
    """H = Drop(BERT(words, prefix of image and objects)), and a contrastive loss of sentences and images.

    The text tower has L layers and width d and takes a prefix; the tower of the sight has b stages. The sight is None
    for text alone, without guidance and matching.

    Raises:
        UsageError: the text tower takes no prefix, the vision tower has no stages, or there is no such layer.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight | None, o: GmfOptions) -> None:
        super().__init__()
        self.text, self.width, d = pieces_of(text), text.width, text.width
        self.options, self.dropout = o, nn.Dropout(o.dropout)
        self.sight: Any = sight
        if sight is None:
            if o.vcg or o.matching:
                raise ValueError("guidance and matching need a sight")
            return
        channels, pixels = sight.stage_widths, sight.kind == "pixels"
        if not channels:
            raise UsageError(f"--model.vision {sight.tower.spec}: has no stages; give a ResNet, tiny, or captions")
        self.layers: int = self.text.config.num_hidden_layers
        self.guided = [*range(self.layers)] if o.prefix_layers == "all" else sorted(set(o.prefix_layers))
        if not self.guided or not 0 <= self.guided[0] <= self.guided[-1] < self.layers:
            raise UsageError(f"--model.prefix_layers: tower {text.spec} has the layers 0 to {self.layers - 1}")
        # without guidance, or with the last stage only, the lower stages are not used
        self.stages = slice(None) if o.vcg is True else slice(len(channels) - 1, None)
        channels = channels[self.stages]
        attends = o.csa and pixels and (bool(o.vcg) or (o.matching and o.cm_image == "refined"))
        self.csa = nn.ModuleList(CrossScaleAttention(count, o) for count in channels if attends)
        if o.vcg:
            # each word of a caption is a position
            self.pyramid = VisualPyramid(channels, d, o.prefix_grid if pixels else None, o.standardise and pixels)
            self.gate = DynamicGate(d, self.layers, len(channels)) if o.vcg is True else None
            count = 1 if o.prefix_share_layers else len(self.guided)
            self.to_prefix = nn.ModuleList(nn.Linear(d, 2 * d, bias=o.prefix_bias) for _ in range(count))  # W_phi
            init_small(*self.to_prefix)
        if o.matching:
            self.sentence = nn.Linear(d, d)  # C_g = tanh(FC(c_0))
            self.match_text = _mlp(d, d)
            self.match_image = _mlp(channels[-1], d)

    # ------------------------------------------------------------------ visual clue guidance

    def refine(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """F' of the stages in use (Eq. 1-4), (R, c_i, h_i, w_i) each; the maps themselves without CSA."""
        return [csa(stage) for csa, stage in zip(self.csa, maps, strict=True)] if len(self.csa) else list(maps)

    def weights(self, stages: Tensor, mask: Tensor) -> Tensor:
        """Gates (R, L, b) of V (R, b, P, d) with real positions `mask` (R, P) (Eq. 7-8)."""
        if self.gate is None:
            return stages.new_ones(len(stages), self.layers, 1)
        return self.gate(masked_mean(stages, mask).mean(1))

    def prefix(self, pictures: StageMaps, refined: Sequence[Tensor], twice: bool = False) -> tuple[Prefix, Tensor]:
        """Keys and values of each layer (Eq. 5-12), and the gates (B, k, L, b).

        Args:
            pictures: the pictures of the posts.
            refined: their stages, refined.
            twice: the posts follow once more without pictures, so that the prefix has 2B rows.
        """
        v = self.pyramid(refined)  # (R, b, P, d)                                                   Eq. 5-6
        gates = self.weights(v, pictures.position_mask(v.shape[2]))  # (R, L, b)                    Eq. 7-8
        gated = gated_sum(gates[:, self.guided], v)  # (R, L', P, d)                                Eq. 9
        phi = map_each(self.to_prefix, gated)  # (R, L', P, 2d)
        joined = (pictures.and_none() if twice else pictures).prefix(phi)  # (B, k P, d) a layer    Eq. 10
        keys: list[Tensor | None] = [None] * self.layers
        values: list[Tensor | None] = [None] * self.layers
        for place, layer in enumerate(self.guided):
            keys[layer], values[layer] = joined.keys[place], joined.values[place]
        return replace(joined, keys=tuple(keys), values=tuple(values)), pictures.spread(gates)

    # ------------------------------------------------------------------ consistency matching

    def image_vectors(self, pictures: StageMaps, refined: Sequence[Tensor], posts: Tensor) -> tuple[Tensor, Tensor]:
        """V_g of each post (B, c), the mean of its images' last stages, and the posts (P,) that have one.

        Args:
            pictures: the pictures of the posts.
            refined: their stages, refined.
            posts: (P,) long, the posts with an image.
        """
        last = (refined if self.options.cm_image == "refined" else pictures.maps)[-1]  # (R, c, h, w)
        real = pictures.position_mask(last.flatten(2).shape[2]).to(last.dtype)  # (R, P)
        pooled = (last.flatten(2) * real.unsqueeze(1)).sum(-1) / real.sum(-1, keepdim=True).clamp_min(1)
        images = pictures.mask[:, : pictures.images]  # (B, m)
        vectors = pictures.spread(pooled)[:, : pictures.images].sum(1) / images.sum(1, keepdim=True).clamp_min(1)
        if self.options.blank_in_cm and self.sight.kind == "pixels" and len(posts) < len(vectors):
            vectors = torch.where(images.any(1, keepdim=True), vectors, self._grey())
            posts = torch.arange(len(vectors), device=posts.device)
        return vectors, posts

    def _grey(self) -> Tensor:
        """V_g of the grey picture, (1, c); BatchNorm's statistics do not include it."""
        last = self.sight.blank().stages[-1]  # (1, c, h, w)
        if self.options.cm_image == "refined" and len(self.csa):
            with evaluating(self.csa[-1]):
                last = self.csa[-1](last)
        return last.mean((2, 3))

    def match(self, sentence: Tensor, images: Tensor, valid: Tensor) -> Tensor:
        """L_CM of c_0 (B, d) and V_g (B, c), over the posts `valid` (P,) (Eq. 14-16)."""
        c_n = self.match_text(torch.tanh(self.sentence(sentence)))  # (B, d)
        p_n = self.match_image(images)  # (B, d)
        o = self.options
        image_to_text = o.cm_lambda if o.cm_lambda_on == "i2t" else 1 - o.cm_lambda
        return info_nce(p_n, c_n, o.tau, image_to_text, valid)

    # ------------------------------------------------------------------ forward pass

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        o, matching = self.options, self.options.matching and self.training
        if not o.vcg and not matching:
            return WordStates(self.dropout(self.text(batch.text).words).unsqueeze(0))
        pictures = StageMaps.of(self.sight, batch, objects=bool(o.vcg))
        pictures.maps = pictures.maps[self.stages]
        any_picture = len(pictures.rows) > 0
        refined = self.refine(pictures.maps) if any_picture else list(pictures.maps)
        guided = bool(o.vcg) and any_picture
        # a tower that is trained reads both sentences in one pass; a frozen one knows those without prefix
        twice = guided and matching and o.cm_text == "plain" and not self.text.frozen
        prefix, gates = self.prefix(pictures, refined, twice) if guided else (None, None)
        read = self.text(batch.text.repeated(2) if twice else batch.text, prefix=prefix)  #         Eq. 11-13
        h = read.words[: len(batch)]  # H, (B, W, d)
        states = self.dropout(h)
        losses = {}
        if matching:
            fused = prefix is None or o.cm_text == "fused"
            sentence = read.pooled[-len(batch) :] if fused or twice else self._plain(batch)
            if o.cm_text == "detach":
                sentence = sentence.detach()
            losses["matching"] = self.match(sentence, *self.image_vectors(pictures, refined, self.sight.posts(batch)))
        if not any_picture:
            states = states + idle(module for name, module in self.named_children() if name not in ("text", "dropout"))
        traces = {"gate": gates, "picture_mask": pictures.mask} if trace and gates is not None else {}
        return WordStates(states.unsqueeze(0), losses, trace=traces)

    def _plain(self, batch: Batch) -> Tensor:
        """c_0 of a pass without prefix, (B, d): with the prefix, the sentence would contain its own image."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.options.cm_text != "detach"):
            return self.text(batch.text).pooled


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
