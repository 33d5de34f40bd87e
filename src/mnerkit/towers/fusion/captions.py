"""Captions instead of pixels: a text tower that reads captions and returns the states of a vision tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import TextBatch
from mnerkit.towers.interface import ImageStates, TextTower
from mnerkit.towers.text.piece_tower import PieceTower

STAGES = 4


class CaptionAdapter(nn.Module):
    """Replaces a vision tower: returns an `ImageStates` for N captions of up to C words.

    Pooled is the mean over the words; regions are the words' states (a 1 x C grid, padded; see the mask); stages are
    the words' states after four evenly spaced layers, (N, d, 1, C) each, if the tower has layers; tokens are pooled and
    regions. The states have no height and width.

    Args:
        tower: text tower that reads the captions.
    """

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower
        self.width = self.pooled_width = tower.width

    def forward(self, captions: TextBatch, stages: bool = False) -> tuple[ImageStates, Tensor]:
        """Read captions.

        Args:
            captions: N rows; a row without words has neither pooled vector nor regions (zeros, mask False).
            stages: whether to return stages.

        Returns:
            The states, and the (N, C) mask of the regions.
        """
        mask = captions.read_mask  # (N, C)
        maps: tuple[Tensor, ...] = ()
        if stages and isinstance(self.tower, PieceTower):
            states = self.tower.staged(captions, STAGES)
            maps = tuple(layer.transpose(1, 2).unsqueeze(2) for layer in states.layers)  # (N, d, 1, C)
        else:
            states = self.tower(captions)
        words = states.words * mask.unsqueeze(-1)  # (N, C, d)
        pooled = words.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        tokens = torch.cat([pooled.unsqueeze(1), words], 1)
        return ImageStates(pooled, words, (1, words.shape[1]), maps, tokens), mask
