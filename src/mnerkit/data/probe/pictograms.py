"""The pictograms: each noun a few polygons in a square of 1000 x 1000 units, y downwards, painted in order."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

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


SHAPES: dict[str, tuple[tuple[int, Polygon], ...]] = {
    "person": (
        (MAIN, ((360, 480), (640, 480), (840, 980), (160, 980))),
        (MAIN, _oval(500, 250, 220)),
        (DARK, _oval(420, 230, 40)),
        (DARK, _oval(580, 230, 40)),
    ),
    "child": (
        (MAIN, _oval(500, 1000, 370, 420, 180, 360)),
        (MAIN, _oval(500, 340, 260)),
        (LIGHT, _oval(410, 320, 50)),
        (LIGHT, _oval(590, 320, 50)),
    ),
    "house": (
        (MAIN, _box(150, 450, 850, 970)),
        (DARK, ((30, 470), (500, 30), (970, 470))),
        (DARK, _box(410, 640, 600, 970)),
    ),
    "mountain": (
        (MAIN, ((0, 970), (360, 80), (720, 970))),
        (DARK, ((400, 970), (700, 380), (1000, 970))),
        (LIGHT, ((250, 352), (360, 80), (470, 352))),
    ),
    "logo": (
        (MAIN, _box(40, 40, 960, 960)),
        (LIGHT, _box(200, 220, 320, 780)),
        (LIGHT, _box(200, 660, 480, 780)),
        (LIGHT, _box(570, 220, 690, 780)),
        (LIGHT, _box(570, 220, 840, 340)),
    ),
    "badge": (
        (MAIN, _oval(500, 500, 470)),
        (LIGHT, _oval(500, 500, 320)),
        (DARK, _box(260, 420, 740, 580)),
    ),
    "trophy": (
        (DARK, _oval(200, 260, 180)),
        (DARK, _oval(800, 260, 180)),
        (
            MAIN,
            (
                (210, 70),
                (790, 70),
                (700, 450),
                (560, 580),
                (560, 800),
                (730, 960),
                (270, 960),
                (440, 800),
                (440, 580),
                (300, 450),
            ),
        ),
    ),
    "medal": (
        (DARK, ((280, 0), (500, 400), (360, 500), (130, 50))),
        (DARK, ((720, 0), (500, 400), (640, 500), (870, 50))),
        (MAIN, _star(500, 640, 370, 170)),
    ),
    "car": (
        (MAIN, ((220, 500), (330, 240), (680, 240), (800, 500))),
        (MAIN, _box(20, 480, 980, 750)),
        (DARK, _oval(250, 770, 150)),
        (DARK, _oval(750, 770, 150)),
    ),
    "truck": (
        (MAIN, _box(30, 180, 620, 740)),
        (LIGHT, _box(640, 400, 970, 740)),
        (DARK, _oval(230, 780, 150)),
        (DARK, _oval(770, 780, 150)),
    ),
    "cat": (
        (MAIN, ((110, 520), (150, 30), (470, 300))),
        (MAIN, ((890, 520), (850, 30), (530, 300))),
        (MAIN, _oval(500, 600, 380)),
        (LIGHT, _oval(360, 540, 80)),
        (LIGHT, _oval(640, 540, 80)),
        (DARK, ((420, 700), (580, 700), (500, 800))),
    ),
    "rabbit": (
        (MAIN, _oval(340, 230, 100, 230)),
        (MAIN, _oval(660, 230, 100, 230)),
        (MAIN, _oval(500, 650, 340)),
        (LIGHT, _oval(390, 600, 60)),
        (LIGHT, _oval(610, 600, 60)),
    ),
    "icecream": (
        (DARK, ((210, 420), (790, 420), (500, 1000))),
        (MAIN, _oval(500, 300, 320, 270)),
        (LIGHT, _oval(500, 90, 80)),
    ),
    "pizza": (
        (MAIN, ((50, 120), (950, 120), (500, 990))),
        (DARK, _box(30, 30, 970, 190)),
        (LIGHT, _oval(400, 360, 80)),
        (LIGHT, _oval(610, 400, 80)),
        (LIGHT, _oval(500, 650, 70)),
    ),
    "note": (
        (MAIN, _oval(290, 800, 220, 170)),
        (MAIN, _box(410, 80, 510, 800)),
        (MAIN, ((450, 80), (900, 300), (860, 520), (450, 320))),
    ),
    "drum": (
        (MAIN, _box(80, 340, 920, 860)),
        (MAIN, _oval(500, 850, 420, 140)),
        (LIGHT, _oval(500, 340, 420, 160)),
        (DARK, ((60, 30), (130, 0), (560, 330), (500, 380))),
    ),
}

# the drawings of each type, the usual one first
NOUNS: dict[str, tuple[str, str]] = {
    "PER": ("person", "child"),
    "LOC": ("house", "mountain"),
    "ORG": ("logo", "badge"),
    "MISC": ("trophy", "medal"),
    "VEH": ("car", "truck"),
    "ANI": ("cat", "rabbit"),
    "FOOD": ("icecream", "pizza"),
    "MUS": ("note", "drum"),
}


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
