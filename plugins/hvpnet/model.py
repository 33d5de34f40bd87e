"""HVPNet: the stages of a CNN, weighted for each layer, are a prefix of the words (Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.visual_prefix import (
    DynamicGate,
    Standardise,
    gated_sum,
    init_small,
    map_each,
    masked_mean,
    pooled_stages,
    stage_rows,
)
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.fusion.stage_maps import StageMaps, idle
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import pieces_of
from mnerkit_plugins.hvpnet.options import HvpnetOptions


class HvpnetEncoder(Encoder):
    """H = Drop(BERT(words, prefix)), with a prefix from the image and the objects in it.

    The text tower has L layers and width d and takes a prefix; the tower of the sight has b stages of c_i channels.

    Raises:
        UsageError: the text tower takes no prefix, the vision tower has no stages, or an option is about pixels and the
            sight reads captions.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight, o: HvpnetOptions) -> None:
        super().__init__()
        self.text, self.sight, self.options = pieces_of(text), sight, o
        pixels = sight.kind == "pixels"
        if not sight.stage_widths:
            raise UsageError(f"--model.vision {sight.tower.spec}: has no stages; give a ResNet, tiny, or captions")
        if not pixels:
            refuse_for_captions(o)
        d, channels = text.width, sight.stage_widths[-1:] if o.stages == "last" else sight.stage_widths
        self.width, self.layers, self.stages = d, self.text.config.num_hidden_layers, len(channels)
        self.grid = o.prefix_grid if pixels else None  # each word of a caption is a position
        self.flat = o.gate_input == "flat" and pixels
        self.dropout = nn.Dropout(o.dropout)
        self.norm = Standardise(sum(channels)) if o.standardise and pixels else nn.Identity()
        self.to_slices: nn.Module | None = None
        self.to_layers: nn.ModuleList | None = None
        self.gate: DynamicGate | None = None
        if o.caption_keys == "own":
            return
        if o.prefix_map == "shared":
            last = nn.Linear(o.hidden, self.stages * 2 * d)
            self.to_slices, width = nn.Sequential(nn.Linear(sum(channels), o.hidden), nn.Tanh(), last), 2 * d
            init_small(last)
        else:
            self.to_slices, width = OfStages(channels, d), d
            self.to_layers = nn.ModuleList(nn.Linear(d, 2 * d) for _ in range(self.layers))
            init_small(*self.to_layers)
        gate_width = width * (o.prefix_grid**2 if self.flat else 1)
        gated = o.gate and o.stages == "all"
        self.gate = DynamicGate(gate_width, self.layers, self.stages) if gated else None

    def positions(self, maps: Sequence[Tensor]) -> Tensor:
        """Stage maps (R, c_i, h_i, w_i) to the channels of all stages at each position, (R, P, sum of c_i)."""
        pooled = pooled_stages(maps, self.grid, self.options.pool)  # (R, P, c_i) each
        return stage_rows(pooled, self.options.layout)

    def weights(self, slices: Tensor, mask: Tensor) -> Tensor:
        """Weights of the stages for each layer, (R, L, b), of slices (R, b, P, w) with real positions `mask` (R, P)."""
        if self.options.stages == "by_layer":  # layers 1-3 have stage 1, layers 4-6 stage 2 ...
            stage = torch.arange(self.layers, device=slices.device) * self.stages // self.layers
            return functional.one_hot(stage, self.stages).to(slices.dtype).expand(len(slices), -1, -1)
        if self.gate is None:
            return slices.new_full((len(slices), self.layers, self.stages), 1 / self.stages)
        if self.flat:
            return self.gate(slices.mean(1).flatten(1))
        return self.gate(masked_mean(slices, mask).mean(1))

    def keys_values(self, gates: Tensor, slices: Tensor) -> Tensor:
        """Keys and values of each layer, (R, L, P, 2d), from the slices (R, b, P, w) and their weights (R, L, b)."""
        mixed = gated_sum(gates, slices)  # (R, L, P, w)
        if self.to_layers is None:
            return mixed
        return map_each(self.to_layers, mixed)

    def heads(self, prefix: Prefix) -> Prefix:
        """The prefix, its rows rearranged if heads are to see what they see in the released code."""
        if self.options.prefix_heads == "proper":
            return prefix
        heads = self.text.config.num_attention_heads
        keys, values = (tuple(bare_heads(each, heads) for each in part) for part in (prefix.keys, prefix.values))
        return replace(prefix, keys=keys, values=values)

    def look(self, batch: Batch) -> tuple[Prefix | None, StageMaps, Tensor]:
        """The prefix of a batch (None if no post has a picture), its stage maps, and the weights (B, k, L, b)."""
        kind = self.options.pictures
        pooling = None if self.grid is None else (self.grid, self.options.pool)
        pictures = StageMaps.of(self.sight, batch, images=kind != "objects", objects=kind != "image", pooling=pooling)
        if not len(pictures.rows):
            shape = (*pictures.mask.shape, self.layers, self.stages)
            return None, pictures, pictures.mask.new_zeros(shape, dtype=torch.float)
        assert self.to_slices is not None
        x = self.norm(self.positions(pictures.maps[-self.stages :]))  # (R, P, sum of c_i)
        slices = self.to_slices(x).unflatten(-1, (self.stages, -1)).transpose(1, 2)  # (R, b, P, w)
        gates = self.weights(slices, pictures.position_mask(x.shape[1]))  # (R, L, b)
        return self.heads(pictures.prefix(self.keys_values(gates, slices))), pictures, pictures.spread(gates)

    def own_prefix(self, batch: Batch) -> Prefix | None:
        """What each layer's own maps make of the words of the captions; None if no post has a caption."""
        captions, mask = batch.captions, batch.caption_mask
        assert captions is not None and mask is not None
        words = captions.read_mask.view(len(mask), -1, captions.read_mask.shape[1]) & mask.unsqueeze(-1)  # (B, m, C)
        if not words.numel() or not len(batch.places.of("captions")):
            return None
        layers = self.text.keys_values(captions)  # (B m, C, d) each
        keys, values = (
            tuple(each.reshape(len(mask), -1, self.width) for each in part) for part in zip(*layers, strict=True)
        )
        return Prefix(keys, values, words.flatten(1), some=True, full=batch.places.whole_captions)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        if self.options.caption_keys == "own":
            return WordStates(self.dropout(self.text(batch.text, prefix=self.own_prefix(batch)).words).unsqueeze(0))
        prefix, pictures, gates = self.look(batch)
        states = self.dropout(self.text(batch.text, prefix=prefix).words)  # (B, W, d)
        if prefix is None:
            parts = (self.to_slices, self.to_layers, self.gate, self.sight)
            states = states + idle(part for part in parts if part is not None)
        traces = {"gate": gates, "picture_mask": pictures.mask} if trace else {}
        return WordStates(states.unsqueeze(0), trace=traces)


