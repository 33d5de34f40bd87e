"""The visual pyramid of GMF (Eq. 5-6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnerkit.nn.visual_prefix import Standardise, pooled_stages


class VisualPyramid(nn.Module):
    """V_i = conv1x1_i(pool(F_i)): every stage at one grid and one width (Eq. 5-6).

    Args:
        channels: c_i of each of the b stages.
        width: d.
        grid: as for `pooled_stages`.
        standardise: whether to standardise the channels before the maps.
    """

    def __init__(self, channels: Sequence[int], width: int, grid: int | None, standardise: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.norms = nn.ModuleList(Standardise(each) if standardise else nn.Identity() for each in channels)
        # a convolution of 1 x 1 is a linear map of each position
        self.maps = nn.ModuleList(nn.Linear(each, width) for each in channels)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Stage maps (N, c_i, h_i, w_i) to (N, b, P, d)."""
        pooled = pooled_stages(stages, self.grid)
        parts = zip(self.maps, self.norms, pooled, strict=True)
        return torch.stack([to_width(norm(each)) for to_width, norm, each in parts], 1)
