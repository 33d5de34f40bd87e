"""What the second environment sees: the same graph (learned networks), or a disturbed one (two rows of Table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mnerkit.nn.graph import pair_mask

Intervention = Literal["learned", "random", "gaussian"]
Graph = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Perturbation:
    """Graphs of the two environments.

    Attributes:
        kind: `learned` gives both the same graph, `random` flips edges of the second one, `gaussian` adds noise to its
            node features.
        flip: probability with which `random` flips an edge.
        noise: deviation of `gaussian`.
    """

    kind: Intervention = "learned"
    flip: float = 0.1
    noise: float = 0.1

    def draws(self, x: Tensor, adjacency: Tensor, mask: Tensor, seed: int | None) -> list[Graph]:
        """Features and adjacency of both environments.

        Only real nodes and pairs are drawn for, in order, so padding changes nothing.

        Args:
            x: (B, L, d) features.
            adjacency: (B, L, L) of 0 and 1.
            mask: (B, L) bool.
            seed: draws that depend on this number alone, or None for the global random state (training).
        """
        if self.kind == "learned":
            return [(x, adjacency), (x, adjacency)]
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        if self.kind == "gaussian":
            noise = torch.zeros_like(x)
            shape = (int(mask.sum()), x.shape[-1])
            noise[mask] = self.noise * torch.randn(shape, generator=generator).to(x)
            return [(x, adjacency), (x + noise, adjacency)]
        pairs = pair_mask(mask).triu(1)
        flips = torch.zeros_like(adjacency)
        flips[pairs] = (torch.rand(int(pairs.sum()), generator=generator) < self.flip).to(adjacency)
        flips = flips + flips.transpose(-1, -2)
        return [(x, adjacency), (x, (adjacency - flips).abs())]
