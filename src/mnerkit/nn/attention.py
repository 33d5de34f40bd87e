"""Multi-head attention and the layers around it (Vaswani et al., 2017), with masks that may leave no key at all.

A query without any unmasked key gets zeros, where a softmax over the empty set would give NaN. Keys may have weights
that scale their attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["post", "pre"]


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis of (..., M), where `mask`, broadcastable to it, is true; zeros where all is masked."""
    if mask is None:
        return scores.softmax(-1)
    # the lowest finite number: a row without keys stays free of NaN, in its gradient too
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0.0)


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
    weights = masked_softmax(scores, mask)
    if key_weights is not None:
        weights = weights * key_weights
        if renorm:
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    dropped = weights if dropout is None else dropout(weights)
    return dropped.to(value.dtype) @ value, weights


class KeyMask:
    """Which keys each query may attend to; attentions that share the mask share what is made of it.

    Args:
        mask: bool, (B, M) real keys, or (B, N, M) keys that each query may attend to.
        unread: whether nothing reads a query without keys, which then need not become 0.

    Attributes:
        pairs: the mask, (B, 1, 1 or N, M).
    """

    def __init__(self, mask: Tensor, unread: bool = False) -> None:
        self.pairs, self.unread = _over_heads(mask), unread
        self._added: Tensor | None = None

    @cached_property
    def empty(self) -> Tensor:
        """Queries without any key, (B, 1, 1 or N)."""
        return ~self.pairs.any(-1)

    def added(self, like: Tensor) -> Tensor:
        """What is added to scores like these: 0, or -inf where masked. A query without any key attends to all."""
        if self._added is None or self._added.dtype != like.dtype:
            seen = self.pairs | self.empty.unsqueeze(-1)
            self._added = torch.zeros_like(seen, dtype=like.dtype).masked_fill_(~seen, -torch.inf)
        return self._added


def key_mask(mask: Tensor | KeyMask | None) -> KeyMask | None:
    """The mask, which may be one already."""
    return KeyMask(mask) if isinstance(mask, Tensor) else mask


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
        mapped: tuple[Tensor, ...]
        if values is not None or not isinstance(self.value, nn.Linear):
            mapped = self.query(queries), self.key(keys), self.value(keys if values is None else values)
        elif queries is keys:
            mapped = _joint_product(keys, self.query, self.key, self.value)
        else:
            mapped = self.query(queries), *_joint_product(keys, self.key, self.value)
        query, key, value = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in mapped)
        return query, key, value

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | KeyMask | None = None,
        key_weights: Tensor | None = None,
        renorm: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the keys.

        Args:
            queries: (B, N, d).
            keys: (B, M, d_k).
            values: (B, M, d_k); None: the keys.
            mask: bool, (B, M) real keys, or (B, N, M) keys that each query may attend to, or what was made of them;
                None: all.
            key_weights: R of `attend`, (B, M), or (B, N, M).
            renorm: as in `attend`.
            need_weights: whether to return the weights.

        Returns:
            (B, N, d), 0 for a query without keys, and the weights (B, heads, N, M) or None.
        """
        masked = key_mask(mask)
        query, key, value = self.split(queries, keys, values)
        if need_weights or key_weights is not None:
            pairs = None if masked is None else masked.pairs
            scale = None if key_weights is None else _over_heads(key_weights)
            by_head, weights = attend(query, key, value, pairs, scale, renorm, self.dropout)
            return self.join(by_head, masked), weights if need_weights else None
        added = None if masked is None else masked.added(query)
        dropped = self.dropout.p if self.training else 0.0
        return self.join(functional.scaled_dot_product_attention(query, key, value, added, dropped), masked), None

    def join(self, by_head: Tensor, mask: KeyMask | None = None) -> Tensor:
        """Project the outputs (B, heads, N, d / heads) of all heads; 0 for a query without keys."""
        joined = by_head.transpose(1, 2).flatten(2)  # (B, N, d)
        joined = joined if self.out is None else self.out(joined)
        # although the projection has a bias
        return joined if mask is None or mask.unread else joined.masked_fill(mask.empty.transpose(1, 2), 0.0)


def _over_heads(pairs: Tensor) -> Tensor:
    """(B, M) or (B, N, M) with an axis for the heads and, if missing, one for the queries."""
    return pairs[:, None, None] if pairs.dim() == 2 else pairs[:, None]


def joint_linear(states: Tensor, maps: Sequence[nn.Linear]) -> Tensor:
    """The outputs of several maps of the same states, one behind the other, in one product."""
    if len(maps) == 1:
        return maps[0](states)  # type: ignore[no-any-return]
    bias = None if maps[0].bias is None else torch.cat([each.bias for each in maps])
    return functional.linear(states, torch.cat([each.weight for each in maps]), bias)


def _joint_product(states: Tensor, *maps: nn.Linear) -> tuple[Tensor, ...]:
    """The output of each of several maps of the same states to the same width."""
    return joint_linear(states, maps).chunk(len(maps), -1)


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
        self,
        x: Tensor,
        mask: Tensor | KeyMask | None = None,
        keys: Tensor | None = None,
        key_weights: Tensor | None = None,
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
        shared = key_mask(mask)
        for layer in self:
            x = layer(x, shared, keys)
        return x

    def weights(self, x: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """Attention of the first layer, the mean over its heads (B, N, M)."""
        first: Any = self[0]
        return first.attention(x, keys, mask=mask, need_weights=True)[1].mean(1)
