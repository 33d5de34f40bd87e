"""Boxes of objects in pictures, as files have them: JSON lines, and what a box must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator, with_config
from typing_extensions import Self

from mnerkit.data.corpus.corpus_files import BOX_FORMAT, BOX_VERSION
from mnerkit.data.corpus.post import ImageRef, PictureObject
from mnerkit.data.corpus.text_lines import json_lines
from mnerkit.data.pictures.decoding import picture_size
from mnerkit.errors import DataError
from mnerkit.validation import Line, ListOf, RowOf, validated

MAX_OBJECTS = 1000  # of one picture: ten times what a detector proposes
# a box of which more than this share lies outside its picture belongs to another picture, or to another size of it
MOST_OUTSIDE = 0.5
MAX_LABEL = 200

Unit = Literal["pixels", "shares"]
Name = Annotated[str, Field(min_length=1)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
_Side = Annotated[int, Field(gt=0, lt=1 << 20)]
_Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]


@with_config(ConfigDict(strict=False))  # or a mapping would not make one; each value is strict
@dataclass(frozen=True, slots=True)  # there are very many; a model of pydantic's takes three times the memory
class BoxedObject:
    """An object as a file has it.

    Attributes:
        box: x0 y0 x1 y1, the first pair the upper left corner; in pixels, or in shares of width and height.
        score: how sure the detector is, from 0 to 1.
        label: what it is called.
    """

    box: RowOf[tuple[_Number, _Number, _Number, _Number]]
    score: Score = 1.0
    label: Annotated[str, Field(max_length=MAX_LABEL, strict=True)] = ""


class PictureBoxes(Line):
    """The objects of one picture, as a file has them.

    Attributes:
        objects: the objects.
        unit: of their boxes.
        size: width and height of the picture in pixels, where the file has them.
        where: file and line, for messages.
    """

    objects: Annotated[ListOf[BoxedObject], Field(max_length=MAX_OBJECTS)]
    unit: Unit = "pixels"
    size: RowOf[tuple[_Side, _Side]] | None = None
    where: str = ""

    @model_validator(mode="after")
    def _check_boxes(self) -> Self:
        for each in self.objects:
            x0, y0, x1, y1 = each.box
            if x1 <= x0 or y1 <= y0:
                raise ValueError(
                    f"the box {list(each.box)} has no size.\n"
                    "Boxes are x0, y0, x1, y1: upper left and lower right corner."
                )
            if self.unit == "pixels" and x1 - x0 < 1 and y1 - y0 < 1:
                raise ValueError(
                    f'the box {list(each.box)} is smaller than a pixel.\nIf these are shares, say so: "unit": "shares".'
                )
        return self


class _BoxLine(PictureBoxes):
    """A line of a file: the picture is named, or its post's id."""

    image: Name | None = None
    id: Name | None = None

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if (self.image is None) == (self.id is None):
            raise ValueError("expected either 'image', the name of a picture, or 'id', that of its post")
        return self


@dataclass
class BoxFile:
    """The boxes of a file.

    Attributes:
        about: what its first line tells of it (detector, revision, corpus ...), where there is such a line.
        images: boxes by the name of the picture.
        posts: boxes by the id of a post, whose only picture they belong to.
        misnamed: files of a folder that name another picture than they are called after.
    """

    about: dict[str, Any] = field(default_factory=dict)
    images: dict[str, PictureBoxes] = field(default_factory=dict)
    posts: dict[str, PictureBoxes] = field(default_factory=dict)
    misnamed: int = 0


def read_box_lines(path: Path) -> BoxFile:
    """A file of boxes as JSON lines (`mnerkit data objects --help` shows the format).

    Raises:
        DataError: with file and line.
    """
    file = BoxFile()
    unit: Unit = "pixels"
    for place, (where, row) in enumerate(json_lines(path)):
        if "format" in row:
            if row["format"] != BOX_FORMAT or row.get("version") != BOX_VERSION or place > 0:
                raise DataError(
                    f"{where}: expected the format {BOX_FORMAT}, version {BOX_VERSION}, in the first line alone."
                )
            file.about = row
            unit = validated(PictureBoxes, {"unit": unit, **row, "objects": []}, where).unit
            continue
        line = validated(_BoxLine, {"unit": unit, **row, "where": where}, where)
        boxes_by_name, name = (file.images, line.image) if line.image is not None else (file.posts, line.id)
        if name in boxes_by_name:
            raise DataError(f"{where}: a second time boxes of {name!r}.\nPut all boxes of a picture together.")
        boxes_by_name[str(name)] = line
    return file


def placed(boxes: PictureBoxes, ref: ImageRef, counts: Counter[str]) -> list[PictureObject | None]:
    """Objects in their picture: shares of width and height, clipped to it. None where the picture's size can't be had.

    Args:
        boxes: the objects.
        ref: the picture; the head of its file is read for its size where there are boxes.
        counts: `clipped` counts boxes of which a pixel or more was outside.

    Raises:
        DataError: most of a box lies outside, or the boxes are those of a picture of another shape.
    """
    if not boxes.objects:
        return []
    shown = picture_size(ref)
    if boxes.size is not None and shown is not None and not _alike(boxes.size, shown):
        raise DataError(
            f"{boxes.where}: boxes of a picture of {boxes.size[0]} x {boxes.size[1]}, and {ref.name} is {shown[0]} x "
            f"{shown[1]} as it is shown.\nAre they of another picture, or of this one before its EXIF rotation?"
        )
    size = boxes.size or shown
    if size is None and boxes.unit == "pixels":
        return [None] * len(boxes.objects)
    return [_placed(each, boxes, ref, size, counts) for each in boxes.objects]


def _placed(
    each: BoxedObject, boxes: PictureBoxes, ref: ImageRef, known_size: tuple[int, int] | None, counts: Counter[str]
) -> PictureObject:
    size = known_size or (1000, 1000)  # what counts as a pixel's width, where nobody knows
    x0, y0, x1, y1 = each.box
    if boxes.unit == "pixels":
        x0, y0, x1, y1 = x0 / size[0], y0 / size[1], x1 / size[0], y1 / size[1]
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0))
    area = max(inside[2] - inside[0], 0.0) * max(inside[3] - inside[1], 0.0)
    if area <= 0 or area < (1 - MOST_OUTSIDE - 1e-9) * (x1 - x0) * (y1 - y0):  # up to rounding
        box = f"{boxes.where}: the box {[round(side, 3) for side in each.box]} ({boxes.unit}) lies outside picture "
        raise DataError(
            f"{box}{ref.name}, {size[0]} x {size[1]}.\n"
            "Are the boxes of another size of the picture, or in another unit?"
            if known_size
            else f"{box}{ref.name}."
        )
    over = max((inside[0] - x0) * size[0], (x1 - inside[2]) * size[0])
    over = max(over, (inside[1] - y0) * size[1], (y1 - inside[3]) * size[1])
    counts["clipped"] += over >= 1
    return PictureObject(inside, each.score, each.label)


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are of one picture, larger or smaller, up to a pixel that rounding took."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(sum(size), sum(other))


def surest(objects: Iterable[PictureObject], score: float = 0.0, most: int | None = None) -> tuple[PictureObject, ...]:
    """The `most` objects of at least a score, the surest first; equally sure ones in their order."""
    return tuple(sorted((each for each in objects if each.score >= score), key=lambda each: -each.score)[:most])
