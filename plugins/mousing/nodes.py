"""Nodes of MOUSING's graph from the towers (Eq. 1)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.errors import UsageError
from mnerkit.towers.interface import TextTower, VisionTower
from mnerkit_plugins.mousing.caption_words import content_mask, phrases
from mnerkit_plugins.mousing.options import MousingOptions

View = TypeVar("View")


class WordNodes(nn.Module):
    """One node for each word: its state in the space shared with pictures (`projected`), or unchanged (`hidden`)."""

    def __init__(self, tower: TextTower, o: MousingOptions) -> None:
        super().__init__()
        self.tower, self.space = tower, o.text_space
        self.width = tower.joint_width if self.space == "projected" else tower.width

    def forward(self, text: TextBatch) -> tuple[Tensor, Tensor]:
        """(B, W, d) nodes and their (B, W) mask; words that the tower did not read are not nodes."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.tower.frozen):
            states = self.tower(text).words
            if self.space == "projected":
                states = self.tower.joint(states)
        mask = text.read_mask
        return states * mask.unsqueeze(-1), mask


class ImageNodes(nn.Module):
    """Nodes of a post's pictures.

    `grid_crop` reads the cells of a grid one by one (9 vectors in CLIP's joint space without new weights),
    `pooled_tokens` averages the patch states of the whole picture over the cells, `all_tokens` uses all patches, and
    `captions` the words of the pictures' captions: all of them, content words only, or runs of content words as one
    node each.
    """

    def __init__(self, words: WordNodes, vision: VisionTower | None, o: MousingOptions) -> None:
        super().__init__()
        self.source, self.grid, self.caption_nodes = o.image_nodes, o.grid, o.caption_nodes
        if self.source == "captions":
            self.vision, width = None, words.width
        elif vision is None:
            raise UsageError(
                f"image_nodes {self.source} needs a vision tower; without one set image_nodes to captions, or "
                "use_image to false"
            )
        else:
            self.vision, width = vision, vision.pooled_width if self.source == "grid_crop" else vision.joint_width
        if width != words.width and not o.image_projection:
            raise UsageError(
                f"words are {words.width} wide and image nodes {width}: the towers share no space. Use CLIP or tiny "
                "for both, image_nodes captions, or image_projection true (a trained map)"
            )
        self.projection = nn.Linear(width, words.width) if o.image_projection else None

    def forward(self, batch: Batch, words: WordNodes) -> tuple[Tensor, Tensor]:
        """(B, R, d) nodes and their (B, R) mask, false for missing pictures. `words` reads captions."""
        if self.vision is None:
            nodes, mask = self._captions(batch, words)
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.vision.frozen):
                read = self._crops if self.source == "grid_crop" else self._tokens
                nodes, mask = read(batch, self.vision)
        if self.projection is not None:
            nodes = self.projection(nodes)
        return nodes * mask.unsqueeze(-1), mask

    def _captions(self, batch: Batch, words: WordNodes) -> tuple[Tensor, Tensor]:
        captions = _present(batch.captions, "captions")
        nodes, mask = words(captions)  # (B * m, W, d)
        if self.caption_nodes != "words":
            mask = content_mask(captions.words, mask)
        if self.caption_nodes == "phrases":
            nodes, mask = phrases(nodes, mask)
        mask = mask & _present(batch.caption_mask, "captions").reshape(-1, 1)
        return nodes.reshape(len(batch), -1, nodes.shape[-1]), mask.reshape(len(batch), -1)

    def _crops(self, batch: Batch, vision: VisionTower) -> tuple[Tensor, Tensor]:
        pooled = vision.see_pooled(batch.pictures("grid"))  # (B * o, d)
        mask = _present(batch.crop_mask, "grid")  # (B, o)
        return pooled.reshape(*mask.shape, -1), mask

    def _tokens(self, batch: Batch, vision: VisionTower) -> tuple[Tensor, Tensor]:
        states = vision.see(batch.pictures("whole"))
        mask = _present(batch.image_mask, "whole")  # (B, m)
        regions = states.regions  # (B * m, R, d)
        if self.source == "pooled_tokens":
            maps = regions.transpose(1, 2).unflatten(2, states.grid)
            regions = nn.functional.adaptive_avg_pool2d(maps, self.grid).flatten(2).transpose(1, 2)
        nodes = vision.joint(regions)
        per_image = nodes.shape[1]
        return nodes.reshape(len(batch), -1, nodes.shape[-1]), mask.repeat_interleave(per_image, dim=1)


def _present(value: View | None, view: str) -> View:
    if value is None:
        raise ValueError(f"the batch lacks the view {view!r}")
    return value
