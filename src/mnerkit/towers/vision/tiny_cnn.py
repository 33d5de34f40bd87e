"""A tiny vision tower that trains from scratch in a minute on two cores; it replaces CLIP on the probe corpus."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.towers.frozen.caching_tower import CachingTower
from mnerkit.towers.interface import ImageStates
from mnerkit.towers.tiny_sizes import PICTURE, WIDTH


class TinyVision(CachingTower):
    """A narrow CNN with one region for each 8 x 8 pixels, plus a linear map of the patch's colours.

    The colour skip connection passes low-level colour to the regions; without it, the tower learns the words for
    colours late or never. It takes pictures of any size; 64 x 64 pixels give 8 x 8 regions. The pooled vector of a
    picture is the maximum of each channel over its regions. That of a crop is a glance: the mean region of the crop at
    3/8 of its size, so that a cell of a 3 x 3 grid, enlarged to a picture of its own, is read at about its scale in the
    whole picture. `joint` gives pooled vectors zero mean and unit variance.

    Args:
        width: d of the regions and of the pooled vector.
        channels: channels of the first convolution.

    """

    GLANCE = 3 / 8

    def __init__(self, width: int = WIDTH, channels: int = 16) -> None:
        super().__init__()
        self.spec, self.width, self.pooled_width, self.picture = "tiny", width, width, PICTURE
        self.layers = nn.ModuleList(
            [
                _Layer(3, channels, stride=2),
                _Layer(channels, 2 * channels, stride=2),
                _Layer(2 * channels, width, stride=2),
                _Layer(width, width, stride=1),
            ]
        )
        self.colour = nn.Linear(12, width)
        self.stage_widths = (channels, 2 * channels, width, width)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        # three steps halve the sides, rounding up
        return -(-height // 8), -(-width // 8)

    def _states(self, pixels: Tensor) -> ImageStates:
        regions, stages = self.read(pixels)
        grid = (stages[-1].shape[-2], stages[-1].shape[-1])
        return ImageStates(self.joint(regions.amax(1)), regions, grid=grid, stages=stages)

    def _crop_states(self, pixels: Tensor) -> ImageStates:
        return replace(self._states(pixels), pooled=self._pooled_crops(pixels))

    def _pooled_crops(self, pixels: Tensor) -> Tensor:
        small = [max(1, round(side * self.GLANCE)) for side in pixels.shape[-2:]]
        return self.glance(functional.interpolate(pixels, small, mode="area"))

    def joint(self, regions: Tensor) -> Tensor:
        """Regions (..., d) in the joint space: with zero mean and unit variance."""
        return functional.layer_norm(regions, (self.width,))

    def glance(self, pixels: Tensor) -> Tensor:
        """The pooled vectors (N, d) of small pictures (N, 3, h, w)."""
        # running statistics even in training: statistics of whole pictures and of glances must not be mixed
        return self.joint(self.read(pixels, whole=False)[0].mean(1))

    def read(self, pixels: Tensor, whole: bool = True) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Regions (N, R, d) and the maps of all layers; the last map is that of the regions.

        In training, `whole` pictures use the statistics of the batch, glances the running statistics.
        """
        stages = []
        x = pixels  # (N, 3, H, W)
        for layer in self.layers:
            x = layer(x, batch_statistics=whole and self.training)
            stages.append(x)
        colours = patch_colours(pixels, (x.shape[-2], x.shape[-1]))  # (N, 12, h, w)
        regions = x.flatten(2).transpose(1, 2) + self.colour(colours.flatten(2).transpose(1, 2))  # (N, R, d)
        stages[-1] = regions.transpose(1, 2).unflatten(2, (x.shape[-2], x.shape[-1]))
        return regions, tuple(stages)


class _Layer(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, batch_statistics: bool) -> Tensor:
        x = self.convolution(x)
        norm = self.norm
        if batch_statistics:
            return torch.relu(norm(x))
        fixed = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return torch.relu(fixed)


def patch_colours(pixels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Colour statistics of each patch: mean, mean chroma, and the largest chroma towards and away from each channel.

    Args:
        pixels: (N, 3, H, W).
        grid: rows and columns of patches.

    Returns:
        (N, 12, rows, columns).

    """
    chroma = pixels - pixels.mean(1, keepdim=True)
    return torch.cat(
        [
            functional.adaptive_avg_pool2d(pixels, grid),
            functional.adaptive_avg_pool2d(chroma, grid),
            functional.adaptive_max_pool2d(chroma, grid),
            functional.adaptive_max_pool2d(-chroma, grid),
        ],
        1,
    )
