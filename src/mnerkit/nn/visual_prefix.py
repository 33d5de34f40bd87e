"""Pooling of stage maps, the dynamic gate that mixes them for each layer (HVPNet; GMF), and initial weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

BERT_SCALE = 0.02
Pool = Literal["adaptive", "released"]


def init_small(*layers: nn.Module) -> None:
    """Draw the weights of linear maps at BERT's scale, N(0, 0.02^2), and set their biases to 0.

    For residual updates, and for maps to keys and values that precede the words: at PyTorch's default scale the latter
    disturb a text tower with new weights, which then learns the words badly.
    """
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=BERT_SCALE)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def pooled_maps(stages: Sequence[Tensor], grid: int, pool: Pool = "adaptive") -> list[Tensor]:
    """Pool stage maps to one grid: (N, c_i, h_i, w_i) each to (N, c_i, grid, grid).

    Args:
        stages: the maps, of any sides.
        grid: rows and columns.
        pool: every part of the map counts; or squares of side // grid, as in HVPNet's released code: if `grid` does not
            divide the side, the last rows and columns are not read.

    Maps of that grid are returned as they are.
    """
    if all(each.shape[2:] == (grid, grid) for each in stages):
        return list(stages)
    if pool == "adaptive":
        return [functional.adaptive_avg_pool2d(each, grid) for each in stages]
    sides = [(max(1, each.shape[2] // grid), max(1, each.shape[3] // grid)) for each in stages]
    return [functional.avg_pool2d(each, side)[..., :grid, :grid] for each, side in zip(stages, sides, strict=True)]


def pooled_stages(stages: Sequence[Tensor], grid: int | None, pool: Pool = "adaptive") -> list[Tensor]:
    """Pool stage maps to one grid and flatten them to positions.

    Args:
        stages: (N, c_i, h_i, w_i) each, of increasing depth.
        grid: rows and columns of positions, P = grid^2, each the mean of its part of the map; None: no pooling; the
            maps must have one size.
        pool: as in `pooled_maps`.

    Returns:
        (N, P, c_i) each, positions row by row.
    """
    if grid is not None:
        stages = pooled_maps(stages, grid, pool)
    return [each.flatten(2).transpose(1, 2) for each in stages]


def stage_rows(pooled: Sequence[Tensor], layout: Literal["proper", "released"] = "proper") -> Tensor:
    """Join the stages of pooled positions.

    Args:
        pooled: (N, P, c_i) each.
        layout: a row holds the channels of one place; or what HVPNet's released code makes of them: it stacks the
            channels of all stages and reshapes them to P rows, which mixes places.

    Returns:
        (N, P, sum of c_i).
    """
    if layout == "proper":
        return torch.cat([*pooled], -1)
    joined = torch.cat([stage.transpose(1, 2) for stage in pooled], 1)  # (N, sum of c_i, P)
    return joined.reshape(len(joined), joined.shape[2], joined.shape[1])


class Standardise(nn.Module):
    """Standardise each channel of pooled positions to mean 0 and deviation 1 over a batch; there are no parameters.

    After ReLU and pooling, a channel hardly differs between pictures, and a map with new weights takes long to learn
    from the small differences.

    Args:
        channels: c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, affine=False)

    def forward(self, positions: Tensor) -> Tensor:
        """(N, P, c) to the same shape; evaluation uses the running statistics."""
        rows, norm = positions.flatten(0, 1), self.norm
        if self.training and len(rows) > 1:
            return norm(rows).view_as(positions)
        # one row has no deviation
        return functional.batch_norm(rows, norm.running_mean, norm.running_var, eps=norm.eps).view_as(positions)


class DynamicGate(nn.Module):
    """g^(l) = softmax(LeakyReLU(W^(l) x)): the weight of each stage for each layer of the text tower.

    Args:
        width: width of x, the vector of a picture.
        layers: L, the layers of the text tower; each has its own map.
        stages: b.
    """

    def __init__(self, width: int, layers: int, stages: int = 4) -> None:
        super().__init__()
        self.layers, self.stages = layers, stages
        self.map = nn.Linear(width, layers * stages)  # the stacked maps of all layers

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) to weights (N, L, b) that sum to one over b."""
        return functional.leaky_relu(self.map(x).unflatten(-1, (self.layers, self.stages))).softmax(-1)


def gated_sum(gates: Tensor, stages: Tensor) -> Tensor:
    """sum_i g_i V_i for each layer: (N, L, b) and (N, b, P, d) to (N, L, P, d) (GMF, Eq. 9)."""
    return torch.einsum("nlb,nbpd->nlpd", gates, stages)


def map_each(maps: Iterable[nn.Module], layers: Tensor) -> Tensor:
    """Map what each layer gets by its own linear map, in one product: (N, L, P, d) to (N, L, P, d').

    Args:
        maps: linear maps of the L layers, all with a bias or none; or one for all of them.
        layers: what they get.
    """
    weights, biases = zip(*((each.weight, each.bias) for each in maps), strict=True)
    if len(weights) == 1:
        return functional.linear(layers, weights[0], biases[0])
    mapped = torch.einsum("nlpd,led->nlpe", layers, torch.stack(weights))
    return mapped if biases[0] is None else mapped + torch.stack(biases).unsqueeze(1)


def masked_mean(positions: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real positions: (N, b, P, d) and (N, P) bool to (N, b, d); zeros if there are none."""
    weight = mask[:, None, :, None].to(positions.dtype)
    return (positions * weight).sum(2) / weight.sum(2).clamp_min(1)
