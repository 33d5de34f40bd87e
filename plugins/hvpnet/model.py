"""HVPNet: the stages of a CNN, weighted for each layer, are a prefix of the words (Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.visual_prefix import DynamicGate, Standardise, gated_sum, init_small, masked_mean, pooled_stages
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight, StageMaps, idle
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import pieces_of
from mnerkit_plugins.hvpnet.options import HvpnetOptions


class HvpnetEncoder(Encoder):
    """H = Drop(BERT(words, prefix)), with a prefix from the image and the objects in it.

    The text tower has L layers and width d and takes a prefix; the tower of the sight has b stages of c_i channels.

    Raises:
        UsageError: the text tower takes no prefix, the vision tower has no stages, or captions have no objects.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight, o: HvpnetOptions) -> None:
        super().__init__()
        self.text, self.sight, self.options = pieces_of(text), sight, o
        if not sight.stage_widths:
            raise UsageError(f"--model.vision {sight.tower.spec}: has no stages; give a ResNet, tiny, or captions")
        if sight.kind == "captions" and o.pictures == "objects":
            raise UsageError("--model.pictures objects: captions have no objects; give image or both")
        d, channels, pixels = text.width, sum(sight.stage_widths), sight.kind == "pixels"
        self.width, self.layers, self.stages = d, self.text.config.num_hidden_layers, len(sight.stage_widths)
        self.grid = o.prefix_grid if pixels else None  # each word of a caption is a position
        self.flat = o.gate_input == "flat" and pixels
        self.norm = Standardise(channels) if o.standardise and pixels else nn.Identity()
        last = nn.Linear(o.hidden, self.stages * 2 * d)
        self.to_slices = nn.Sequential(nn.Linear(channels, o.hidden), nn.Tanh(), last)
        init_small(last)
        gate_width = 2 * d * (o.prefix_grid**2 if self.flat else 1)
        self.gate = DynamicGate(gate_width, self.layers, self.stages) if o.gate else None
        self.dropout = nn.Dropout(o.dropout)

    def positions(self, maps: Sequence[Tensor]) -> Tensor:
        """Stage maps (R, c_i, h_i, w_i) to the channels of all stages at each position, (R, P, sum of c_i)."""
        if self.options.layout == "released" and self.grid is not None:
            # the released code stacks the channels of all stages and reshapes them to P rows, which mixes positions
            pooled = [stage.transpose(1, 2) for stage in pooled_stages(maps, self.grid)]
            joined = torch.cat(pooled, 1)  # (R, sum of c_i, P)
            return joined.reshape(len(joined), joined.shape[2], joined.shape[1])
        return torch.cat(pooled_stages(maps, self.grid), -1)

    def weights(self, slices: Tensor, mask: Tensor) -> Tensor:
        """Gates (R, L, b) of slices (R, b, P, 2d) with real positions `mask` (R, P)."""
        if self.gate is None:
            return slices.new_full((len(slices), self.layers, self.stages), 1 / self.stages)
        if self.flat:
            return self.gate(slices.mean(1).flatten(1))
        return self.gate(masked_mean(slices, mask).mean(1))

    def look(self, batch: Batch) -> tuple[Prefix | None, StageMaps, Tensor]:
        """The prefix of a batch (None if no post has a picture), its stage maps, and the gates (B, k, L, b)."""
        kind = self.options.pictures
        pictures = StageMaps.of(self.sight, batch, images=kind != "objects", objects=kind != "image")
        if not len(pictures.rows):
            shape = (*pictures.mask.shape, self.layers, self.stages)
            return None, pictures, pictures.mask.new_zeros(shape, dtype=torch.float)
        x = self.norm(self.positions(pictures.maps))  # (R, P, sum of c_i)
        slices = self.to_slices(x).unflatten(-1, (self.stages, -1)).transpose(1, 2)  # (R, b, P, 2d)
        gates = self.weights(slices, pictures.position_mask(x.shape[1]))  # (R, L, b)
        return pictures.prefix(gated_sum(gates, slices)), pictures, pictures.spread(gates)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        prefix, pictures, gates = self.look(batch)
        states = self.dropout(self.text(batch.text, prefix=prefix).words)  # (B, W, d)
        if prefix is None:
            states = states + idle(part for part in (self.to_slices, self.gate, self.sight) if part is not None)
        traces = {"gate": gates, "picture_mask": pictures.mask} if trace else {}
        return WordStates(states.unsqueeze(0), trace=traces)
