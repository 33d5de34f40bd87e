"""GVATT: a post looks once at the regions of its picture, and gates mix what it saw into its words (Lu et al. 2018).

B posts of W words and R regions, k the width of the text tower. The equations are our reading (README.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.nn.additive_attention import AdditiveAttention
from mnerkit.nn.gates import Gate
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import PieceTower
from mnerkit_plugins.gvatt.options import GvattOptions


class TwoGates(nn.Module):
    """`beta_w * h + beta_v * m`: a share of the word, and one of what word and context make together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_word, self.of_both = Gate(width, bias=True), Gate(width, bias=True)  # W_w, U_w; W_v, U_v
        self.both = nn.Linear(2 * width, width)  # W_m, U_m

    def forward(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, W, k) of words h and contexts c, (B, W, k) each, and the share of what both make."""
        m = torch.tanh(self.both(torch.cat([h, c], -1)))
        beta = self.of_both.share(h, c)
        return self.of_word.share(h, c) * h + beta * m, beta


class OneGate(nn.Module):
    """`h + g * c`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_context = Gate(width, bias=True)

    def forward(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """As in `TwoGates`."""
        g = self.of_context.share(h, c)
        return h + g * c, g


class GvattEncoder(Encoder):
    """Words, and for each the context that the post (or the word) sees, mixed by gates.

    Args:
        text: the text tower; one of whole words is a BiLSTM, whose states are a half of each direction.
        sight: reads the pictures; None without.
        o: the options.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight | None, o: GvattOptions) -> None:
        super().__init__()
        k = text.width
        self.text, self.options, self.width = text, o, k
        self.sight: Sight | None = sight
        self.dropout = nn.Dropout(o.dropout)
        if sight is not None:
            self.region_map = nn.Linear(sight.width, k)  # W_r
            self.attention = AdditiveAttention(k, o.score) if o.attention else None
        self.fusion = {"two_gates": TwoGates, "one_gate": OneGate}[o.fuse](k) if o.fuse != "sum" else None

    def queries(self, words: Tensor, sentence: Tensor, mask: Tensor) -> Tensor:
        """Who looks: (B, 1, k), the sentence; or (B, W, k), the words."""
        if self.options.query == "word":
            return words
        if isinstance(self.text, PieceTower):
            return sentence.unsqueeze(1)  # [CLS]
        last = (mask.sum(1) - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, self.width)
        forward = words.gather(1, last)[..., : self.width // 2]
        return torch.cat([forward, words[:, :1, self.width // 2 :]], -1)  # the last state of each direction

    def context(self, batch: Batch, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c (B, N, k) of N queries, the weights of the regions (B, N, R), and which posts have regions (B, 1, 1)."""
        assert self.sight is not None
        pictures = self.sight.whole(batch)
        regions, mask = pictures.regions.flatten(1, 2), pictures.region_mask.flatten(1, 2)  # (B, R, d), (B, R)
        v = torch.tanh(self.region_map(regions))  # (B, R, k)
        seen = mask.any(1).view(-1, 1, 1)
        if self.attention is not None:
            return *self.attention(queries, v, mask), seen
        weights = (mask / mask.sum(1, keepdim=True).clamp_min(1)).unsqueeze(1).to(v.dtype)  # (B, 1, R)
        return weights @ v, weights, seen

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        text = self.text(batch.text)
        h, mask = self.dropout(text.words), batch.text.read_mask  # (B, W, k)
        trace_of: dict[str, Tensor] = {}
        if self.sight is None:
            c, seen = torch.zeros_like(h), torch.ones_like(mask[:, :1, None])
        else:
            c, weights, seen = self.context(batch, self.queries(h, self.dropout(text.pooled), batch.text.word_mask))
            if trace and self.sight.kind == "pixels":  # words of a caption are no regions of a picture
                trace_of["attention"] = weights.expand(-1, h.shape[1], -1)
            c = c.expand_as(h)
        states, gate = self.fusion(h, c) if self.fusion is not None else (h + c, torch.ones_like(h))
        if self.options.exact_limit:
            states = torch.where(seen, states, h)
        if trace:
            trace_of["gate"] = gate.mean(-1)
        return WordStates((states * mask.unsqueeze(-1)).unsqueeze(0), trace=trace_of)
