"""The base of vision towers that cache the features of pictures while they are frozen."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mnerkit.data.batches.batch import PictureBatch
from mnerkit.towers.frozen.memory import FeatureMemory, Reading, weight_digest
from mnerkit.towers.interface import ImageStates, VisionTower


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
        if self.constant:
            return self.memory.images(self, pictures, self._crop_states if pictures.crops else self._states)
        return self._crop_states(pictures.pixels()) if pictures.crops else self(pictures.pixels())

    def see_stages(self, pictures: PictureBatch) -> ImageStates:
        return (self._crop_states if pictures.crops else self._states)(pictures.pixels())

    def see_pooled(self, pictures: PictureBatch) -> Tensor:
        compute = self._pooled_crops if pictures.crops else self._pooled
        return self.memory.pooled(self, pictures, compute) if self.constant else compute(pictures.pixels())

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
