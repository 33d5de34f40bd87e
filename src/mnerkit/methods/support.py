"""The support posts that an episodic checkpoint carries, as plain data, so that it can predict on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnerkit.data.corpus.post import ImageRef, PictureObject, Post
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError

# a stored picture's longer side at most: above what CLIP (224, 336) reads
MAX_SIDE = 384


def support_state(posts: Sequence[Post]) -> list[dict[str, Any]]:
    """Words, tags and pictures (uint8 tensors) of `posts`, with relevance and the objects whose boxes are known.

    A picture that can't be read is left out.
    """
    return [
        {
            "id": post.id,
            "words": list(post.words),
            "tags": list(post.tags or ()),
            "images": [_picture_state(ref) for ref in post.images],
        }
        for post in posts
    ]


def _picture_state(ref: ImageRef) -> dict[str, Any]:
    pixels = None
    if ref.present:
        try:
            picture = Image.fromarray(decode(ref))
            picture.thumbnail((MAX_SIDE, MAX_SIDE))
            pixels = torch.from_numpy(np.array(picture, dtype=np.uint8))
        except DataError:
            pixels = None
    objects = [{"box": list(each.box), "score": each.score, "label": each.label} for each in ref.objects if each.box]
    known = {"caption": ref.caption, "relevance": ref.relevance, "objects": objects}
    return {"name": ref.name, "pixels": pixels, **known}


def support_posts(state: Sequence[dict[str, Any]]) -> list[Post]:
    """Posts from `support_state`."""
    return [
        Post(
            id=each["id"],
            words=tuple(each["words"]),
            tags=tuple(each["tags"]),
            images=tuple(
                ImageRef(
                    name=picture["name"],
                    pixels=None if picture["pixels"] is None else picture["pixels"].numpy(),
                    caption=picture["caption"],
                    # checkpoints of before hold neither
                    relevance=picture.get("relevance"),
                    objects=tuple(
                        PictureObject(tuple(each["box"]), each["score"], each["label"])
                        for each in picture.get("objects", ())
                    ),
                )
                for picture in each["images"]
            ),
        )
        for each in state
    ]
