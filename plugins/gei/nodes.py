"""Nodes of GEI's graph: tokens from the text tower, visual nodes from the pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower
from mnerkit.towers.text.piece_tower import PieceTower, pool_words
from mnerkit_plugins.gei.options import GeiOptions


class Tokens(NamedTuple):
    """Token nodes of B posts.

    Attributes:
        states: C, (B, n, d).
        mask: (B, n) bool, real tokens, including those that belong to no word ([CLS], [SEP]).
        word: (B, n) long, the word of each token, -1 for none.
    """

    states: Tensor
    mask: Tensor
    word: Tensor


class TokenNodes(nn.Module):
    """C: one node for each piece; or for each word, if the option says so or the tower reads whole words."""

    def __init__(self, tower: TextTower, o: GeiOptions) -> None:
        super().__init__()
        self.tower, self.source, self.word_pool = tower, o.tokens, o.word_pool
        if tower.frozen and o.tokens == "pieces" and isinstance(tower, PieceTower):
            tower.keep_layers = True  # a frozen tower caches only words

    def forward(self, text: TextBatch) -> Tokens:
        states = self.tower(text)
        if self.source == "pieces" and states.pieces is not None:
            assert text.attn_mask is not None and text.piece_word is not None
            return Tokens(states.pieces, text.attn_mask, text.piece_word)
        mask = text.read_mask
        words = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return Tokens(states.words, mask, words.masked_fill(~mask, -1))

    def words(self, states: Tensor, text: TextBatch) -> Tensor:
        """States of words (B, W, d), pooled by `word_pool` from states of tokens (B, n, d)."""
        if self.source == "pieces" and text.first_piece is not None:
            return pool_words(states, text, self.word_pool)
        return states * text.read_mask.unsqueeze(-1)


class VisualNodes(nn.Module):
    """V~ = ReLU(V W_v + b_v) (Eq. 6): images, then the objects in them, or the regions of their last map.

    With captions instead of pixels, an image is the mean of its caption, and the words of the caption replace objects
    and regions.

    Args:
        sight: reads pictures or captions.
        o: the options; `width` (d_m), `visual` and `use_global` are used.
    """

    def __init__(self, sight: Sight, o: GeiOptions) -> None:
        super().__init__()
        self.sight, self.use_global = sight, o.use_global
        self.source = "regions" if sight.kind == "captions" else o.visual
        pooled = self.source == "objects" or o.use_global
        self.map = nn.Linear(sight.pooled_width, o.width) if pooled else None  # W_v
        # the width of regions may differ from that of the vector of a whole picture (CLIP's)
        separate = self.source == "regions" and not (pooled and sight.width == sight.pooled_width)
        self.region_map = nn.Linear(sight.width, o.width) if separate else None

    @property
    def views(self) -> tuple[str, ...]:
        """The views that batches must contain."""
        whole = ("whole",) if self.use_global or self.source == "regions" else ()
        return (*whole, "objects") if self.source == "objects" else whole

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, k, d_m) nodes and their (B, k) mask; images first."""
        parts, masks = [], []
        with_regions = self.source == "regions"
        images = self.sight.whole(batch, regions=with_regions) if "whole" in self.views else None
        if images is not None and self.use_global:
            assert self.map is not None
            parts.append(self.map(images.pooled))
            masks.append(images.mask)
        if self.source == "objects":
            objects = self.sight.objects(batch, regions=False)
            assert self.map is not None
            parts.append(self.map(objects.pooled))
            masks.append(objects.mask)
        else:
            assert images is not None
            region_map = self.region_map or self.map
            assert region_map is not None
            parts.append(region_map(images.regions.flatten(1, 2)))
            masks.append(images.region_mask.flatten(1))
        return torch.relu(torch.cat(parts, 1)), torch.cat(masks, 1)

    def places(self, batch: Batch, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the (B, k) nodes of `mask`: (B, k) numbers of their images, and places within them.

        Places are counted from 1: objects, regions, or words of the caption; 0 is the whole image.
        """
        image_mask = batch.caption_mask if self.sight.kind == "captions" else batch.image_mask
        images = image_mask.shape[1] if image_mask is not None and self.use_global else 0
        if self.source == "objects":
            assert batch.crop_image is not None
            image = batch.crop_image
            per_image = int((image[:1] == 0).sum())  # the places of an image are adjacent
        else:
            assert image_mask is not None
            count = image_mask.shape[1]
            per_image = (mask.shape[1] - images) // max(1, count)
            image = torch.arange(count, device=mask.device).repeat_interleave(per_image).expand(len(mask), -1)
        place = torch.arange(image.shape[1], device=mask.device).expand_as(image) % max(1, per_image) + 1
        whole = torch.arange(images, device=mask.device).expand(len(mask), -1)
        return torch.cat((whole, image), 1), torch.cat((torch.zeros_like(whole), place), 1)

    def boxes(self, batch: Batch) -> Tensor | None:
        """(B, k, 4) shares of width and height, x0 y0 x1 y1, of images and objects; None for regions and captions."""
        if self.source != "objects" or batch.boxes is None:
            return None
        if not self.use_global or batch.image_mask is None:
            return batch.boxes
        whole = batch.boxes.new_tensor([0.0, 0.0, 1.0, 1.0]) * batch.image_mask.unsqueeze(-1)
        return torch.cat((whole, batch.boxes), 1)
