"""Graphs over the nodes of a post, on dense tensors: cosine edges, normalised adjacency, two graph layers.

Every function takes any leading axes: nodes are (..., L, d), a node mask is (..., L), an adjacency is (..., L, L).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mnerkit.nn.chain_tree import used_on

EdgeSimilarity = Literal["minmax_block", "zscore_block", "raw"]
Normalisation = Literal["row", "sym", "none"]
BLOCKS = ("text_text", "text_image", "image_image")
# weights (..., L, L) and node values (..., L, d) to the weighted sums over the neighbours, (..., L, d)
Gather = Callable[[Tensor, Tensor], Tensor]


def pair_mask(mask: Tensor, rows: int | None = None) -> Tensor:
    """(..., L, L) bool, true where both nodes of `mask` (..., L) are real; `rows`: the first rows alone."""
    return mask[..., :rows].unsqueeze(-1) & mask.unsqueeze(-2)


def real_nodes(mask: Tensor) -> Tensor | None:
    """(n,) long, numbers of the true entries of a mask (..., L), for `per_node`.

    None where chains are computed as a tree: a GPU would wait for the host to count them, and padding costs it little.
    """
    return None if used_on(mask.device) else torch.from_numpy(np.flatnonzero(mask.numpy()))


def per_node(layer: Callable[[Tensor], Tensor], x: Tensor, real: Tensor | None) -> Tensor:
    """Apply a layer that reads nodes (..., L, d) one by one to the `real` ones alone (None: to all); 0 elsewhere."""
    if real is None:
        return layer(x)
    values = layer(x.flatten(0, -2).index_select(0, real))
    nodes = values.new_zeros(x.shape[:-1].numel(), values.shape[-1])
    return nodes.index_copy(0, real, values).unflatten(0, x.shape[:-1])


def _blocks(mask: Tensor, is_image: Tensor) -> Tensor:
    """(3, ..., L, L) bool: the real pairs of two different nodes, split in the order of `BLOCKS`."""
    distinct = pair_mask(mask) & ~torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    image = is_image.expand(mask.shape)
    images, texts = pair_mask(image), pair_mask(~image)
    return torch.stack((texts, ~(images | texts), images)) & distinct


def _scale(cosine: Tensor, block: Tensor, how: EdgeSimilarity) -> Tensor:
    """Scale the cosines of one block by the block's own statistics in each graph; a block without spread becomes 0."""
    if how == "minmax_block":
        low = cosine.masked_fill(~block, torch.inf).amin((-2, -1), keepdim=True)
        high = cosine.masked_fill(~block, -torch.inf).amax((-2, -1), keepdim=True)
        shifted, spread = cosine - low, high - low
    else:
        count = block.sum((-2, -1), keepdim=True).clamp_min(1)
        shifted = cosine - (cosine * block).sum((-2, -1), keepdim=True) / count
        variance = (shifted**2 * block).sum((-2, -1), keepdim=True) / count
        # the square root has no gradient at 0
        spread = variance.masked_fill(variance <= 1e-12, 1.0).sqrt().masked_fill(variance <= 1e-12, 0.0)
    flat = ~(spread > 1e-6)  # one pair, equal cosines, or (spread = -inf) no pair at all
    return torch.where(flat, 0.0, shifted / spread.masked_fill(flat, 1.0))


