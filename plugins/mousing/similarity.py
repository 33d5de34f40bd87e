"""Similarity of nodes under several learnt views."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.nn.graph import pair_mask
from mnerkit_plugins.mousing.options import MousingOptions


class MultiViewSimilarity(nn.Module):
    """Mean over V views of the cosine of weighted nodes (MOUSING, Eq. 5-6; the weighted cosine of IDGL).

    A view is a vector of feature weights (`diag`), or a bias-free linear map to `view_rank` features (`linear`).
    """

    def __init__(self, width: int, o: MousingOptions) -> None:
        super().__init__()
        self.kind = o.view_weight
        shape = (o.num_views, width) if self.kind == "diag" else (o.num_views, width, o.view_rank)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, mask: Tensor, rows: int | None = None) -> Tensor:
        """Compare nodes (..., L, d), or the first `rows` of them, with all nodes.

        Args:
            x: (..., L, d).
            mask: (..., L) bool, real nodes.
            rows: R; default: L.

        Returns:
            (..., R, L) in [-1, 1]: symmetric, 1 on the diagonal of real nodes, 0 wherever a node is padding.
        """
        # the pairs are scaled: on a CPU unit vectors of each view and node cost several passes over V times the nodes
        if self.kind == "diag":
            squares = self.weight**2  # (V, d)
            views = x[..., :rows, :].unsqueeze(-3) * squares.unsqueeze(-2)  # (..., V, R, d)
            lengths = x**2 @ squares.t()  # (..., L, V)
            products = (views.flatten(-3, -2) @ x.transpose(-1, -2)).unflatten(-2, views.shape[-3:-1])
        else:
            views = torch.einsum("...ld,vdz->...vlz", x, self.weight)
            lengths = (views**2).sum(-1).transpose(-1, -2)
            products = views[..., :rows, :] @ views.transpose(-1, -2)  # (..., V, R, L)
        scale = lengths.clamp_min(1e-24).rsqrt().transpose(-1, -2)  # (..., V, L)
        similarity = (products * scale[..., :rows].unsqueeze(-1) * scale.unsqueeze(-2)).mean(-3)
        diagonal = torch.eye(x.shape[-2], dtype=torch.bool, device=x.device)[:rows]
        similarity = similarity.masked_fill(diagonal, 1.0)  # also for a node whose features are all 0
        return similarity * pair_mask(mask, rows)


@torch.no_grad()
def mean_pair_cosine(x: Tensor, mask: Tensor) -> Tensor:
    """Mean cosine of two different nodes of a graph, over all graphs: near 1 the graph has made its nodes alike.

    Args:
        x: (..., B, L, d).
        mask: (B, L) bool, real nodes.

    Returns:
        Scalar; 0 where no graph has two nodes.
    """
    unit = nn.functional.normalize(x.float(), dim=-1) * mask.unsqueeze(-1)
    real = mask.sum(-1)
    pairs = (real * (real - 1)).sum() * (x.shape[:-3].numel() or 1)
    # the squared length of the sum holds each ordered pair once, and each node with itself
    total = (unit.sum(-2) ** 2).sum() - (unit**2).sum()
    return total / pairs.clamp_min(1)
