"""One layer of UMGF's graph: nodes of a side attend to one another, and take in the other side's through gates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.nn.attention import FeedForward, MultiHeadAttention, SubLayer
from mnerkit_plugins.umgf.options import UmgfOptions


class Links(NamedTuple):
    """Which nodes of B posts are real, and which are linked.

    Attributes:
        words: (B, W) bool.
        objects: (B, k) bool.
        pairs: A, (B, W, k) bool.
    """

    words: Tensor
    objects: Tensor
    pairs: Tensor


class PairGates(nn.Module):
    """sigmoid(W [c_i; d_j] + b) of every word and object, a share for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(2 * width, width)

    def forward(self, words: Tensor, objects: Tensor) -> Tensor:
        """(B, W, d) and (B, k, d) to (B, W, k, d)."""
        first, second = self.map.weight.chunk(2, 1)  # a map of both, side by side, is the sum of two maps
        of_words = functional.linear(words, first, self.map.bias).unsqueeze(2)
        return torch.sigmoid(of_words + functional.linear(objects, second).unsqueeze(1))


class Side(nn.Module):
    """The modules of one modality.

    Args:
        o: the options.
        attention: as the option `object_attention`.
        takes: whether the nodes take in those of the other side.
        thinks: whether there is a feed-forward network; without it, nothing reads the nodes.
    """

    def __init__(self, o: UmgfOptions, attention: str = "full", takes: bool = True, thinks: bool = True) -> None:
        super().__init__()
        full = attention == "full"

        def around() -> SubLayer:
            return SubLayer(o.width, o.dropout)

        self.attention: MultiHeadAttention | None = None
        if attention != "none":
            self.attention = MultiHeadAttention(o.width, o.heads, map_values=full, project=full)
            self.around_attention = around()
        self.gates = PairGates(o.width) if takes else None
        self.around_intake = around() if takes else None
        self.think = around() if thinks else None
        self.feedforward = FeedForward(o.width, o.hidden) if thinks else None

    def look(self, x: Tensor, mask: Tensor) -> Tensor:
        """Self-attention of nodes (B, N, d) with real ones `mask` (B, N)."""
        attention = self.attention
        if attention is None:
            return x
        return self.around_attention(x, lambda nodes: attention(nodes, nodes, mask=mask)[0])


class GraphLayer(nn.Module):
    """Words and objects: self-attention, gated intake of the other side, feed-forward network.

    Args:
        o: the options.
        last: whether it is the last layer, which has no modules that only update objects.
    """

    def __init__(self, o: UmgfOptions, last: bool = False) -> None:
        super().__init__()
        self.mean, self.linked = o.intake == "mean", o.links != "none"
        self.object_thinks = not last
        self.object_takes = self.object_thinks and o.links == "both"
        self.words = Side(o, takes=self.linked)
        self.objects: Side | None = None
        if o.share_modalities:
            self.objects = self.words
        elif self.linked:
            self.objects = Side(o, o.object_attention, self.object_takes, self.object_thinks)
        # shared weights serve words, whose attention stays
        self.objects_look = self.objects is not None and o.object_attention != "none"

    def taken(self, gates: Tensor, nodes: Tensor, links: Tensor) -> Tensor:
        """The gated sum, or mean, over linked nodes of the other side.

        Args:
            gates: (B, N, M, d).
            nodes: (B, M, d).
            links: (B, N, M).
        """
        links = links.to(gates.dtype)
        total = (gates * links.unsqueeze(-1) * nodes.unsqueeze(1)).sum(2)  # (B, N, d)
        return total / links.sum(2, keepdim=True).clamp_min(1) if self.mean else total

    def forward(
        self, words: Tensor, objects: Tensor | None, links: Links
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Update the nodes.

        Args:
            words: X, (B, W, d).
            objects: O, (B, k, d); None without links.
            links: the links.

        Returns:
            X'; O', None where nothing reads it; and a, (B, W, k, d), the gates of the words, None without links.
        """
        c = self.words.look(words, links.words)
        r, gates, d = c, None, objects
        if self.objects is not None:
            assert objects is not None and self.words.gates is not None and self.words.around_intake is not None
            d = self.objects.look(objects, links.objects) if self.objects_look else objects
            gates = self.words.gates(c, d)  # a
            r = self.words.around_intake(c, lambda _: self.taken(gates, d, links.pairs))
        assert self.words.think is not None
        x = self.words.think(r, self.words.feedforward)
        if not self.object_thinks or self.objects is None:
            return x, None, gates
        s = d
        if self.object_takes:
            assert self.objects.gates is not None and self.objects.around_intake is not None
            b = self.objects.gates(c, d).transpose(1, 2)  # (B, k, W, d)
            s = self.objects.around_intake(d, lambda _: self.taken(b, c, links.pairs.transpose(1, 2)))
        assert self.objects.think is not None
        return x, self.objects.think(s, self.objects.feedforward), gates
