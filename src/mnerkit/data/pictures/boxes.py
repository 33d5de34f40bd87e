"""Boxes of objects in pictures, as files have them: JSON lines, and what a box must be."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mnerkit.data.corpus.post import ImageRef, PictureObject
from mnerkit.data.corpus.readers import lines
from mnerkit.data.pictures.decoding import picture_size
from mnerkit.errors import DataError

FORMAT = "mnerkit-boxes"
VERSION = 1
MAX_OBJECTS = 1000  # of one picture: ten times what a detector proposes
# a box of which more than this share lies outside its picture belongs to another picture, or to another size of it
MOST_OUTSIDE = 0.5
MAX_LABEL = 200

Unit = Literal["pixels", "shares"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FoundBox:
    """A box as a file has it.

    Attributes:
        box: x0 y0 x1 y1, the first pair the upper left corner; in pixels, or in shares of width and height.
        score: how sure the detector is, from 0 to 1.
        label: what it is called.
        unit: of the box.
        size: width and height of the picture in pixels, where the file says them.
        where: file and line, for messages.
    """

    box: Box
    score: float
    label: str
    unit: Unit
    size: tuple[int, int] | None
    where: str


@dataclass
class BoxFile:
    """The boxes of a file.

    Attributes:
        about: what its first line says of it (detector, revision, corpus ...), where there is such a line.
        images: boxes by the name of the picture.
        posts: boxes by the id of a post, whose only picture they belong to.
        places: file and line of each of these, for messages.
    """

    about: dict[str, Any] = field(default_factory=dict)
    images: dict[str, tuple[FoundBox, ...]] = field(default_factory=dict)
    posts: dict[str, tuple[FoundBox, ...]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, kind: Literal["image", "id"], name: str, found: tuple[FoundBox, ...], where: str) -> None:
        """Take the boxes of one picture, told by its name or by its post's id.

        Raises:
            DataError: it had its boxes already.
        """
        known = self.images if kind == "image" else self.posts
        if name in known:
            raise DataError(f"{where}: a second time boxes of {kind} {name!r}.\nPut all boxes of a picture together.")
        known[name] = found
        self.places[name] = where


def read_box_lines(path: Path) -> BoxFile:
    """A file of boxes as JSON lines (`mnerkit data objects --help` tells the format).

    Raises:
        DataError: with file and line.
    """
    file = BoxFile()
    unit: Unit = "pixels"
    rows = ((number, text) for number, text in lines(path) if text.strip())
    for place, (number, text) in enumerate(rows):
        where = f"{path}:{number}"
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError(f"{where}: not JSON: {text[:60]!r}.") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object with image (or id) and objects, found {text[:60]!r}.")
        if "format" in row:
            if row["format"] != FORMAT or row.get("version") != VERSION or place > 0:
                raise DataError(f"{where}: expected the format {FORMAT}, version {VERSION}, in the first line alone.")
            file.about, unit = row, _unit(row, "pixels", where)
            continue
        if "image" in row and "id" in row:
            raise DataError(f"{where}: has both 'image' and 'id'.\nTell a picture by its name, or by its post's id.")
        kind: Literal["image", "id"] = "image" if "image" in row else "id"
        name = row.get(kind)
        if not isinstance(name, str) or not name or "objects" not in row:
            raise DataError(f"{where}: expected 'image' (or 'id', as a string) and 'objects'.")
        file.add(kind, name, boxes_of(row, unit, where), where)
    return file


def boxes_of(row: Mapping[str, Any], unit: Unit, where: str) -> tuple[FoundBox, ...]:
    """The boxes of one picture.

    Args:
        row: `objects`, each with `box` and maybe `score` and `label`; `unit` and `size` where it says them.
        unit: of the boxes where the row says none.
        where: file and line, for messages.

    Raises:
        DataError: a value is not what it should be, or there are too many.
    """
    unit, objects, size = _unit(row, unit, where), row["objects"], row.get("size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side < 1 << 20 for side in size)
    ):
        raise DataError(f"{where}: 'size' must be the picture's width and height in pixels, found {str(size)[:60]}.")
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        raise DataError(f"{where}: 'objects' must be a list of objects with 'box'.")
    check_count(len(objects), where)
    sides = (size[0], size[1]) if size is not None else None
    return tuple(
        FoundBox(checked_box(each.get("box"), unit, where), *_said(each, where), unit, sides, where) for each in objects
    )


def check_count(count: int, where: str) -> None:
    """Refuse more objects than any detector proposes.

    Raises:
        DataError: naming the limit.
    """
    if count > MAX_OBJECTS:
        raise DataError(f"{where}: {count} objects in one picture; the limit is {MAX_OBJECTS}.")


def _said(each: Mapping[str, Any], where: str) -> tuple[float, str]:
    score, label = each.get("score", 1.0), each.get("label", "")
    if not isinstance(label, str) or len(label) > MAX_LABEL:
        raise DataError(f"{where}: a label must be a string of at most {MAX_LABEL} characters.")
    return checked_score(score, where), label


def _unit(row: Mapping[str, Any], default: Unit, where: str) -> Unit:
    unit = row.get("unit", default)
    if unit not in get_args(Unit):
        raise DataError(f"{where}: the unit of boxes is pixels or shares, found {str(unit)[:40]!r}.")
    return unit


def checked_score(score: Any, where: str) -> float:
    """A score between 0 and 1.

    Raises:
        DataError: it is none.
    """
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise DataError(f"{where}: a score must be a number from 0 to 1, found {str(score)[:40]}.")
    return float(score)


def checked_box(box: Any, unit: Unit, where: str) -> Box:
    """Four finite numbers with a width and a height.

    Raises:
        DataError: they are none, or what is said to be pixels can only be shares.
    """
    numbers = isinstance(box, list | tuple) and len(box) == 4
    if not numbers or not all(type(each) in (int, float) and abs(each) <= sys.float_info.max for each in box):
        raise DataError(f"{where}: a box must be four finite numbers x0, y0, x1, y1, found {str(box)[:60]}.")
    x0, y0, x1, y1 = (float(each) for each in box)
    if x1 <= x0 or y1 <= y0:
        raise DataError(
            f"{where}: the box {list(box)} has no size.\nBoxes are x0, y0, x1, y1: upper left and lower right corner."
        )
    if unit == "pixels" and x1 - x0 < 1 and y1 - y0 < 1:
        raise DataError(
            f'{where}: the box {list(box)} is smaller than a pixel.\nIf these are shares, say so: "unit": "shares".'
        )
    return x0, y0, x1, y1


def placed(found: Sequence[FoundBox], ref: ImageRef, counts: Counter[str]) -> list[PictureObject | None]:
    """Boxes in their picture: shares of width and height, clipped to it. None where the picture's size can't be had.

    Args:
        found: the boxes.
        ref: the picture; the head of its file is read for its size where there are boxes.
        counts: `clipped` counts boxes of which a pixel or more was outside.

    Raises:
        DataError: most of a box lies outside, or the boxes are said to be of a picture of another shape.
    """
    shown = picture_size(ref) if found else None
    return [_placed(each, ref, shown, counts) for each in found]


def _placed(
    found: FoundBox, ref: ImageRef, shown: tuple[int, int] | None, counts: Counter[str]
) -> PictureObject | None:
    if found.size is not None and shown is not None and not _alike(found.size, shown):
        raise DataError(
            f"{found.where}: boxes of a picture of {found.size[0]} x {found.size[1]}, and {ref.name} is {shown[0]} x "
            f"{shown[1]} as it is shown.\nAre they of another picture, or of this one before its EXIF rotation?"
        )
    size = found.size or shown
    if size is None:
        if found.unit == "pixels":
            return None
        size = (1000, 1000)  # what counts as a pixel's width, where nobody knows
    x0, y0, x1, y1 = found.box
    if found.unit == "pixels":
        x0, y0, x1, y1 = x0 / size[0], y0 / size[1], x1 / size[0], y1 / size[1]
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0))
    seen = max(inside[2] - inside[0], 0.0) * max(inside[3] - inside[1], 0.0)
    if seen <= 0 or seen < (1 - MOST_OUTSIDE - 1e-9) * (x1 - x0) * (y1 - y0):  # up to rounding
        raise DataError(
            f"{found.where}: the box {[round(each, 3) for each in found.box]} ({found.unit}) lies outside picture "
            f"{ref.name}, {size[0]} x {size[1]}.\nAre the boxes of another size of the picture, or in another unit?"
            if found.unit == "pixels" or found.size or ref.present
            else f"{found.where}: the box {list(found.box)} ({found.unit}) lies outside picture {ref.name}."
        )
    over = max((inside[0] - x0) * size[0], (x1 - inside[2]) * size[0])
    over = max(over, (inside[1] - y0) * size[1], (y1 - inside[3]) * size[1])
    counts["clipped"] += over >= 1
    return PictureObject(inside, found.score, found.label)


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are of one picture, larger or smaller, up to a pixel that rounding took."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(sum(size), sum(other))