class OfStages(nn.Module):
    """A map of each stage's channels to d, the paper's 1 x 1 convolutions."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = list(channels)
        self.maps = nn.ModuleList(nn.Linear(count, width) for count in channels)

    def forward(self, x: Tensor) -> Tensor:
        """(R, P, sum of c_i) to (R, P, b d)."""
        parts = x.split(self.channels, -1)
        return torch.cat([layer(part) for layer, part in zip(self.maps, parts, strict=True)], -1)


def bare_heads(rows: Tensor | None, heads: int) -> Tensor | None:
    """Rows (B, P, d) of a prefix, so rearranged that heads get what a reshape to (B, heads, P, d / heads) gives."""
    if rows is None:
        return None
    size, count, width = rows.shape
    return rows.reshape(size, heads, count, width // heads).transpose(1, 2).reshape(size, count, width)


def refuse_for_captions(o: HvpnetOptions) -> None:
    """Captions have neither objects nor places.

    Raises:
        UsageError: an option is about either.
    """
    if o.pictures == "objects":
        raise UsageError("--model.pictures objects: captions have no objects; give image or both")
    for name in ("pool", "layout", "prefix_heads"):
        if getattr(o, name) == "released":
            raise UsageError(f"--model.{name} released: the words of a caption have no grid; leave it out")
