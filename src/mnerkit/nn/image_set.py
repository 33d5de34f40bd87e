"""A graph transformer over the image vectors of a post, weighted by relevance."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.errors import UsageError
from mnerkit.nn.attention import FeedForward, MultiHeadAttention, Norm

Block = Literal["full", "attn_only"]
WeightAxis = Literal["source", "target"]
Position = Literal["degree", "order", "none"]
Axis = Literal["images", "posts"]


class _Layer(nn.Module):
    """One layer: weighted attention (GIFR, Eq. 4) alone, or with residual, norms and feed-forward network.

    The norms precede the attention and the feed-forward network, as in Graphormer: after them (`post`, for images
    without weights) they would give every image vector the same length again, whatever its relevance.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        block: Block,
        feedforward: int,
        dropout: float,
        attention_dropout: float,
        norm: Norm,
        residual_scale_r: bool,
        r_axis: WeightAxis,
        renorm: bool,
    ) -> None:
        super().__init__()
        full = block == "full"
        self.residual_scale_r, self.r_axis, self.renorm = residual_scale_r, r_axis, renorm
        self.post = norm == "post"
        self.attention = MultiHeadAttention(width, heads, attention_dropout, bias=full, project=full)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2)) if full else None
        self.feedforward = FeedForward(width, feedforward, dropout) if full else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, mask: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vectors (B, m, d) to U (B, m, d), and the weighted attention (B, heads, m, m)."""
        x = h if self.norms is None or self.post else self.norms[0](h)
        pairs = weights
        if weights is not None and self.r_axis == "target":
            pairs = weights.unsqueeze(-1).expand(-1, -1, h.shape[1])  # (B, m, m): rows
        attended, attention = self.attention(x, x, mask=mask, key_weights=pairs, renorm=self.renorm, need_weights=True)
        if self.norms is None or self.feedforward is None:
            return attended, attention
        if self.post:
            u = self.norms[0](h + self.dropout(attended))
            return self.norms[1](u + self.dropout(self.feedforward(u))), attention
        if weights is None or not self.residual_scale_r:
            u = h + self.dropout(attended)
            return u + self.dropout(self.feedforward(self.norms[1](u))), attention
        r = weights.unsqueeze(-1)
        u = r * h + self.dropout(attended)
        # the norm brings u back to unit length, however small R made it
        return u + r * self.dropout(self.feedforward(self.norms[1](u))), attention


class ImageSetEncoder(nn.Module):
    """h_i = V_i + z (Eq. 3), then layers of attention among the images of a post, weighted by R (Eq. 4) (GIFR, 4.2).

    With positions by order and no weights it is the transformer layer of TPM-MI.

    Args:
        width: d of the image vectors.
        heads: attention heads; must divide d.
        layers: number of layers.
        position: z by the number of other images (`degree`: all images of a post are linked), by the image's place
            (`order`), or none.
        max_degree: largest degree with a vector of its own.
        max_images: number of places with a vector of their own, for `order`; later images have the last one.
        block: `full` is a whole transformer layer, `attn_only` Eq. 4 alone, without biases: R = 0 gives U = 0.
        feedforward: hidden width of the layer's feed-forward network; default: 4 d.
        dropout: dropout in `full` blocks.
        attention_dropout: dropout of the attention weights.
        norm: position of the norms of `full` blocks; `post` takes no weights.
        axis: images attend to those of their post; or to those of all posts of the batch in the same place.
        place_std: deviation of the vectors of places at the start.
        residual_scale_r: scale an image's own vector and the output of its feed-forward network by R; else R does not
            affect them.
        r_axis: R weighs the image that is attended to (`source`), or the one that attends (`target`).
        renorm: normalise the weighted attention to sum to 1 again.

    Raises:
        UsageError: `heads` does not divide `width`.
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
        attention_dropout: float = 0.0,
        norm: Norm = "pre",
        axis: Axis = "images",
        place_std: float = 0.02,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"--model.heads {heads}: give a divisor of the width of the image vectors, {width}")
        self.width, self.position, self.norm, self.axis = width, position, norm, axis
        self.places: nn.Embedding | None = None
        if position != "none":
            self.places = nn.Embedding(max_degree + 1 if position == "degree" else max_images, width)
            nn.init.normal_(self.places.weight, std=place_std)
        self.layers = nn.ModuleList(
            _Layer(
                width,
                heads,
                block,
                feedforward or 4 * width,
                dropout,
                attention_dropout,
                norm,
                residual_scale_r,
                r_axis,
                renorm,
            )
            for _ in range(layers)
        )

    def positions(self, mask: Tensor) -> Tensor:
        """(B, m) long: the row of the embedding table for each image."""
        assert self.places is not None
        if self.position == "degree":
            numbers = (mask.sum(1, keepdim=True) - 1).clamp_min(0).expand_as(mask)
        else:
            numbers = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return numbers.clamp_max(self.places.num_embeddings - 1)

    def forward(self, vectors: Tensor, mask: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Let the images of each post attend to each other.

        Args:
            vectors: V, (B, m, d).
            mask: (B, m) bool, real images; masked ones are attended to by none.
            weights: R, (B, m), in 0..1; None: 1.

        Returns:
            U (B, m, d), zeros where masked, and the weighted attention of the last layer, mean over heads, (B, m, m);
            with the axis `posts` (B, m, B).

        Raises:
            ValueError: there are weights, which the norm `post` and the axis `posts` take none of.
        """
        if weights is not None and (self.norm == "post" or self.axis == "posts"):
            raise ValueError("weights of images need the norm 'pre' and the axis 'images'")
        h = vectors if self.places is None else vectors + self.places(self.positions(mask))  # Eq. 3
        seen = mask
        if self.axis == "posts":
            h, seen = h.transpose(0, 1), mask.t()  # (m, B, d), (m, B)
        attention = h.new_zeros(*seen.shape, seen.shape[1]).unsqueeze(1)
        for layer in self.layers:
            h, attention = layer(h, seen, weights)  # Eq. 4
        attention = attention.mean(1)
        if self.axis == "posts":
            h, attention = h.transpose(0, 1), attention.transpose(0, 1)
        return h * mask.unsqueeze(-1), attention * mask.unsqueeze(-1)