def cosine_graph(
    x: Tensor,
    mask: Tensor,
    delta: float,
    is_image: Tensor | None = None,
    sim: EdgeSimilarity = "minmax_block",
    temperature: float | None = None,
) -> Tensor:
    """Join nodes whose cosine exceeds `delta` (MOUSING, Eq. 2). The comparison passes a gradient only by `temperature`.

    The cosine of a word and a picture in a joint space (CLIP) is far below that of two words, so one threshold on raw
    cosines leaves no edge between them. The block forms first scale the text-text, text-image and image-image pairs of
    each graph separately: `minmax_block` to 0..1, `zscore_block` to mean 0 and deviation 1 (`delta` is then in
    standard deviations). `raw` is the equation as printed.

    Args:
        x: (..., L, d) node features.
        mask: (..., L) bool, real nodes.
        delta: threshold.
        is_image: bool, broadcastable to `mask`; needed by the block forms.
        sim: scale of the cosine.
        temperature: of a straight-through estimator: the forward pass is the same graph, the backward pass has the
            gradient of `sigmoid((cosine - delta) / temperature)` at each pair of different nodes. None: no gradient.

    Returns:
        (..., L, L) of 0 and 1, in float32 or double: symmetric, 1 on the diagonal of real nodes, 0 where a node is
        padding.

    Raises:
        ValueError: a block form without `is_image`.
    """
    exact = torch.promote_types(x.dtype, torch.float32)  # half precision would move pairs across the threshold
    learnt = temperature is not None and torch.is_grad_enabled()
    with torch.autocast(x.device.type, enabled=False), torch.set_grad_enabled(learnt):
        return _joined(x.to(exact), mask, delta, is_image, sim, temperature if learnt else None)


def _joined(
    x: Tensor, mask: Tensor, delta: float, is_image: Tensor | None, sim: EdgeSimilarity, temperature: float | None
) -> Tensor:
    """`cosine_graph` of nodes in full precision, with the gradient mode set."""
    unit = nn.functional.normalize(x, dim=-1)
    cosine = unit @ unit.transpose(-1, -2)
    cosine = (cosine + cosine.transpose(-1, -2)) / 2  # symmetric to the last bit
    if sim != "raw":
        if is_image is None:
            raise ValueError(f"sim={sim!r} needs is_image")
        blocks = _blocks(mask, is_image)
        cosine = sum((_scale(cosine, block, sim) * block for block in blocks), torch.zeros_like(cosine))
    edges = (cosine > delta) & pair_mask(mask)
    # rounding can put a node's cosine with itself on either side of 1
    self_loops = torch.diag_embed(mask)
    joined = (edges | self_loops).to(x.dtype)
    if temperature is None:
        return joined
    soft = torch.sigmoid((cosine - delta) / temperature) * (pair_mask(mask) & ~self_loops)
    return joined + (soft - soft.detach())  # the value is exactly `joined`


def edge_density(adjacency: Tensor, mask: Tensor, is_image: Tensor) -> dict[str, Tensor]:
    """Share of joined pairs (of two different nodes) in each of `BLOCKS`, over all graphs; 0 for an empty block.

    The scalars stay on the graph's device, so computing them does not wait for it.
    """
    blocks = _blocks(mask, is_image)
    return {
        name: ((adjacency > 0) & block).sum() / block.sum().clamp_min(1)
        for name, block in zip(BLOCKS, blocks, strict=True)
    }


def strongest_neighbours(weights: Tensor, mask: Tensor, count: int) -> Tensor:
    """(..., L, L) bool: of each real node, the `count` real nodes of largest weight.

    Nodes that tie with the last of them are included, so the result does not depend on the order of nodes or padding.

    Args:
        weights: (..., L, L), or the rows of the first nodes.
        mask: (..., L) bool, real nodes.
        count: at least 1; a graph with fewer nodes keeps all of them.
    """
    pairs = pair_mask(mask, weights.shape[-2])
    with torch.no_grad():
        real = weights.masked_fill(~pairs, -torch.inf)
        last = real.topk(min(count, real.shape[-1]), dim=-1).values[..., -1:]
        return (real >= last) & pairs


