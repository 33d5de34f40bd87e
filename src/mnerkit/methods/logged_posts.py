"""What dashboards show of a run's last answers: pictures with boxes and entities, and confusions of words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError
from mnerkit.methods.prediction import Prediction, rows
from mnerkit.methods.tagged_posts import as_line
from mnerkit.type_colours import PALETTE

MOST_PICTURES = 16  # enough to look through, small enough to load at once
SIDE = 320  # pixels of the larger side of a picture, and at least of the text below it
_LINE, _CELL = 14, 56  # pixels: height of a line of text, side of a cell


@dataclass(frozen=True)
class LoggedPicture:
    """A picture of a post, with what was found in the post.

    Attributes:
        post: id of the post.
        ref: the picture, and the objects in it.
        pixels: (H, W, 3) uint8, at most `SIDE` pixels high and wide.
        text: a line with the predicted entities, and one with the gold ones where they differ.
    """

    post: str
    ref: ImageRef
    pixels: np.ndarray
    text: str


def pictures_of(predicted: Iterable[Prediction]) -> list[LoggedPicture]:
    """The first pictures of the posts that can be read, at most `MOST_PICTURES`."""
    found: list[LoggedPicture] = []
    with_pictures = [each for each in predicted if any(ref.present for ref in each.post.images)]
    for prediction, row in zip(with_pictures, rows(with_pictures), strict=True):
        for ref in prediction.post.images:
            if len(found) == MOST_PICTURES:
                return found
            if not ref.present:
                continue
            try:
                picture = Image.fromarray(decode(ref, SIDE))
            except DataError:
                continue
            picture.thumbnail((SIDE, SIDE))
            found.append(LoggedPicture(prediction.post.id, ref, np.asarray(picture), _text(row)))
    return found


def _text(row: dict[str, Any]) -> str:
    line = str(as_line(row))
    words, starts = row["words"], np.cumsum([0, *(len(word) + 1 for word in row["words"])])
    entities = [
        {"type": kind, "char_start": int(starts[start]), "char_end": int(starts[end]) - 1}
        for start, end, kind in row.get("gold", ())
    ]
    predicted = {(entity["start"], entity["end"], entity["type"]) for entity in row["entities"]}
    if "gold" not in row or {tuple(span) for span in row["gold"]} == predicted:
        return line
    return f"{line}\ngold: {as_line({'words': words, 'entities': entities})}"


def drawn(picture: LoggedPicture) -> np.ndarray:
    """(H, W, 3) uint8: the picture with its boxes, small ones enlarged, and the text below it."""
    pixels = Image.fromarray(picture.pixels)
    pixels = ImageOps.scale(pixels, max(1, SIDE // max(pixels.size)), Image.Resampling.NEAREST)
    width, height = pixels.size
    font = ImageFont.load_default(11)
    wide = max(width, SIDE)
    lines = [part for line in picture.text.split("\n") for part in textwrap.wrap(line, wide // 6) or [""]]
    whole = Image.new("RGB", (wide, height + _LINE * (len(lines) + 1)), "white")
    whole.paste(pixels)
    pen = ImageDraw.Draw(whole)
    boxes = [(each.box, each) for each in picture.ref.objects if each.box is not None]
    for number, (box, found) in enumerate(boxes):
        colour = PALETTE[number % len(PALETTE)]
        x0, y0, x1, y1 = (share * side for share, side in zip(box, (width, height) * 2, strict=True))
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
        pen.text((x0 + 3, y0 + 2), f"{found.label} {found.score:.2f}".strip(), fill=colour, font=font)
    pen.multiline_text((4, height + _LINE // 2), "\n".join(lines), fill="black", font=font, spacing=_LINE - 11)
    return np.asarray(whole)


def confusions(predicted: Sequence[Prediction]) -> tuple[list[str], list[int], list[int]]:
    """Names of word classes (`O` and the types), and the number of the gold and of the predicted one of each word."""
    names = ["O", *sorted({kind for each in predicted for kind in each.types})]
    number = {name: place for place, name in enumerate(names)}
    gold = [number[tag[2:] or "O"] for each in predicted for tag in each.gold]
    return names, gold, [number[tag[2:] or "O"] for each in predicted for tag in each.scored]


def confusion_picture(names: Sequence[str], gold: Sequence[int], predicted: Sequence[int]) -> np.ndarray:
    """(H, W, 3) uint8: a row a gold class, a column a predicted one; counts, shaded by their share of the row."""
    size = len(names)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (list(gold), list(predicted)), 1)
    side = _CELL * (size + 1)
    whole = Image.new("RGB", (side, side), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(11)

    def write(row: int, column: int, text: str, fill: str) -> None:
        pen.text(((column + 0.5) * _CELL, (row + 0.5) * _CELL), text[:9], fill=fill, font=font, anchor="mm")

    write(0, 0, "gold\\pred", "grey")
    for place, name in enumerate(names, 1):
        write(place, 0, name, "black")
        write(0, place, name, "black")
    for row, column in np.ndindex(size, size):
        share = counts[row, column] / max(1, counts[row].sum())
        shade = tuple(int(255 - share * (255 - dark)) for dark in (0, 114, 178))  # the blue of the palette
        corner = ((column + 1) * _CELL, (row + 1) * _CELL)
        pen.rectangle((*corner, corner[0] + _CELL - 2, corner[1] + _CELL - 2), fill=shade)
        write(row + 1, column + 1, str(counts[row, column]), "white" if share > 0.5 else "black")
    return np.asarray(whole)


def table_rows(predicted: Sequence[Prediction], most: int) -> list[tuple[str, str, str, str, bool]]:
    """Of the first posts: id, words, gold entities, predicted entities, and whether they agree."""
    found = []
    for row, prediction in zip(islice(rows(predicted), most), predicted, strict=False):
        entities = "; ".join(f"{span['text']} ({span['type']})" for span in row["entities"])
        gold = "; ".join(f"{' '.join(row['words'][start:end])} ({kind})" for start, end, kind in row.get("gold", []))
        agree = prediction.gold == prediction.scored
        found.append((row["id"], " ".join(row["words"]), gold, entities, agree))
    return found
