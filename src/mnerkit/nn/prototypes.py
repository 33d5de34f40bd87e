"""Class means and the distances of words to them (Snell et al., 2017; MOUSING, Eq. 10-11)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Distance = Literal["sq_euclid", "euclid", "cosine"]


def prototypes(
    states: Tensor, classes: Tensor, num_classes: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted mean of the states of each class (MOUSING, Eq. 10).

    Args:
        states: (..., n, d), finite.
        classes: (n,) long.
        num_classes: C.
        weights: (n,) weights or mask; all ones by default.

    Returns:
        (..., C, d) means, zeros for a class without states, and (C,) summed weights.
    """
    # `one_hot` would read the classes on the host
    members = (classes.unsqueeze(-1) == torch.arange(num_classes, device=classes.device)).to(states.dtype)  # (n, C)
    if weights is not None:
        members = members * weights.to(states.dtype).unsqueeze(-1)
    counts = members.sum(0)
    shares = members / counts.masked_fill(counts == 0, 1.0)
    return shares.t() @ states, counts


def distances(states: Tensor, centres: Tensor, kind: Distance = "sq_euclid") -> Tensor:
    """Distances of states (..., n, d) to centres (..., C, d): (..., n, C), all >= 0.

    `cosine` is one minus the cosine. The gradient at distance 0 is 0 for all three, and no (n, C, d) tensor is made.
    """
    if kind == "cosine":
        unit_states, unit_centres = (nn.functional.normalize(each, dim=-1) for each in (states, centres))
        return (1 - unit_states @ unit_centres.transpose(-1, -2)).clamp_min(0)
    # a matrix product would lose small distances to rounding
    norm = torch.cdist(states, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return norm if kind == "euclid" else norm.square()


def nearest(states: Tensor, centres: Tensor, kind: Distance = "sq_euclid") -> Tensor:
    """Distance of each state (..., n, d) to the nearest of `centres` (..., m, d), m > 0: (..., n)."""
    return distances(states, centres, kind).amin(-1)
