"""UMGF: words and objects are nodes of one graph and take one another in through gates (Zhang et al. 2021).

B posts of W words and k objects; d is the width of the nodes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit_plugins.umgf.graph_layer import GraphLayer, Links
from mnerkit_plugins.umgf.options import UmgfOptions


class UmgfEncoder(Encoder):
    """[T; X_L], T the text tower's words and X_L the words of a graph of L layers.

    Args:
        text: the text tower.
        sight: reads pictures, or captions, whose words then are the objects; None: the graph has words alone.
        o: the options.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight | None, o: UmgfOptions) -> None:
        super().__init__()
        self.text, self.sight, self.options = text, sight, o
        self.word_map = nn.Linear(text.width, o.width)
        if sight is not None:
            width = sight.pooled_width if self.view == "objects" else sight.width
            given = o.object_width or width
            self.object_reader = nn.Linear(width, given)
            self.object_map = nn.Sequential(
                nn.Linear(given, o.width), nn.ReLU(), nn.Dropout(o.dropout),
                nn.Linear(o.width, o.width), nn.ReLU(), nn.Dropout(o.dropout),
            )  # fmt: skip
        self.layers = nn.ModuleList(
            GraphLayer(o, last=number == o.graph_layers - 1) for number in range(o.graph_layers)
        )
        self.width = o.width + (text.width if o.decode_on == "concat_bert" else 0)

    @property
    def view(self) -> str:
        """The view of the pictures that becomes nodes."""
        pixels = self.sight is not None and self.sight.kind == "pixels"
        return "objects" if pixels and self.options.visual == "objects" else "whole"

    def train(self, mode: bool = True) -> UmgfEncoder:
        """Set the mode; a vision tower's BatchNorm keeps the statistics of its pretraining, unless options say so."""
        super().train(mode)
        if self.sight is not None and self.options.trunk_norm == "eval":
            for module in self.sight.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def look(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Visual vectors (B, k, c): objects, regions or the words of captions; and which are real, (B, k)."""
        assert self.sight is not None
        if self.view == "objects":
            seen = self.sight.objects(batch, regions=False)
            return seen.pooled, seen.mask
        seen = self.sight.whole(batch)
        return seen.regions.flatten(1, 2), seen.region_mask.flatten(1)

    def links(self, words: Tensor, objects: Tensor) -> Tensor:
        """A, (B, W, k) bool: every word (B, W) with every object (B, k)."""
        return words.unsqueeze(2) & objects.unsqueeze(1)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        o, mask = self.options, batch.text.read_mask
        t = self.text(batch.text).words  # (B, W, d_T)
        x = self.word_map(t)
        if o.positions == "sine":
            x = x + sinusoids(*x.shape[1:]).to(x)
        objects, real = None, mask.new_zeros(len(mask), 0)
        if self.sight is not None:
            seen, real = self.look(batch)
            objects = self.object_map(self.object_reader(seen))  # (B, k, d)
        links = Links(mask, real, self.links(mask, real))
        gates: list[Tensor] = []
        for layer in self.layers:
            x, objects, a = layer(x, objects, links)
            if trace and a is not None:
                gates.append(a.mean(-1))
        states = torch.cat((t, x), -1) if o.decode_on == "concat_bert" else x
        traces = {"gate": torch.stack(gates, 1), "visual_mask": real} if gates else {}  # (B, L, W, k)
        return WordStates((states * mask.unsqueeze(-1)).unsqueeze(0), trace=traces)


def sinusoids(count: int, width: int) -> Tensor:
    """sin and cos of places 0 ... at falling frequencies, in turn (Vaswani et al. 2017), (count, width)."""
    place = torch.arange(count).unsqueeze(1)
    angle = place * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, :width]
