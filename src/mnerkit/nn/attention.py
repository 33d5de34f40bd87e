"""Multi-head attention and the layers around it (Vaswani et al., 2017), with masks that may leave no key at all.

A query for which no key is real gets zeros, where a softmax over the empty set would give NaN. Keys may carry weights
that scale what is seen of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

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
        mask: bool, broadcastable to (..., N, M), keys that a query may see; None: all.
        key_weights: R, broadcastable to (..., N, M), at least 0. The softmax is taken before, so a key of weight 0
            still takes its share of it: mask a key to remove it.
        renorm: let the weighted rows sum to 1 again (a row whose weights are all 0 stays 0).
        dropout: on the weights.

    Returns:
        (..., N, d'), and the weights (..., N, M), before dropout. Both are 0 for a query that sees no key.
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
    seen = weights if dropout is None else dropout(weights)
    return seen.to(value.dtype) @ value, weights


class MultiHeadAttention(nn.Module):
    """Queries (B, N, d) look at keys (B, M, d_k): the sum over heads of `attend`, and an output projection.

    Args:
        width: d of queries and of what comes out.
        heads: how many; must divide d.
        dropout: on the attention weights.
        key_width: d_k of keys and values; default: d.
        bias: whether the four maps have one. A query that sees nothing gets 0 with biases too.
        project: whether there is an output projection.

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
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide the width {width}")
        self.heads = heads
        self.query = nn.Linear(width, width, bias)
        self.key, self.value = (nn.Linear(key_width or width, width, bias) for _ in range(2))
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
        want_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Look.

        Args:
            queries: (B, N, d).
            keys: (B, M, d_k).
            values: (B, M, d_k); None: the keys.
            mask: bool, (B, M) real keys, or (B, N, M) keys that each query may see; None: all.
            key_weights: R of `attend`, (B, M), or (B, N, M).
            renorm: as in `attend`.
            want_weights: whether to return the weights.

        Returns:
            (B, N, d), 0 for a query that sees no key, and the weights (B, heads, N, M) or None.
        """
        pairs, scale = (_over_heads(each) for each in (mask, key_weights))
        query, key, value = self.split(queries, keys, values)
        seen, weights = attend(query, key, value, pairs, scale, renorm, self.dropout)
        seen = self.join(seen, pairs)
        return seen, weights if want_weights else None

    def join(self, seen: Tensor, pairs: Tensor | None = None) -> Tensor:
        """The output projection of (B, heads, N, d / heads); `pairs` (B, 1, 1 | N, M) tells who saw nothing."""
        joined = seen.transpose(1, 2).flatten(2)  # (B, N, d)
        if self.out is None:
            return joined
        joined = self.out(joined)
        # the bias of the projection is something, too
        return joined if pairs is None else joined.masked_fill(~pairs.any(-1).squeeze(1).unsqueeze(-1), 0.0)


def _over_heads(pairs: Tensor | None) -> Tensor | None:
    """(B, M) or (B, N, M) with axes for heads and, where it lacks, queries."""
    if pairs is None:
        return None
    return pairs[:, None, None] if pairs.dim() == 2 else pairs[:, None]


class FeedForward(nn.Sequential):
    """`W_2 f(W_1 x)`: (..., d) to (..., d) by way of `hidden`."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__(nn.Linear(width, hidden), activation(), nn.Dropout(dropout), nn.Linear(hidden, width))


class SubLayer(nn.Module):
    """Residual and layer norm around a network f: `LN(x + Drop(f(x)))` (`post`), or `x + Drop(f(LN(x)))` (`pre`).

    Args:
        width: d.
        dropout: on what f returns.
        norm: where the norm stands.
        residual: False leaves out both: `Drop(f(x))`.
        eps: of the norm.

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
    """Attention and a feed-forward network, each in a `SubLayer`: one layer of BERT, by default.

    Args:
        width: d.
        heads: must divide d.
        hidden: of the feed-forward network; default: 4 d.
        dropout: on attention weights and behind both networks.
        norm: where the norms stand.
        activation: of the feed-forward network.
        eps: of the norms; BERT's is 1e-12.

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
        """States (B, N, d) look at themselves, or at `keys` (B, M, d).

        Args:
            x: (B, N, d).
            mask: as in `MultiHeadAttention`, of the keys.
            keys: None: the states themselves.
            key_weights: as in `MultiHeadAttention`.

        Returns:
            (B, N, d).
        """

        def look(queries: Tensor) -> Tensor:
            return self.attention(queries, queries if keys is None else keys, mask=mask, key_weights=key_weights)[0]

        return self.think(self.look(x, look), self.feedforward)