def normalise_adjacency(
    adjacency: Tensor, mask: Tensor, how: Normalisation = "row", self_loops: bool = False
) -> Tensor:
    """Scale the weights of a graph so that sums over neighbours do not grow with the graph.

    `row` divides by the sum of a row (a mean over neighbours), `sym` is D^-1/2 A D^-1/2 of Kipf and Welling. D sums
    absolute weights, since a learnt graph may have negative ones. A node without neighbours keeps zeros.

    Args:
        adjacency: (..., L, L) weights; for `row` and `none` the rows of the first nodes are enough.
        mask: (..., L) bool, real nodes; weights of padding are dropped.
        how: `row`, `sym` or `none`.
        self_loops: set the diagonal of real nodes to at least 1 first.

    Returns:
        As `adjacency`.
    """
    weights = adjacency * pair_mask(mask, adjacency.shape[-2])
    if self_loops:
        weights = torch.where(torch.diag_embed(mask), weights.clamp_min(1.0), weights)
    if how == "none":
        return weights
    degree = weights.abs().sum(-1)
    inverse = torch.where(degree > 0, 1 / degree.masked_fill(degree <= 0, 1.0), 0.0)
    if how == "row":
        return weights * inverse.unsqueeze(-1)
    root = inverse.sqrt()
    return weights * root.unsqueeze(-1) * root.unsqueeze(-2)


class GraphConvolution(nn.Module):
    """`Drop(ReLU(A X W + b))` (MOUSING, Eq. 4): one graph convolution.

    With `residual` the output is added to the nodes (of equal width), and the weights start small.
    """

    def __init__(self, in_width: int, width: int, dropout: float = 0.0, residual: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width)
        self.dropout = nn.Dropout(dropout)
        self.residual = residual
        if residual:
            _init_small(self.linear)

    def forward(
        self, x: Tensor, adjacency: Tensor, gather: Gather = torch.matmul, real: Tensor | None = None
    ) -> Tensor:
        """Map nodes (..., L, in_width) over normalised weights (..., L, L) to (..., L, width).

        `gather` computes the weighted sums: a matrix product, or a sparse form of it (`mnerkit.nn.graph_backends`).
        `real` are numbers of the real nodes (`real_nodes`); None: padding is computed, too.
        """
        mapped = per_node(lambda nodes: nn.functional.linear(nodes, self.linear.weight), x, real)
        update = self.dropout(torch.relu(gather(adjacency, mapped) + self.linear.bias))
        return x + update if self.residual else update


class GraphUpdate(nn.Module):
    """`m_p = sum_q A_pq (W_M x_q + b_M)`, then `x_p <- Drop(ReLU(W_U [x_p; m_p] + b_U))` (MOUSING, Eq. 8).

    With `residual` the update is added to the nodes, and its weights start small.
    """

    def __init__(self, width: int, dropout: float = 0.0, residual: bool = False) -> None:
        super().__init__()
        self.message = nn.Linear(width, width)
        self.update = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.residual = residual
        if residual:
            _init_small(self.update)

    def forward(
        self,
        x: Tensor,
        adjacency: Tensor,
        gather: Gather = torch.matmul,
        real: Tensor | None = None,
        updated: Tensor | None = None,
    ) -> Tensor:
        """Pass messages among nodes (..., L, d) over normalised weights (..., L, L); same shape as `x`.

        Where `adjacency` has the rows of the first R nodes, these alone get messages: (..., R, d). `gather` and `real`
        as in `GraphConvolution`; `updated` are the real ones among those that get messages.
        """
        rows = adjacency.shape[-2]
        gathered = gather(adjacency, per_node(self.message, x, real))
        targets = x[..., :rows, :]
        update = torch.relu(per_node(self.update, torch.cat((targets, gathered), dim=-1), updated))
        if rows == x.shape[-2]:
            update = self.dropout(update)
        else:  # a draw for every node, so that the numbers do not depend on which of them get messages
            update = update * self.dropout(torch.ones_like(x))[..., :rows, :]
        return targets + update if self.residual else update


def _init_small(linear: nn.Linear) -> None:
    """Draw weights at BERT's scale, so that an update disturbs the nodes little before it is trained."""
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
