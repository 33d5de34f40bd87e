"""HVPNet: the stages of a CNN, weighed anew for each layer, stand as a prefix before the words (Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.initialisation import begin_quiet
from mnerkit.nn.visual_prefix import DynamicGate, Standardise, gated_sum, masked_mean, pooled_stages
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.fusion.stages import StageMaps, idle
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import pieces_of

Pictures = Literal["both", "image", "objects"]
GateInput = Literal["flat", "mean"]
Layout = Literal["proper", "released"]


class HvpnetEncoder(Encoder):
    """H = Drop(BERT(words, prefix)), the prefix made of the image and the objects in it.

    Args:
        text: the text tower, of L layers and width d; it takes a prefix.
        sight: sees images and objects; its tower has stages.
        pictures: the prefix shows the image and its objects, or one of the two.
        grid: each stage is pooled to grid x grid positions; captions keep their words as positions.
        hidden: width between the two maps from stages to keys and values.
        gate: weigh the stages for each layer; false: their mean.
        gate_input: a gate reads all positions side by side, or their mean. Captions, of any length, have the mean.
        layout: a position holds the channels of one place (proper), or what a bare reshape of (3840, 2, 2) to
            (4, 3840) makes of them (released), as in the public code.
        standardise: bring the channels of a CNN to mean 0 and deviation 1 before W_1; captions stay as they are.
        dropout: on word states.

    Raises:
        UsageError: the text tower takes no prefix, the vision tower has no stages, or captions have no objects.
    """

    by_post = True

    def __init__(
        self,
        text: TextTower,
        sight: Sight,
        *,
        pictures: Pictures = "both",
        grid: int = 2,
        hidden: int = 800,
        gate: bool = True,
        gate_input: GateInput = "flat",
        layout: Layout = "proper",
        standardise: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text, self.sight = pieces_of(text), sight
        if not sight.stage_widths:
            raise UsageError(f"--model.vision {sight.tower.spec}: has no stages; give a ResNet, tiny, or captions")
        if sight.kind == "captions" and pictures == "objects":
            raise UsageError("--model.pictures objects: captions show no objects; give image or both")
        self.width, self.pictures, self.layout = text.width, pictures, layout
        self.layers, self.stages = self.text.config.num_hidden_layers, len(sight.stage_widths)
        self.grid = grid if sight.kind == "pixels" else None
        self.flat = gate_input == "flat" and self.grid is not None
        norm = standardise and self.grid is not None
        self.norm = Standardise(sum(sight.stage_widths)) if norm else nn.Identity()
        last = nn.Linear(hidden, self.stages * 2 * self.width)
        self.to_slices = nn.Sequential(nn.Linear(sum(sight.stage_widths), hidden), nn.Tanh(), last)
        begin_quiet(last)
        read = 2 * self.width * (grid * grid if self.flat else 1)
        self.gate = DynamicGate(read, self.layers, self.stages) if gate else None
        self.dropout = nn.Dropout(dropout)

    def positions(self, maps: Sequence[Tensor]) -> Tensor:
        """Stage maps (R, c_i, h_i, w_i) to the channels of all stages at each position, (R, P, sum of c_i)."""
        if self.layout == "released" and self.grid is not None:
            # (R, c_i, P) of all stages one below the other, cut into P rows without regard to what lies where
            pooled = [each.transpose(1, 2) for each in pooled_stages(maps, self.grid)]
            joined = torch.cat(pooled, 1)
            return joined.reshape(len(joined), joined.shape[2], joined.shape[1])
        return torch.cat(pooled_stages(maps, self.grid), -1)

    def weights(self, slices: Tensor, mask: Tensor) -> Tensor:
        """Gates (R, L, b) of slices (R, b, P, 2d) whose positions `mask` (R, P) tells."""
        if self.gate is None:
            return slices.new_full((len(slices), self.layers, self.stages), 1 / self.stages)
        if self.flat:
            return self.gate(slices.mean(1).flatten(1))
        return self.gate(masked_mean(slices, mask).mean(1))

    def look(self, batch: Batch) -> tuple[Prefix | None, StageMaps, Tensor]:
        """The prefix of a batch (None where it shows nothing), what it was made of, and the gates (B, k, L, b)."""
        seen = StageMaps.of(self.sight, batch, self.pictures != "objects", self.pictures != "image")
        if not len(seen.rows):
            return None, seen, seen.mask.new_zeros(*seen.mask.shape, self.layers, self.stages, dtype=torch.float)
        x = self.norm(self.positions(seen.maps))  # (R, P, sum of c_i)
        slices = self.to_slices(x).unflatten(-1, (self.stages, -1)).transpose(1, 2)  # (R, b, P, 2d)
        gates = self.weights(slices, seen.position_mask(x.shape[1]))  # (R, L, b)
        return seen.prefix(gated_sum(gates, slices)), seen, seen.spread(gates)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        prefix, seen, gates = self.look(batch)
        states = self.dropout(self.text(batch.text, prefix=prefix).words)  # (B, W, d)
        if prefix is None:
            states = states + idle(each for each in (self.to_slices, self.gate, self.sight) if each is not None)
        kept = {"gate": gates, "picture_mask": seen.mask} if trace else {}
        return WordStates(states.unsqueeze(0), trace=kept)
