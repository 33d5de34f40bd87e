"""UMT: words and regions look at each other, and a span task on the text alone corrects the pictures (Yu et al. 2020).

B posts of W words (or pieces) and R regions, d the width of the text tower, U untyped tags.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.attention import TransformerLayers
from mnerkit.nn.gates import Gate
from mnerkit.nn.untyped_spans import SpanTask, without_types
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit_plugins.umt.options import UmtOptions


class UmtEncoder(Encoder):
    """H = [A; g Q]: words that have read the regions' reading of them, and gated words that have seen the regions.

    Args:
        text: the text tower.
        sight: reads the pictures; None with `fuse: none`.
        o: the options.
        others: number of tags that belong to no type.
        mixes: whether the head adds the span task's scores to its own.

    Raises:
        UsageError: `heads` does not divide the text tower's width.
    """

    by_post = True

    def __init__(
        self, text: TextTower, sight: Sight | None, o: UmtOptions, others: int = 0, mixes: bool = True
    ) -> None:
        super().__init__()
        d = text.width
        if d % o.heads:
            raise UsageError(f"--model.heads {o.heads} does not divide the width {d} of tower {text.spec}")
        self.text, self.options, self.dropout = text, o, nn.Dropout(o.dropout)
        self.sight: Sight | None = sight

        def layers(count: int = 1) -> TransformerLayers:
            return TransformerLayers(count, d, o.heads, o.hidden, o.dropout)

        self.mixes = mixes and o.span_mix < 1
        self.spans = SpanTask(d, others) if self.mixes or o.span_weight else None
        self.auxiliary = layers() if self.spans is not None else None  # TL_a
        self.main = layers()  # TL_m
        self.width = d if sight is None else 2 * d
        if sight is None:
            return
        self.region_map = nn.Linear(sight.width, d)  # W_1
        self.visual = layers(o.visual_layers)  # TL_1
        self.gate = Gate(d, bias=True) if o.gate else None
        self.aware = o.fuse == "both"
        if self.aware:
            self.region_map_2 = nn.Linear(sight.width, d)  # W_2
            self.region_reader, self.textual = layers(o.region_layers), layers(o.textual_layers)  # TL_2, TL_3

    def regions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """X (B, R, c), the regions of all images of each post, and which are real (B, R)."""
        assert self.sight is not None
        seen = self.sight.whole(batch)
        return seen.regions.flatten(1, 2), seen.region_mask.flatten(1, 2)

    def fused(self, m: Tensor, mask: Tensor, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """H (B, W, 2d) of the main words M (B, W, d), and the gate g (B, W, d)."""
        q = self.visual(m, seen, self.region_map(x))  # (B, W, d)
        a = m
        if self.aware:
            p = self.region_reader(self.region_map_2(x), mask, m)  # (B, R, d)
            a = self.textual(m, seen, p)  # (B, W, d)
        g = torch.ones_like(q) if self.gate is None else self.gate.share(a, q)
        return torch.cat([a, g * q], -1), g

    def boundary(self, u: Tensor, types: int) -> Tensor:
        """(1 - mix) u C in the order B, I, O, others: what each tag of a role gets, of the untyped scores (B, W, U)."""
        inside, rest = u[..., 1:3] / types, torch.cat([u[..., :1], u[..., 3:]], -1)
        return (1 - self.options.span_mix) * torch.cat([inside, rest], -1)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        mask, types = batch.text.read_mask, len(batch.tagset.types)
        s = self.dropout(self.text(batch.text).words)  # (B, W, d)
        m = self.main(s, mask)
        encoded = WordStates(m.unsqueeze(0))
        if self.spans is not None and self.auxiliary is not None:
            u = self.spans.emissions(self.auxiliary(s, mask))  # (B, W, U)
            if batch.tags is not None:
                untyped = without_types(batch.tags, types)
                encoded.losses["span"] = self.spans.loss(u, untyped, mask, observed=batch.play_mask)
            if self.mixes:
                encoded.boundary, encoded.head_share = self.boundary(u, types), self.options.span_mix
        if self.sight is None:
            return encoded
        x, seen = self.regions(batch)  # (B, R, c), (B, R)
        h, g = self.fused(m, mask, x, seen)
        encoded.states = (h * mask.unsqueeze(-1)).unsqueeze(0)
        if trace:
            encoded.trace = {"gate": g.mean(-1)}
            if self.sight.kind == "pixels":  # words of a caption are no regions of a picture
                encoded.trace["attention"] = self.visual.weights(m, seen, self.region_map(x))
        return encoded
