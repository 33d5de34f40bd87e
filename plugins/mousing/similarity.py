"""Similarity of nodes under several learnt views."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.nn.graph import pair_mask

ViewWeight = Literal["diag", "linear"]


class MultiViewSimilarity(nn.Module):
    """Mean over V views of the cosine of weighted nodes (MOUSING, Eq. 5-6; the weighted cosine of IDGL).

    A view is a vector that weighs the features (`diag`), or a bias-free linear map to `rank` features (`linear`).
    """

    def __init__(self, width: int, views: int = 6, weight: ViewWeight = "diag", rank: int = 64) -> None:
        super().__init__()
        self.kind = weight
        shape = (views, width) if weight == "diag" else (views, width, rank)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Compare nodes (..., L, d) with each other.

        Args:
            x: (..., L, d).
            mask: (..., L) bool, real nodes.

        Returns:
            (..., L, L) in [-1, 1]: symmetric, 1 on the diagonal of real nodes, 0 wherever a node is padding.
        """
        if self.kind == "diag":
            seen = x.unsqueeze(-2) * self.weight  # (..., L, V, d)
        else:
            seen = torch.einsum("...ld,vdz->...lvz", x, self.weight)  # (..., L, V, z)
        # the mean of V cosines is one product of the concatenated unit vectors
        unit = nn.functional.normalize(seen, dim=-1).flatten(-2) / self.weight.shape[0] ** 0.5
        similarity = unit @ unit.transpose(-1, -2)
        own = torch.eye(x.shape[-2], dtype=torch.bool, device=x.device)
        similarity = similarity.masked_fill(own, 1.0)  # also for a node whose features are all 0
        return similarity * pair_mask(mask)
