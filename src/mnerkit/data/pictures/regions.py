"""Parts of a picture: the cells of a grid, and boxes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_ROUNDING = 1e-4  # of a pixel


def cells_of(pixels: np.ndarray, k: int) -> list[np.ndarray]:
    """The k * k cells of a picture (H, W, 3), row by row: they tile it, and each has a pixel at least."""
    rows, columns = (_bounds(length, k) for length in pixels.shape[:2])
    return [pixels[a:b, c:d] for a, b in rows for c, d in columns]


def cut(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture (H, W, 3) in a box of shares, widened to whole pixels: at least one."""
    height, width = pixels.shape[:2]
    rows, columns = _pixels_within(box[1], box[3], height), _pixels_within(box[0], box[2], width)
    return pixels[rows, columns]


def _pixels_within(start: float, end: float, length: int) -> slice:
    # a box that was given in pixels has become shares: what rounding added is no pixel
    first = min(max(math.floor(start * length + _ROUNDING), 0), length - 1)
    return slice(first, min(max(math.ceil(end * length - _ROUNDING), first + 1), length))


def _bounds(length: int, k: int) -> list[tuple[int, int]]:
    """Start and end of k cells over `length` pixels, each at least one pixel."""
    starts = [min(cell * length // k, length - 1) for cell in range(k)]
    return [(start, max(start + 1, (cell + 1) * length // k)) for cell, start in enumerate(starts)]
