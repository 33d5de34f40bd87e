"""Boxes as Pascal VOC has them: one XML file a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mnerkit.data.pictures.boxes import BoxFile, FoundBox, check_count, checked_box, checked_score
from mnerkit.errors import DataError

MAX_BYTES = 4 << 20  # of one file: hundreds of times what a crowded picture needs
MAX_DEPTH = 16


def read_voc(folder: Path) -> BoxFile:
    """The boxes of a folder of `<picture>.xml` files.

    Corners are pixels counted from 1, both of them inside the box, as VOC has them. `score` (or `confidence`) beside
    `name` is read where it is there, `size` too.

    Raises:
        DataError: naming the file: not XML, with a document type or entities, too large, a box that is none.
    """
    file = BoxFile()
    for path in sorted(each for each in folder.iterdir() if each.suffix.lower() == ".xml"):
        root = _parsed(path)
        where = str(path)
        if root.tag != "annotation":
            raise DataError(f"{where}: expected <annotation>, found <{root.tag[:40]}>.")
        named = (root.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
        if named and Path(named).stem != path.stem and named != path.stem:
            raise DataError(f"{where}: says that it is of {named[:80]!r}.\nThe file must be called like its picture.")
        objects = root.findall("object")
        check_count(len(objects), where)
        size = _size(root, where)
        file.add("image", path.stem, tuple(_box(each, size, where) for each in objects), where)
    return file


def _box(element: Element, size: tuple[int, int] | None, where: str) -> FoundBox:
    box = element.find("bndbox")
    sides = [None if box is None else _number(box, name, where) for name in ("xmin", "ymin", "xmax", "ymax")]
    x0, y0, x1, y1 = (each if each is not None else float("nan") for each in sides)
    score = next((each for name in ("score", "confidence") if (each := _number(element, name, where)) is not None), 1.0)
    label = (element.findtext("name") or "").strip()[:200]
    box_of = checked_box([x0 - 1, y0 - 1, x1, y1], "pixels", where)
    return FoundBox(box_of, checked_score(score, where), label, "pixels", size, where)


def _size(root: Element, where: str) -> tuple[int, int] | None:
    """Width and height, where they are said and not 0 (as some tools write)."""
    size = root.find("size")
    sides = [None if size is None else _number(size, name, where) for name in ("width", "height")]
    if not all(sides):
        return None
    width, height = (int(side or 0) for side in sides)
    if not (0 < width < 1 << 20 and 0 < height < 1 << 20):
        raise DataError(f"{where}: the picture's size is said to be {width} x {height}.")
    return width, height


def _number(element: Element, name: str, where: str) -> float | None:
    text = element.findtext(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: <{name}> must be a number, found {text[:40]!r}.")
    return number


def _parsed(path: Path) -> Element:
    """The elements of an XML file. What a document type could declare (entities, files to fetch) is refused."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} has {size} bytes; the limit is {MAX_BYTES}.")
        content = path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError(f"{path}: elements within elements, more than {MAX_DEPTH} deep.")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> Any:
        raise DataError(f"{path}: has a document type or entities, which no file of boxes needs.\nTake them out.")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = parser.UnparsedEntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as problem:
        raise DataError(f"{path}: not XML: {problem}.") from None
    return builder.close()
