"""The pictures of a generated post: pictograms in a 3 x 3 grid over a gradient with clutter and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mnerkit.data.probe.presets import Preset
from mnerkit.data.random_draws import Dice
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


SIZE, GRID = 64, 3
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (210, 35, 40),
    "blue": (35, 75, 215),
    "green": (25, 155, 55),
    "yellow": (235, 210, 35),
    "purple": (135, 45, 175),
    "orange": (240, 130, 25),
    "pink": (245, 135, 190),
    "teal": (20, 160, 165),
}
_JITTER = 15
# pictures are painted at twice their size and averaged, so that edges are smooth
_ZOOM = 2
_FEWEST_PIXELS, _MOST_PIXELS = 34, 41


@dataclass(frozen=True)
class Item:
    """A pictogram to be drawn: its noun, its colour, and the entity that it shows (-1 for a distractor)."""

    noun: str
    colour: str
    entity: int


@dataclass(frozen=True)
class Placed:
    """Where an item was drawn: its cell (row-major) and its box x0 y0 x1 y1 in pixels."""

    item: Item
    cell: int
    box: tuple[int, int, int, int]


def paint(dice: Dice, preset: Preset, items: list[Item]) -> tuple[np.ndarray, list[Placed]]:
    """Draw `items` into cells of their own; returns (64, 64, 3) uint8 and where each item is, in reading order."""
    edge = SIZE * _ZOOM
    canvas = _background(dice, edge)
    for _ in range(dice.between(*preset.clutter)):
        _strew(dice, canvas)
    cells = dice.shuffled(range(GRID * GRID))[: len(items)]
    placed = [_place(dice, canvas, preset, item, cell) for item, cell in zip(items, cells, strict=True)]
    # numpy sums over an outer axis several times as fast as over inner ones
    rows = canvas.reshape(SIZE, _ZOOM, -1).sum(1).reshape(SIZE, SIZE, _ZOOM, 3)
    small = np.stack([rows[:, :, column] for column in range(_ZOOM)]).sum(0) // _ZOOM**2
    pixels = np.clip(small + dice.noise(small.shape, preset.noise), 0, 255).astype(np.uint8)
    return pixels, sorted(placed, key=lambda each: each.cell)


def caption(placed: list[Placed]) -> str:
    """A short true sentence of what is drawn: `a red house and a blue trophy`."""
    things = [
        f"{'an' if each.item.colour[0] in 'aeiou' else 'a'} {each.item.colour} {each.item.noun}" for each in placed
    ]
    if not things:
        return "a plain background"
    return " and ".join([*([", ".join(things[:-1])] if things[:-1] else []), things[-1]]).replace(",", " ,")


def _background(dice: Dice, edge: int) -> np.ndarray:
    top, bottom = dice.between(90, 234), dice.between(90, 234)
    rows = top + (bottom - top) * np.arange(edge, dtype=np.int64) // (edge - 1)
    tint = np.array([dice.between(-10, 10) for _ in range(3)], np.int64)
    return np.repeat((rows[:, None, None] + tint).astype(np.int16), edge, 1)


def _strew(dice: Dice, canvas: np.ndarray) -> None:
    """Paint one greyish stroke, oval or box somewhere."""
    edge = len(canvas)
    x, y = dice.below(edge), dice.below(edge)
    width, height = dice.between(6, 26), dice.between(6, 26)
    grey = dice.between(40, 220)
    colour = [min(max(grey + dice.between(-25, 25), 0), 255) for _ in range(3)]
    kind = dice.below(3)
    window = canvas[y : y + 2 * height, x : x + 2 * width] if kind == 0 else canvas[y : y + height, x : x + width]
    across, down = np.arange(window.shape[1])[None, :], np.arange(window.shape[0])[:, None]
    if kind == 0:
        thick = dice.between(2, 4)
        stroke = ((0, 0), (thick, 0), (2 * width, 2 * height), (2 * width - thick, 2 * height))
        window[inside(stroke, across, down)] = colour
    elif kind == 1:
        oval = ((2 * across - width) * height) ** 2 + ((2 * down - height) * width) ** 2 <= (width * height) ** 2
        window[oval] = colour
    else:
        window[:] = colour


def _place(dice: Dice, canvas: np.ndarray, preset: Preset, item: Item, cell: int) -> Placed:
    edge = len(canvas)
    row, column = divmod(cell, GRID)
    size = dice.between(_FEWEST_PIXELS, _MOST_PIXELS)
    x = column * edge // GRID + dice.below(edge // GRID - size + 1)
    y = row * edge // GRID + dice.below(edge // GRID - size + 1)
    main = np.array([min(max(part + dice.between(-_JITTER, _JITTER), 0), 255) for part in COLOURS[item.colour]])
    painted = stencil(item.noun, size, dice.between(-preset.turns, preset.turns))
    window = canvas[y : y + size, x : x + size]
    colours = np.zeros((4, 3), canvas.dtype)
    colours[MAIN], colours[DARK], colours[LIGHT] = main, main * 3 // 8, 255 - (255 - main) // 4
    np.copyto(window, colours[painted], where=(painted > 0)[:, :, None])
    box = (x // _ZOOM, y // _ZOOM, -(-(x + size) // _ZOOM), -(-(y + size) // _ZOOM))
    return Placed(item, cell, box)
