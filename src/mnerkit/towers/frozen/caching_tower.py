"""The base of vision towers that cache the features of pictures while they are frozen."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mnerkit.data.batches.batch import PictureBatch
from mnerkit.nn.visual_prefix import pooled_maps
from mnerkit.towers.frozen.memory import FeatureMemory, weight_digest
from mnerkit.towers.frozen.reading import Reading
from mnerkit.towers.interface import ImageStates, Pooling, VisionTower


class CachingTower(VisionTower):
    """Base of vision towers that, while frozen, cache their output for each picture (`FeatureMemory`).

    A frozen tower returns neither tokens nor stages, except from `see_stages`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory: Any = FeatureMemory()

    def forward(self, pixels: Tensor) -> ImageStates:
        return self.see(PictureBatch(pixels)) if self.constant else self._states(pixels)

    def pool(self, pixels: Tensor) -> Tensor:
        return self.see_pooled(PictureBatch(pixels)) if self.constant else self._pooled(pixels)

    def see(self, pictures: PictureBatch) -> ImageStates:
        states = self._crop_states if pictures.crops else self._states
        if not self.constant:
            return states(pictures.pixels()) if pictures.crops else self(pictures.pixels())

        def compute(pixels: Tensor) -> dict[str, Tensor]:
            made = states(pixels)
            return {"pooled": made.pooled, "regions": made.regions}

        grid = self.grid_of(*self.size_of(pictures))
        shapes = {"pooled": (self.pooled_width,), "regions": (grid[0] * grid[1], self.width)}
        features = self.memory.pictures(self, pictures, "", compute, shapes)
        return ImageStates(features["pooled"], features["regions"], grid)

    def see_stages(self, pictures: PictureBatch, pooling: Pooling | None = None) -> ImageStates:
        states = self._crop_states if pictures.crops else self._states
        if pooling is None or not self.constant:
            return states(pictures.pixels())

        def compute(pixels: Tensor) -> dict[str, Tensor]:
            made = states(pixels)
            maps = enumerate(pooled_maps(made.stages, *pooling))
            return {"pooled": made.pooled, **{f"stage{number}": stage for number, stage in maps}}

        features = self.memory.pictures(self, pictures, f"stages {pooling[0]} {pooling[1]}", compute)
        pooled, *stages = (features[name] for name in sorted(features))
        return ImageStates(pooled, pooled.new_zeros(len(pooled), 1, self.width), (1, 1), tuple(stages))

    def see_pooled(self, pictures: PictureBatch) -> Tensor:
        compute = self._pooled_crops if pictures.crops else self._pooled
        if not self.constant:
            return compute(pictures.pixels())
        shapes = {"pooled": (self.pooled_width,)}
        return self.memory.pictures(self, pictures, "pooled", lambda pixels: {"pooled": compute(pixels)}, shapes)[
            "pooled"
        ]

    def size_of(self, pictures: PictureBatch) -> tuple[int, int]:
        """Height and width of the pictures that it reads."""
        side, decoded = self.picture.size, pictures.decoded
        return (side, side) if decoded is None else (decoded.shape[-2], decoded.shape[-1])

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the regions of a picture of `height` x `width` pixels."""
        raise NotImplementedError

    def reading(self) -> Reading:
        """Settings that determine the output, as part of the cache key."""
        return Reading(weight_digest(self), "picture", str(self.picture))

    def _states(self, pixels: Tensor) -> ImageStates:
        raise NotImplementedError

    def _pooled(self, pixels: Tensor) -> Tensor:
        return self._states(pixels).pooled

    def _crop_states(self, pixels: Tensor) -> ImageStates:
        return self._states(pixels)

    def _pooled_crops(self, pixels: Tensor) -> Tensor:
        return self._pooled(pixels)
