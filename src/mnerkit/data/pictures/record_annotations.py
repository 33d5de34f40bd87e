"""What a record says of its pictures besides names and captions: boxes of objects, and relevance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures.boxes import PictureBoxes, Score, placed, surest
from mnerkit.errors import DataError
from mnerkit.validation import Line, ListOf, validated


class _Relevance(Line):
    """A record's relevance scores, one a picture."""

    relevance: ListOf[Score] | None = None


def annotated(images: Sequence[ImageRef], record: Mapping[str, Any], where: str) -> list[ImageRef]:
    """The pictures of a record with the objects in them and their relevance.

    Args:
        images: the pictures.
        record: `boxes`, `unit` and `relevance` as `mnerkit.data.corpus.records.post_of` takes them.
        where: file and line, for messages.

    Raises:
        DataError: a value is not what it should be, or a box lies outside its picture.
    """
    _one_each(record, "relevance", images, where)
    scores = validated(_Relevance, record, where).relevance or ()
    images = list(images)
    for place, given in enumerate(_one_each(record, "boxes", images, where)):
        row = given if isinstance(given, dict) else {"objects": [] if given is None else given}
        row = {"unit": record.get("unit", "pixels"), **row, "where": where}
        boxes = validated(PictureBoxes, row, f"{where}: boxes of {images[place].name}")
        known = placed(boxes, images[place], Counter())
        images[place] = replace(images[place], objects=surest([each for each in known if each is not None]))
    for place, score in enumerate(scores):
        images[place] = replace(images[place], relevance=score)
    return images


def _one_each(record: Mapping[str, Any], key: str, images: Sequence[ImageRef], where: str) -> Sequence[Any]:
    """The list under `key`, one value an image; empty where there is none."""
    given = record.get(key)
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise DataError(f"{where}: {key!r} must be a list, one value for each image, found {type(given).__name__}.")
    if len(given) != len(images):
        raise DataError(
            f"{where}: {len(images)} images but {len(given)} values of {key!r}; give one for each, in order."
        )
    return given
