"""A gate that mixes two vectors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

GateKind = Literal["feature", "scalar"]


class Gate(nn.Module):
    """`g = sigmoid(W_1 a + W_2 b)`, and `g * a + (1 - g) * b` (GEI, Eq. 9-12).

    Args:
        width: d of both.
        kind: `feature` has one share for each feature, `scalar` one for the whole vector.
        bias: whether g has a bias; `both`: each of the two maps has one, as in the authors' code of MAF.

    """

    def __init__(self, width: int, kind: GateKind = "feature", bias: bool | Literal["both"] = False) -> None:
        super().__init__()
        size = width if kind == "feature" else 1
        self.first = nn.Linear(width, size, bias=bool(bias))
        self.second = nn.Linear(width, size, bias=bias == "both")

    def share(self, a: Tensor, b: Tensor) -> Tensor:
        """g of (..., d) and (..., d), (..., d) or (..., 1); for methods that scale one vector by it (UMT, MAF)."""
        return torch.sigmoid(self.first(a) + self.second(b))

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix two vectors.

        Args:
            a: (..., d).
            b: (..., d).
            mask: (..., 1) bool, where there is an `a`: elsewhere its share is 0. None: everywhere.

        Returns:
            (..., d), and g, (..., d) or (..., 1): the share of `a`.
        """
        g = self.share(a, b)
        g = g if mask is None else g * mask
        return b + g * (a - b), g
