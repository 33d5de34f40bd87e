"""Cross-scale attention of GMF (Eq. 1-4), which is the bottleneck attention module (BAM, Park et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit_plugins.gmf.options import GmfOptions


class CrossScaleAttention(nn.Module):
    """F' = F + F * M(F), M(F) = sigmoid(M_c(F) + M_s(F)) of one stage map.

    M_c (C, one number a channel) = BN(W_1 (W_0 avgpool(F) + b_0) + b_1), M_s (1, H, W) = BN(conv1x1(dil3x3(dil3x3(
    conv1x1(F))))). The bottleneck has C / r channels; dilated convolutions are padded so that the size stays.
    """

    def __init__(self, channels: int, o: GmfOptions) -> None:
        super().__init__()
        narrow = max(1, channels // o.csa_r)  # C / r

        def norm(width: int) -> nn.Module:
            # GroupNorm with one group knows no batch
            return _BatchNorm(width) if o.csa_norm == "bn" else nn.GroupNorm(1, width)

        def between() -> list[nn.Module]:
            return [norm(narrow), nn.ReLU()] if o.csa_relu else []

        def dilated() -> nn.Module:
            return nn.Conv2d(narrow, narrow, 3, padding=o.csa_dilation, dilation=o.csa_dilation)

        # linear maps as convolutions of 1 x 1 on a map of one pixel, so that both norms serve both branches
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
    """BatchNorm that takes the statistics learnt so far where a channel has one value: that has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x[:, 0].numel() == 1:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
