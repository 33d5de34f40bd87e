"""What is shown of a picture where a method asks for the objects in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mnerkit.data.post import ImageRef, PictureObject, Post

# of a picture without known objects: its centre, then its quarters, from corner to opposite corner
FALLBACK = tuple(
    PictureObject(box, score=0.0)
    for box in (
        (0.25, 0.25, 0.75, 0.75),
        (0.0, 0.0, 0.5, 0.5),
        (0.5, 0.5, 1.0, 1.0),
        (0.5, 0.0, 1.0, 0.5),
        (0.0, 0.5, 0.5, 1.0),
    )
)


def shown_objects(ref: ImageRef, most: int) -> tuple[PictureObject, ...]:
    """The surest `most` objects of a picture that can be had; of one without any, the first `most` of `FALLBACK`."""
    found = tuple(each for each in ref.objects if each.crop is None or each.crop.present)
    return found[:most] or FALLBACK[:most]


def without_objects(posts: Iterable[Post]) -> list[Post]:
    """The posts with pictures of which no object is known."""
    return [replace(post, images=tuple(replace(ref, objects=()) for ref in post.images)) for post in posts]
