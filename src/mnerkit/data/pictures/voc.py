"""Boxes as Pascal VOC has them: one XML file a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import XML, Element, ParseError, TreeBuilder, XMLParser

from mnerkit.data.pictures.boxes import MAX_LABEL, BoxFile, PictureBoxes
from mnerkit.errors import DataError
from mnerkit.strict_json import number
from mnerkit.validation import validated

MAX_BYTES = 4 << 20  # of one file: hundreds of times what a crowded picture needs
MAX_DEPTH = 16


def read_voc(folder: Path) -> BoxFile:
    """The boxes of a folder of `<picture>.xml` files.

    Corners are pixels counted from 1, both of them inside the box, as VOC has them. `score` (or `confidence`) beside
    `name` is read where it is there, `size` too. A file is of the picture that it is called like; those that name
    another one inside are counted.

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
        # GMNER's release has hundreds of files that name another picture, one that they were copied from
        file.misnamed += bool(named) and path.stem not in (named, Path(named).stem)
        if path.stem in file.images:
            raise DataError(f"{where}: a second time boxes of {path.stem!r}.\nPut all boxes of a picture together.")
        sides = [_number(root, f"size/{name}", where) for name in ("width", "height")]
        row = {
            "objects": [_object(each, where) for each in root.findall("object")],
            "size": [int(side or 0) for side in sides] if all(sides) else None,  # some tools write 0
            "where": where,
        }
        file.images[path.stem] = validated(PictureBoxes, row, where)
    return file


def _object(element: Element, where: str) -> dict[str, Any]:
    """An object as a line of JSON has it."""
    sides = [_number(element, f"bndbox/{name}", where) for name in ("xmin", "ymin", "xmax", "ymax")]
    x0, y0, x1, y1 = (side if side is not None else math.nan for side in sides)
    scores = [_number(element, name, where) for name in ("score", "confidence")]
    return {
        "box": [x0 - 1, y0 - 1, x1, y1],
        "score": next((score for score in scores if score is not None), 1.0),
        "label": (element.findtext("name") or "").strip()[:MAX_LABEL],
    }


def _number(element: Element, name: str, where: str) -> float | None:
    text = element.findtext(name)
    if text is None:
        return None
    try:
        return number(text)
    except ValueError:
        raise DataError(f"{where}: <{name}> must be a number, found {text[:40]!r}.") from None


class _Elements(TreeBuilder):
    """Builds elements. What a document type could declare (entities, files to fetch) is refused, and deep nesting."""

    depth = 0

    def start(self, tag: str, attrs: dict[Any, Any]) -> Element:
        """Begin an element."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise DataError(f"elements within elements, more than {MAX_DEPTH} deep.")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        """End an element."""
        self.depth -= 1
        return super().end(tag)

    def doctype(self, *_: object) -> None:
        """Refuse a document type."""
        raise DataError("has a document type or entities, which no file of boxes needs.\nTake them out.")


def _parsed(path: Path) -> Element:
    """The elements of an XML file."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"has {size} bytes; the limit is {MAX_BYTES}.")
        return XML(path.read_bytes(), XMLParser(target=_Elements()))
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None
    except (ParseError, ValueError, LookupError) as problem:
        raise DataError(f"{path}: not XML: {problem}.") from None
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
