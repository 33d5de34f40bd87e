"""Multi-head attention and the layers around it (Vaswani et al., 2017), with masks that may leave no key at all.

A query without any unmasked key gets zeros, where a softmax over the empty set would give NaN. Keys may have weights
that scale their attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Norm = Literal["post", "pre"]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    key_weights: Tensor | None = None,
    renorm: bool = False,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """`(softmax(Q K^T / sqrt(d)) * R) V`, R = 1 where no weights are given.

    Args:
        query: (..., N, d).
        key: (..., M, d).
        value: (..., M, d').
        mask: bool, broadcastable to (..., N, M), keys that a query may attend to; None: all.
        key_weights: R, broadcastable to (..., N, M), at least 0. It is applied after the softmax, so a key of weight 0
            still takes its share of it: mask a key to remove it.
        renorm: normalise the weighted rows to sum to 1 again (a row whose weights are all 0 stays 0).
        dropout: applied to the weights.

    Returns:
        (..., N, d'), and the weights (..., N, M), before dropout. Both are 0 for a query without keys.
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        # the lowest finite number: a row without keys stays free of NaN, in its gradient too
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    if key_weights is not None:
        weights = weights * key_weights
        if renorm:
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    dropped = weights if dropout is None else dropout(weights)
    return dropped.to(value.dtype) @ value, weights


class MultiHeadAttention(nn.Module):
    """Multi-head attention of queries (B, N, d) to keys (B, M, d_k): `attend` in each head, and an output projection.

    Args:
        width: d of queries and outputs.
        heads: number of heads; must divide d.
        dropout: dropout of the attention weights.
        key_width: d_k of keys and values; default: d.
        bias: whether the four maps have biases. A query without keys gets 0 with biases too.
        project: whether there is an output projection.
        map_values: whether values are mapped; else they are taken as they are, and `key_width` must be `width`.

    Raises:
        ValueError: `heads` does not divide `width`.

    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        key_width: int | None = None,
        bias: bool = True,
        project: bool = True,
        map_values: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.query = nn.Linear(width, width, bias)
        self.key = nn.Linear(key_width or width, width, bias)
        self.value = nn.Linear(key_width or width, width, bias) if map_values else nn.Identity()
        self.out = nn.Linear(width, width, bias) if project else None
        self.dropout = nn.Dropout(dropout)

    def split(self, queries: Tensor, keys: Tensor, values: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Q (B, heads, N, d / heads), K and V (B, heads, M, d / heads)."""
        mapped = self.query(queries), self.key(keys), self.value(keys if values is None else values)
        query, key, value = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in mapped)
        return query, key, value

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        key_weights: Tensor | None = None,
        renorm: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the keys.

        Args:
            queries: (B, N, d).
            keys: (B, M, d_k).
            values: (B, M, d_k); None: the keys.
            mask: bool, (B, M) real keys, or (B, N, M) keys that each query may attend to; None: all.
            key_weights: R of `attend`, (B, M), or (B, N, M).
            renorm: as in `attend`.
            need_weights: whether to return the weights.

        Returns:
            (B, N, d), 0 for a query without keys, and the weights (B, heads, N, M) or None.
        """
        pairs, scale = (_over_heads(each) for each in (mask, key_weights))
        query, key, value = self.split(queries, keys, values)
        by_head, weights = attend(query, key, value, pairs, scale, renorm, self.dropout)
        return self.join(by_head, pairs), weights if need_weights else None

    def join(self, by_head: Tensor, pairs: Tensor | None = None) -> Tensor:
        """Project the outputs (B, heads, N, d / heads) of all heads; `pairs` is the mask (B, 1, 1 | N, M)."""
        joined = by_head.transpose(1, 2).flatten(2)  # (B, N, d)
        if self.out is None:
            return joined
        joined = self.out(joined)
        # queries without keys stay 0 although the projection has a bias
        return joined if pairs is None else joined.masked_fill(~pairs.any(-1).squeeze(1).unsqueeze(-1), 0.0)


def _over_heads(pairs: Tensor | None) -> Tensor | None:
    """(B, M) or (B, N, M) with an axis for the heads and, if missing, one for the queries."""
    if pairs is None:
        return None
    return pairs[:, None, None] if pairs.dim() == 2 else pairs[:, None]


class FeedForward(nn.Sequential):
    """`W_2 f(W_1 x)`: (..., d) to (..., d) through `hidden` units."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__(nn.Linear(width, hidden), activation(), nn.Dropout(dropout), nn.Linear(hidden, width))


class SubLayer(nn.Module):
    """Residual and layer norm around a network f: `LN(x + Drop(f(x)))` (`post`), or `x + Drop(f(LN(x)))` (`pre`).

    Args:
        width: d.
        dropout: dropout of the output of f.
        norm: position of the layer norm.
        residual: False leaves out residual and norm: `Drop(f(x))`.
        eps: epsilon of the norm.

    """

    def __init__(
        self, width: int, dropout: float = 0.0, norm: Norm = "post", residual: bool = True, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.norm = nn.LayerNorm(width, eps) if residual else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        """(..., d) to (..., d)."""
        if self.norm is None:
            return self.dropout(f(x))
        if self.pre:
            return x + self.dropout(f(self.norm(x)))
        return self.norm(x + self.dropout(f(x)))


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each in a `SubLayer`: by default one layer of BERT.

    Args:
        width: d.
        heads: number of heads; must divide d.
        hidden: hidden width of the feed-forward network; default: 4 d.
        dropout: dropout of the attention weights and of the outputs of both networks.
        norm: position of the layer norms.
        activation: activation of the feed-forward network.
        eps: epsilon of the norms; BERT's is 1e-12.

    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int | None = None,
        dropout: float = 0.1,
        norm: Norm = "post",
        activation: type[nn.Module] = nn.GELU,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.feedforward = FeedForward(width, hidden or 4 * width, activation=activation)
        self.look, self.think = (SubLayer(width, dropout, norm, eps=eps) for _ in range(2))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, keys: Tensor | None = None, key_weights: Tensor | None = None
    ) -> Tensor:
        """Self-attention of states (B, N, d), or attention to `keys` (B, M, d).

        Args:
            x: (B, N, d).
            mask: mask of the keys, as in `MultiHeadAttention`.
            keys: None: the states themselves.
            key_weights: as in `MultiHeadAttention`.

        Returns:
            (B, N, d).
        """

        def attend_to(queries: Tensor) -> Tensor:
            return self.attention(queries, queries if keys is None else keys, mask=mask, key_weights=key_weights)[0]

        return self.think(self.look(x, attend_to), self.feedforward)


class TransformerLayers(nn.ModuleList):
    """Layers one after the other, each of which attends to the same keys; by default layers of BERT.

    Args:
        count: number of layers.
        width: d.
        heads: number of heads; must divide d.
        hidden: hidden width of the feed-forward networks; default: 4 d.
        dropout: as in `TransformerLayer`.

    """

    def __init__(self, count: int, width: int, heads: int, hidden: int | None = None, dropout: float = 0.1) -> None:
        super().__init__(TransformerLayer(width, heads, hidden, dropout) for _ in range(count))

    def forward(self, x: Tensor, mask: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
        """States (B, N, d) after all layers; `mask` and `keys` as in `TransformerLayer`."""
        for layer in self:
            x = layer(x, mask, keys)
        return x

    def weights(self, x: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """Attention of the first layer, the mean over its heads (B, N, M)."""
        first: Any = self[0]
        return first.attention(x, keys, mask=mask, need_weights=True)[1].mean(1)
