"""The images of one post look at each other: a graph transformer over image vectors, weighted by relevance."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Block = Literal["full", "attn_only"]
WeightAxis = Literal["source", "target"]
Position = Literal["degree", "order", "none"]


def weighted_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    weights: Tensor | None = None,
    axis: WeightAxis = "source",
    renorm: bool = False,
) -> tuple[Tensor, Tensor]:
    """(softmax(Q K^T / sqrt(d)) * R) V (GIFR, Eq. 4).

    Args:
        query: (B, heads, m, d), d the width of a head.
        key: likewise.
        value: likewise.
        mask: (B, m) bool, real images.
        weights: R, (B, m); None: 1.
        axis: R_j scales column j, the image that is looked at (`source`), or R_i row i, the one that looks (`target`).
        renorm: let the weighted rows sum to 1 again (a row whose weights are all 0 stays 0).

    Returns:
        (B, heads, m, d), and the weighted attention (B, heads, m, m). Rows of a post without images are 0.
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, heads, m, m)
    hidden = ~mask[:, None, None, :]
    attention = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0.0)
    if weights is not None:
        attention = attention * (weights[:, None, None, :] if axis == "source" else weights[:, None, :, None])
    if renorm:
        attention = attention / attention.sum(-1, keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)
    return attention @ value, attention


class _Layer(nn.Module):
    """One layer: weighted attention alone, or with residual, norms and feed-forward network.

    The norms stand before the attention and the feed-forward network, as in Graphormer: behind them, they would give
    every image the same length again, whatever its relevance.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        block: Block,
        feedforward: int,
        dropout: float,
        residual_scale_r: bool,
        r_axis: WeightAxis,
        renorm: bool,
    ) -> None:
        super().__init__()
        full = block == "full"
        self.heads, self.residual_scale_r, self.r_axis, self.renorm = heads, residual_scale_r, r_axis, renorm
        self.query, self.key, self.value = (nn.Linear(width, width, bias=full) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.out: nn.Module | None = None
        if full:
            self.out = nn.Linear(width, width)
            self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.feedforward = nn.Sequential(
                nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
            )

    def forward(self, h: Tensor, mask: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vectors (B, m, d) to U (B, m, d), and the attention (B, heads, m, m)."""
        seen = h if self.out is None else self.norm(h)
        query, key, value = (
            part(seen).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        looked, attention = weighted_attention(query, key, value, mask, weights, self.r_axis, self.renorm)
        looked = looked.transpose(1, 2).flatten(2)  # (B, m, d)
        if self.out is None:
            return looked, attention
        kept = h if weights is None or not self.residual_scale_r else h * weights.unsqueeze(-1)
        u = kept + self.dropout(self.out(looked))
        return u + self.dropout(self.feedforward(self.second_norm(u))), attention


class ImageSetEncoder(nn.Module):
    """h_i = V_i + z (Eq. 3), then layers of attention among the images of a post, weighted by R (Eq. 4) (GIFR, 4.2).

    With positions by order and without weights it is the transformer layer of TPM-MI.

    Args:
        width: d of the image vectors.
        heads: attention heads; must divide d.
        layers: how many.
        position: z by the number of other images (`degree`: all images of a post are linked), by the image's place
            (`order`), or none.
        max_degree: largest degree with a vector of its own.
        max_images: places with a vector of their own, for `order`; later images have the last one.
        block: a whole transformer layer, or the attention of Eq. 4 alone, without biases: R = 0 gives U = 0.
        feedforward: hidden width of the layer's feed-forward network; default: 4 d.
        dropout: in `full` blocks.
        residual_scale_r: scale what the residual lets through by R, else an image's own vector passes whatever R is.
        r_axis: R weighs the image that is looked at (`source`), or the one that looks (`target`).
        renorm: let the weighted attention sum to 1 again.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(
        self,
        width: int,
        heads: int = 8,
        layers: int = 1,
        position: Position = "degree",
        max_degree: int = 3,
        max_images: int = 4,
        block: Block = "full",
        feedforward: int | None = None,
        dropout: float = 0.1,
        residual_scale_r: bool = True,
        r_axis: WeightAxis = "source",
        renorm: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.width, self.position = width, position
        self.places: nn.Embedding | None = None
        if position != "none":
            self.places = nn.Embedding(max_degree + 1 if position == "degree" else max_images, width)
            nn.init.normal_(self.places.weight, std=0.02)
        self.layers = nn.ModuleList(
            _Layer(width, heads, block, feedforward or 4 * width, dropout, residual_scale_r, r_axis, renorm)
            for _ in range(layers)
        )

    def positions(self, mask: Tensor) -> Tensor:
        """(B, m) long: which vector of the table each image gets."""
        assert self.places is not None
        if self.position == "degree":
            numbers = (mask.sum(1, keepdim=True) - 1).clamp_min(0).expand_as(mask)
        else:
            numbers = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return numbers.clamp_max(self.places.num_embeddings - 1)

    def forward(self, vectors: Tensor, mask: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Let the images of each post look at each other.

        Args:
            vectors: V, (B, m, d).
            mask: (B, m) bool, the images that take part: an image that is masked is nowhere seen.
            weights: R, (B, m), in 0..1; None: 1.

        Returns:
            U (B, m, d), zeros where masked, and the weighted attention of the last layer, mean over heads, (B, m, m).
        """
        h = vectors if self.places is None else vectors + self.places(self.positions(mask))  # Eq. 3
        attention = h.new_zeros(*mask.shape, mask.shape[1]).unsqueeze(1)
        for layer in self.layers:
            h, attention = layer(h, mask, weights)  # Eq. 4
        shown = attention.mean(1) * mask.unsqueeze(-1)
        return h * mask.unsqueeze(-1), shown
