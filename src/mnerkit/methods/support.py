"""The support posts of an episodic checkpoint as plain data, so that it can predict without other files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnerkit.data.corpus.post import ImageRef, PictureObject, Post
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError

# largest side of a stored picture in pixels: above what CLIP (224, 336) reads
MAX_SIDE = 384


def support_state(posts: Sequence[Post]) -> list[dict[str, Any]]:
    """Words, tags and pictures (uint8 tensors) of `posts`, with relevance and the objects that have boxes.

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
    annotations = {"caption": ref.caption, "relevance": ref.relevance, "objects": objects, "text": ref.text}
    return {"name": ref.name, "pixels": pixels, **annotations}


def support_posts(state: Sequence[dict[str, Any]]) -> list[Post]:
    """Rebuild posts from `support_state`."""
    return [
        Post(
            id=row["id"],
            words=tuple(row["words"]),
            tags=tuple(row["tags"]),
            images=tuple(
                ImageRef(
                    name=picture["name"],
                    pixels=None if picture["pixels"] is None else picture["pixels"].numpy(),
                    caption=picture["caption"],
                    # older checkpoints have neither relevance nor objects nor text
                    relevance=picture.get("relevance"),
                    text=picture.get("text"),
                    objects=tuple(
                        PictureObject(tuple(each["box"]), each["score"], each["label"])
                        for each in picture.get("objects", ())
                    ),
                )
                for picture in row["images"]
            ),
        )
        for row in state
    ]
