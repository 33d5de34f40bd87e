"""Words attend to regions: one cross-attention and a gate, the simplest encoder that can link words and regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch, PictureBatch
from mnerkit.nn.contrast import late_interaction, nce
from mnerkit.towers.interface import Encoder, TextTower, VisionTower, WordStates
from mnerkit.towers.vision.augment import flipped_and_shifted
from mnerkit_plugins.cross.options import CrossOptions


class CrossEncoder(Encoder):
    """h' = h + ReLU(W [h; g z]): a word's state h is updated by its attention z to regions, through the gate g.

    The width d is the text tower's, and the keys are the regions of all images of a post. With one head, words are
    linked to regions earliest; several heads can agree on "something is there".
    """

    by_post = True

    def __init__(self, text: TextTower, vision: VisionTower, o: CrossOptions) -> None:
        super().__init__()
        self.text, self.vision, self.options = text, vision, o
        self.width = d = text.width
        self.word_norm = nn.LayerNorm(d)
        self.region_in = nn.Linear(vision.width, d) if vision.width != d else nn.Identity()
        self.region_norm = nn.LayerNorm(d)
        self.query, self.key, self.value = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.log_scale = nn.Parameter(torch.tensor(2.3)) if o.attention == "cosine" else None
        self.gate = nn.Linear(2 * d, d) if o.gate else None
        self.mix = nn.Linear(2 * d, d)
        self.dropout = nn.Dropout(o.dropout)
        self.log_match_scale = nn.Parameter(torch.tensor(3.0)) if o.matching else None

    def regions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Regions of all images of each post, (B, R, d), and their mask, (B, R)."""
        pictures = batch.pictures("whole")  # B m of them
        # a frozen tower caches its output for each picture; a shifted picture would be a new one each time
        if self.training and self.options.augment and not self.options.freeze_vision:
            pictures = PictureBatch(flipped_and_shifted(pictures.pixels()))
        regions = self.vision.see(pictures).regions  # (B m, R', d_v)
        assert batch.image_mask is not None
        count = regions.shape[1]
        regions = self.region_norm(self.region_in(regions)).view(len(batch), -1, self.width)  # (B, R = m R', d)
        return regions, batch.image_mask.repeat_interleave(count, 1)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Attention scores (..., W, R) before the softmax, of vectors with the width of a head."""
        if self.log_scale is None:
            return queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        cosine = functional.normalize(queries, dim=-1) @ functional.normalize(keys, dim=-1).transpose(-1, -2)
        return self.log_scale.exp() * cosine

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        h = self.dropout(self.text(batch.text).words)  # (B, W, d)
        regions, region_mask = self.regions(batch)  # (B, R, d), (B, R)
        queries, keys = self.query(self.word_norm(h)), self.key(regions)  # (B, W, d), (B, R, d)
        parts, by_head = (queries, keys, self.value(regions)), (self.options.heads, -1)
        q, k, v = (part.unflatten(-1, by_head).transpose(1, 2) for part in parts)  # (B, heads, W or R, d / heads)
        padding = ~region_mask[:, None, None, :]  # (B, 1, 1, R)
        weights = self.scores(q, k).masked_fill(padding, -1e4).softmax(-1)  # (B, heads, W, R)
        # for a post without pictures the softmax is over padding only
        weights = weights.masked_fill(padding, 0.0)
        z = (weights @ v).transpose(1, 2).flatten(2)  # (B, W, d)
        gate = torch.sigmoid(self.gate(torch.cat([h, z], -1))) if self.gate is not None else torch.ones_like(z)
        states = h + torch.relu(self.mix(torch.cat([h, gate * z], -1)))
        states = self.dropout(states) * batch.text.word_mask.unsqueeze(-1)
        losses = {"matching": self.match(queries, keys, batch, region_mask)} if self.options.matching else {}
        traces = {"attention": weights.mean(1), "gate": gate.mean(-1)} if trace else {}  # (B, W, R), (B, W)
        return WordStates(states.unsqueeze(0), losses, trace=traces)

    def match(self, queries: Tensor, keys: Tensor, batch: Batch, region_mask: Tensor) -> Tensor:
        """Late-interaction contrast (FILIP, Yao et al. 2022, eq. 4-5): a word's similarity is that of its best region.

        InfoNCE in both directions, over the posts of the batch that have words and pictures.
        """
        assert self.log_match_scale is not None
        word_mask = batch.text.read_mask
        q, k = functional.normalize(queries, dim=-1), functional.normalize(keys, dim=-1)
        similarity = self.log_match_scale.exp() * late_interaction(q, word_mask, k, region_mask, batch.places.words())
        present = batch.places.posts("images", with_words=True)
        similarity = similarity[present][:, present]
        if len(present) < 2:
            return similarity.sum() * 0.0
        return 2 * nce(similarity)
