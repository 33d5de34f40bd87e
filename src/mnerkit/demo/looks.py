"""Where a method looked while it tagged a post: attention of its entities, laid over the pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from mnerkit.type_colours import colours_of

if TYPE_CHECKING:
    from mnerkit.data.corpus.post import ImageRef

SIDE = 480  # pixels of a picture's longer side on the page
_RASTER = 96  # cells of a heat map's longer side before it is smoothed
_MOST_OPAQUE = 0.6
_MOST_PLACES = 5


@dataclass(frozen=True)
class Overlay:
    """A picture on the page with what one entity attends to.

    Attributes:
        picture: `data:` address of the picture.
        width: its width in pixels.
        height: its height in pixels.
        heat: `data:` address of the translucent layer of weights; empty where no weight has a place in the picture.
        boxes: of objects: x, y, width and height in pixels.
    """

    picture: str
    width: int
    height: int
    heat: str = ""
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class Look:
    """What an entity attends to.

    Attributes:
        text: the entity's words.
        type: its type; empty where it was detected and given none.
        colour: of its type.
        overlays: one for each picture.
        greatest: the greatest weight in the pictures, where the layers are most opaque.
        places: names of objects, pictures or caption words with the greatest weights, and these.
    """

    text: str
    type: str
    colour: str
    overlays: tuple[Overlay, ...]
    greatest: float
    places: tuple[tuple[str, float], ...]


def overlay_of(pixels: np.ndarray) -> Overlay:
    """A picture (H, W, 3), small enough for the page and encoded anew."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return Overlay(_address(image, "JPEG"), image.width, image.height)


def looks_of(post: Mapping[str, Any], types: Sequence[str], pictures: Sequence[ImageRef]) -> list[Look]:
    """Looks of each entity of a map.

    Args:
        post: a map of the kind `attention` (`mnerkit.methods.figures.maps.posts`).
        types: the entity types, in the order of their colours.
        pictures: those of the post, decoded.
    """
    colours, nodes = colours_of(types), post["columns"]
    weights = np.mean([matrix for _, matrix in post["maps"]], axis=0)  # (entities, nodes), mean over layers
    plain = [overlay_of(each.pixels) for each in pictures if each.pixels is not None]
    found = []
    for (text, kind), row in zip(post["rows"], weights, strict=True):
        colour = colours.get(kind, "#888888")
        boxed = [(node, weight) for node, weight in zip(nodes, row, strict=True) if node[2] is not None]
        greatest = max((float(weight) for _, weight in boxed), default=0.0)
        overlays = tuple(
            _with_heat(overlay, [(node, weight) for node, weight in boxed if node[1] == number], greatest, colour)
            for number, overlay in enumerate(plain)
        )
        # the number of a cell of a grid says nothing to a reader
        named = [(str(node[0]), float(weight)) for node, weight in zip(nodes, row, strict=True) if not _is_cell(node)]
        places = tuple(sorted(named, key=lambda place: -place[1])[:_MOST_PLACES])
        found.append(Look(text, kind, colour, overlays, greatest, places))
    return found


def _with_heat(overlay: Overlay, boxed: Sequence[tuple[Any, float]], greatest: float, colour: str) -> Overlay:
    """The picture with a smooth layer of weights, each spread over its box; the greatest of all is most opaque."""
    if not boxed or greatest <= 0:
        return overlay
    scale = _RASTER / max(overlay.width, overlay.height)
    width, height = max(1, round(overlay.width * scale)), max(1, round(overlay.height * scale))
    heat = np.zeros((height, width), np.float32)
    smallest = 1.0
    for (_, _, (left, top, right, bottom)), weight in boxed:
        columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
        rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
        heat[rows, columns] = np.maximum(heat[rows, columns], weight / greatest)
        smallest = min(smallest, right - left, bottom - top)
    opacity = Image.fromarray((heat * _MOST_OPAQUE * 255).astype(np.uint8))
    opacity = opacity.filter(ImageFilter.GaussianBlur(smallest * _RASTER / 5)).resize((overlay.width, overlay.height))
    layer = Image.new("RGB", opacity.size, colour)
    layer.putalpha(opacity)
    objects = [node[2] for node, _ in boxed if not _is_cell(node)]
    edges = (np.array(objects).reshape(-1, 4) * ([overlay.width, overlay.height] * 2)).round(1)
    boxes = tuple((left, top, right - left, bottom - top) for left, top, right, bottom in edges.tolist())
    return Overlay(overlay.picture, overlay.width, overlay.height, _address(layer, "PNG"), boxes)


def _is_cell(node: Any) -> bool:
    return node[2] is not None and not node[0].startswith("object")


def _address(image: Image.Image, form: str) -> str:
    stream = io.BytesIO()
    image.save(stream, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
