"""The pictograms: each noun a few polygons in a square of 1000 x 1000 units, y downwards, painted in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mnerkit.plain_yaml import packaged_yaml

Polygon = tuple[tuple[int, int], ...]

# what a painted pixel shows; 0 is transparent
MAIN, DARK, LIGHT = 1, 2, 3

STEP_DEGREES = 3


def _box(x0: int, y0: int, x1: int, y1: int) -> Polygon:
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _oval(x: int, y: int, rx: int, ry: int | None = None, start: int = 0, stop: int = 360) -> Polygon:
    """Points of an ellipse's arc between two angles in degrees (clockwise from the right)."""
    angles = [math.radians(start + (stop - start) * step / 24) for step in range(25)]
    return tuple((round(x + rx * math.cos(a)), round(y + (ry or rx) * math.sin(a))) for a in angles)


def _star(x: int, y: int, outer: int, inner: int) -> Polygon:
    points = [(outer if step % 2 == 0 else inner, math.radians(36 * step)) for step in range(10)]
    return tuple((round(x + r * math.sin(a)), round(y - r * math.cos(a))) for r, a in points)


def _polygon(*corners: list[int]) -> Polygon:
    return tuple((x, y) for x, y in corners)


_TABLE = packaged_yaml("mnerkit.data.probe", "pictograms.yaml")
_SHADES = {"main": MAIN, "dark": DARK, "light": LIGHT}
_FIGURES: dict[str, Callable[..., Polygon]] = {"box": _box, "oval": _oval, "star": _star, "polygon": _polygon}
SHAPES: dict[str, list[tuple[int, Polygon]]] = {
    noun: [(_SHADES[shade], _FIGURES[figure](*numbers)) for shade, figure, *numbers in parts]
    for noun, parts in _TABLE["shapes"].items()
}
# the drawings of each type, the usual one first
NOUNS: dict[str, list[str]] = _TABLE["nouns"]


def inside(polygon: Polygon, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of the integer points (x, y) lie in `polygon`, by the even-odd rule and in integers only."""
    odd = np.zeros(np.broadcast(x, y).shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if y0 == y1:
            continue
        left = (x - x0) * (y1 - y0) < (x1 - x0) * (y - y0)
        odd ^= ((y0 > y) != (y1 > y)) & (left if y1 > y0 else ~left)
    return odd


@lru_cache(maxsize=4096)
def stencil(noun: str, size: int, turn: int) -> np.ndarray:
    """A pictogram of `size` x `size` pixels, rotated by `turn` steps; uint8 of 0, MAIN, DARK, LIGHT. Read-only."""
    angle = math.radians(turn * STEP_DEGREES)
    cosine, sine = round(1024 * math.cos(angle)), round(1024 * math.sin(angle))
    centres = (2 * np.arange(size, dtype=np.int64) + 1) * 500 // size - 500
    dx, dy = centres[None, :], centres[:, None]
    x = 500 + (dx * cosine + dy * sine >> 10)
    y = 500 + (dy * cosine - dx * sine >> 10)
    painted = np.zeros((size, size), np.uint8)
    for shade, polygon in SHAPES[noun]:
        painted[inside(polygon, x, y)] = shade
    painted.setflags(write=False)
    return painted
