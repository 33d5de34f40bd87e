"""VisualPT-MoE: five experts make visual prompts, and a router mixes them in each layer (Xu et al., DASFAA 2023).

B posts, E experts, P slots, L layers of width d.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.errors import UsageError
from mnerkit.nn.prompts import MlpPrompts
from mnerkit.nn.visual_prefix import Standardise, pooled_stages, stage_rows
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.fusion.stage_maps import StageMaps, idle
from mnerkit.towers.interface import Encoder, Pooling, TextTower, WordStates
from mnerkit.towers.text.piece_tower import pieces_of
from mnerkit_plugins.visualpt_moe.bert_hooks import before_layers, begin_at
from mnerkit_plugins.visualpt_moe.options import VisualptMoeOptions


class Source(NamedTuple):
    """What an expert reads: rows (B, P, w), which are no filling, (B, P) bool, and whether there may be one."""

    rows: Tensor
    real: Tensor
    some: bool = True


class VisualptMoeEncoder(Encoder):
    """H = Drop(BERT(words, prefix)); the prefix of a layer is a mixture of the experts' keys and values.

    Args:
        text: the text tower.
        sight: reads images and objects; None without experts of pixels.
        o: the options.

    Raises:
        UsageError: the text tower takes no prefix, or the vision tower has no stages.
    """

    def __init__(self, text: TextTower, sight: Sight | None, o: VisualptMoeOptions) -> None:
        super().__init__()
        self.text, self.sight, self.options, self.names = pieces_of(text), sight, o, o.experts()
        if sight is not None and not sight.stage_widths:
            raise UsageError(f"--model.vision {sight.tower.spec}: has no stages; give a ResNet, tiny, or captions")
        # the released mean over words counts padding
        self.by_post = o.router != "text" or o.router_layout == "proper"
        d = self.width = text.width
        config = self.text.config
        self.layers, self.heads = config.num_hidden_layers, config.num_attention_heads
        channels = 0 if sight is None else sum(sight.stage_widths)
        self.experts, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for name in self.names:
            seen = name in ("image", "objects")
            self.experts[name] = MlpPrompts(channels if seen else d, d, self.layers, o.prompt_hidden)
            if seen:  # the two see different pictures: each has statistics of its own
                self.norms[name] = Standardise(channels) if o.standardise else nn.Identity()
        self.random = nn.Parameter(torch.randn(o.slots, d)) if o.use_random else None
        self.routers, self.text_maps = nn.ModuleList(), nn.ModuleList()
        if o.router != "uniform":
            self.routers.extend(nn.Linear(o.slots * d, len(self.names)) for _ in range(self.layers))
        if o.router == "text":
            self.text_maps.extend(nn.Linear(d, d) for _ in range(self.layers))
        self.table: Tensor | None
        table = self.text.model.get_input_embeddings().weight.detach().clone() if o.words == "frozen" else None
        self.register_buffer("table", table)
        self.padding: int = getattr(config, "pad_token_id", None) or 0
        self.dropout = nn.Dropout(o.dropout)
        if o.positions == "heads":
            begin_at(self.text, self.heads)

    # ------------------------------------------------------------------ sources

    def sources(self, batch: Batch) -> dict[str, Source]:
        """The source of each expert."""
        return {name: getattr(self, f"of_{name}")(batch) for name in self.names}

    def of_image(self, batch: Batch) -> Source:
        return self.of_maps(batch, "image")

    def of_objects(self, batch: Batch) -> Source:
        return self.of_maps(batch, "objects")

    def of_maps(self, batch: Batch, name: str) -> Source:
        """The rows of images, or of objects, one after the other: those of the stages at each place."""
        assert self.sight is not None
        o = self.options
        pooling: Pooling = (o.prefix_grid, "adaptive")
        seen = StageMaps.of(self.sight, batch, images=name == "image", objects=name == "objects", pooling=pooling)
        rows = self.norms[name](stage_rows(pooled_stages(seen.maps, o.prefix_grid), o.layout))  # (R, g^2, w)
        mask = seen.spread(seen.position_mask(rows.shape[1]))
        return self.slotted(seen.spread(rows).flatten(1, 2), mask.flatten(1), len(seen.rows) > 0)

    def of_labels(self, batch: Batch) -> Source:
        named = [
            [each.label for image in post.images[: self.options.max_images] for each in image.objects if each.label]
            for post in batch.posts
        ]
        rows = [[word for label in labels[: self.options.max_labels] for word in label.split()] for labels in named]
        text = self.text.reader.collate(rows).to(batch.query.device)
        return self.slotted(*self.of_text(text), any(rows), words=True)

    def of_caption(self, batch: Batch) -> Source:
        assert batch.captions is not None and batch.caption_mask is not None
        rows, real = self.of_text(batch.captions)  # (B m, C, d)
        shape = batch.caption_mask.shape
        rows, real = (each.unflatten(0, shape).flatten(1, 2) for each in (rows, real))  # (B, m C, d)
        return self.slotted(rows, real, len(batch.places.of("captions")) > 0, words=True)

    def of_random(self, batch: Batch) -> Source:
        assert self.random is not None
        rows = self.random.expand(len(batch), -1, -1)
        return Source(rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device))

    def of_text(self, text: TextBatch) -> tuple[Tensor, Tensor]:
        """Rows of pieces (N, n, d) without special ones, or of words (N, W, d), and which are real."""
        if self.table is None:
            return self.text(text).words, text.read_mask
        assert text.input_ids is not None and text.piece_word is not None
        return self.table[text.input_ids], text.piece_word >= 0

    def slotted(self, rows: Tensor, real: Tensor, some: bool, words: bool = False) -> Source:
        """The first P real ones of rows (B, N, w), in their order; behind them zeros, or [PAD] where they are words."""
        count, (size, _, width) = self.options.slots, rows.shape
        filling = rows.new_zeros(width) if self.table is None or not words else self.table[self.padding]
        order = (~real).byte().argsort(dim=1, stable=True)[:, :count]
        kept = real.gather(1, order)
        real = torch.cat((kept, kept.new_zeros(size, count - kept.shape[1])), 1)
        chosen = rows.gather(1, order.unsqueeze(-1).expand(-1, -1, width))
        chosen = torch.cat((chosen, rows.new_zeros(size, count - chosen.shape[1], width)), 1)
        return Source(torch.where(real.unsqueeze(-1), chosen, filling), real, some)

    # ------------------------------------------------------------------ routers

    def noise(self, layer: int, scores: Tensor) -> Tensor:
        """Noise on the scores (B, E) of a layer's router."""
        return torch.randn_like(scores) * self.options.noise if self.training else torch.zeros_like(scores)

    def shares(self, layer: int, z: Tensor, present: Tensor, states: Tensor | None, real: Tensor) -> Tensor:
        """r^l, the share of each expert, (B, E); zeros if none is present.

        Args:
            layer: l.
            z: Z^l, (B, P, d).
            present: (B, E) bool.
            states: what the layer reads, (B, n, d); None if the router does not see it.
            real: (B, n) bool, pieces that are no padding.
        """
        if self.options.router == "uniform":
            return present / present.sum(1, keepdim=True).clamp_min(1)
        released = self.options.router_layout == "released"
        if released:  # heads, then slots
            z = z.unflatten(-1, (self.heads, -1)).transpose(1, 2).reshape(z.shape)
        if states is not None:
            total = states.sum(1) if released else (states * real.unsqueeze(-1)).sum(1)
            z = z * self.text_maps[layer](total / real.sum(1, keepdim=True)).unsqueeze(1)
        scores = self.routers[layer](z.flatten(1))  # (B, E)
        scores = scores + self.noise(layer, scores)
        return scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(-1) * present

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        o, sources = self.options, self.sources(batch)
        real = torch.stack([source.real for source in sources.values()], 1)  # (B, E, P)
        present = real.any(2) if o.route == "present" else torch.ones_like(real[:, :, 0])  # (B, E)
        pairs = [self.experts[name](source.rows) for name, source in sources.items()]
        counts = (real if o.empty == "nothing" else torch.ones_like(real)) & present.unsqueeze(-1)
        # whether some and whether all are real is known without waiting for a device
        always = o.empty != "nothing" and o.route != "present"
        some = always or any(source.some for source in sources.values())
        known: dict[str, Any] = {"mask": counts.any(1), "some": some, "full": always or "random" in self.names}
        pieces = batch.text.attn_mask
        assert pieces is not None
        shares: list[Tensor] = []

        def mixed(layer: int, states: Tensor | None = None) -> tuple[Tensor, Tensor]:
            """Keys and values of a layer, (B, P, d) each."""
            keys, values = (
                torch.stack([pair[part][layer] for pair in pairs], 1) * counts.unsqueeze(-1) for part in (0, 1)
            )  # (B, E, P, d)
            shares.append(self.shares(layer, (keys + values).sum(1), present, states, pieces))
            weights = shares[-1][:, :, None, None]
            return (keys * weights).sum(1), (values * weights).sum(1)

        if o.router == "text":
            # what a layer attends to is only known when the layer below has run
            keys: Any = [pairs[0][0][0]] * self.layers
            values: Any = [*keys]

            def refill(layer: int, states: Tensor) -> None:
                keys[layer], values[layer] = mixed(layer, states)

            with before_layers(self.text, refill):
                words = self.text(batch.text, prefix=Prefix(keys, values, **known)).words
        else:
            keys, values = zip(*(mixed(layer) for layer in range(self.layers)), strict=True)
            words = self.text(batch.text, prefix=Prefix(keys, values, **known)).words
        if self.sight is not None and not {"image", "objects"} & {*self.names}:
            words = words + idle([self.sight])  # only labels are read
        route = torch.stack(shares, 1)  # (B, L, E)
        balance = route.amax(-1).sum(1).mean()  # L_moe of a post
        traces = {"route": route} if trace else {}
        return WordStates(self.dropout(words).unsqueeze(0), {"balance": balance}, trace=traces)
