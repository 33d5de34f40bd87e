"""Words look at regions: one cross-attention and a gate, the simplest encoder that can bind a word to its region."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch, PictureBatch
from mnerkit.nn.contrast import late_interaction, nce
from mnerkit.towers.interface import Encoder, TextTower, VisionTower, WordStates
from mnerkit.towers.vision.augment import flipped_and_shifted

Attention = Literal["cosine", "dot"]


class CrossEncoder(Encoder):
    """h' = h + ReLU(W [h; g z]): each word's state h, joined by what it sees z as far as its gate g lets it.

    Args:
        text: the text tower; its width d is the encoder's.
        vision: the vision tower, whose regions of all images of a post are the keys.
        attention: `cosine` scores with a learnt temperature, or scaled `dot` products.
        heads: attention heads; must divide d. One binds earliest: several heads can agree on "something is there".
        gate: whether a word can close itself to the picture.
        dropout: on word states before and after the fusion.
        augment: mirror and shift pictures while training.
        matching: whether to return the named loss `matching` (words and regions of a post find each other in the
            batch).
    """

    by_post = True

    def __init__(
        self,
        text: TextTower,
        vision: VisionTower,
        attention: Attention = "cosine",
        heads: int = 1,
        gate: bool = True,
        dropout: float = 0.2,
        augment: bool = True,
        matching: bool = False,
    ) -> None:
        super().__init__()
        self.text, self.vision = text, vision
        self.width = d = text.width
        self.attention, self.heads, self.augment, self.matching = attention, heads, augment, matching
        self.word_norm = nn.LayerNorm(d)
        self.region_in = nn.Linear(vision.width, d) if vision.width != d else nn.Identity()
        self.region_norm = nn.LayerNorm(d)
        self.query, self.key, self.value = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.log_scale = nn.Parameter(torch.tensor(2.3)) if attention == "cosine" else None
        self.gate = nn.Linear(2 * d, d) if gate else None
        self.mix = nn.Linear(2 * d, d)
        self.dropout = nn.Dropout(dropout)
        self.log_match_scale = nn.Parameter(torch.tensor(3.0)) if matching else None

    def regions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Regions of all images of each post, (B, R, d), and which of them are real, (B, R)."""
        pictures = batch.pictures("whole")  # B m of them
        if self.training and self.augment:
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
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (queries, keys, self.value(regions))]
        hidden = ~region_mask[:, None, None, :]  # (B, 1, 1, R)
        weights = self.scores(split[0], split[1]).masked_fill(hidden, -1e4).softmax(-1)  # (B, heads, W, R)
        # a post without pictures sees nothing
        weights = weights.masked_fill(hidden, 0.0)
        z = (weights @ split[2]).transpose(1, 2).flatten(2)  # (B, W, d)
        gate = torch.sigmoid(self.gate(torch.cat([h, z], -1))) if self.gate is not None else torch.ones_like(z)
        states = h + torch.relu(self.mix(torch.cat([h, gate * z], -1)))
        states = self.dropout(states) * batch.text.word_mask.unsqueeze(-1)
        losses = {"matching": self.match(queries, keys, batch, region_mask)} if self.matching else {}
        seen = {"attention": weights.mean(1), "gate": gate.mean(-1)} if trace else {}  # (B, W, R), (B, W)
        return WordStates(states.unsqueeze(0), losses, trace=seen)

    def match(self, queries: Tensor, keys: Tensor, batch: Batch, region_mask: Tensor) -> Tensor:
        """Late-interaction contrast (FILIP, Yao et al. 2022, eq. 4-5): each word takes its best region of a post.

        Both directions of InfoNCE over the posts of the batch that have words and pictures.
        """
        assert self.log_match_scale is not None
        word_mask = batch.text.read_mask
        q, k = functional.normalize(queries, dim=-1), functional.normalize(keys, dim=-1)
        similarity = self.log_match_scale.exp() * late_interaction(q, word_mask, k, region_mask)
        present = torch.nonzero(region_mask.any(1) & word_mask.any(1)).flatten()
        similarity = similarity[present][:, present]
        if len(present) < 2:
            return similarity.sum() * 0.0
        return 2 * nce(similarity)
