"""Figures that take a network to compute, kept in the folder of their run: `figures/<kind>.<split>.json`, plain data.

`attention` and `adjacency` are maps of some posts: rows and columns with names, and matrices of weights. `tsne` is
points in a plane, one a word of a gold entity.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from mnerkit.atomic_files import write_text
from mnerkit.errors import DataError
from mnerkit.methods.figures import MOST_CELLS, MOST_POINTS
from mnerkit.strict_json import read_format
from mnerkit.validation import Content, Figure, ListOf, Place, RowOf, Text, validated

FORMAT, VERSION = "mnerkit-figure", 1
MAPS, POINTS = ("attention", "adjacency"), ("tsne",)
COMPUTED = MAPS + POINTS
FROM_SCORES, FROM_PREDICTIONS, CASES = "histogram", "relevance", "cases"  # which take none
KINDS = (FROM_SCORES, FROM_PREDICTIONS, *COMPUTED, CASES)
MOST_POSTS = 50  # with maps

Box = RowOf[tuple[Figure, Figure, Figure, Figure]]  # x0 y0 x1 y1, shares of a picture's width and height


class MappedPost(Content):
    """A post with maps of weights.

    Attributes:
        id: of the post.
        episode: number of the episode, or None.
        words: of the post.
        gold: start, end and type of its entities.
        said: the same of the predicted ones.
        rows: name of each row, and type of the entity.
        columns: name of each column, number of its picture, and its box there.
        maps: name and weights (rows, columns) of each map.
    """

    id: Text
    episode: Place | None
    words: ListOf[Text]
    gold: ListOf[RowOf[tuple[Place, Place, Text]]]
    said: ListOf[RowOf[tuple[Place, Place, Text]]]
    rows: ListOf[RowOf[tuple[Text, Text]]]
    columns: ListOf[RowOf[tuple[Text, Place | None, Box | None]]]
    maps: ListOf[RowOf[tuple[Text, ListOf[ListOf[Figure]]]]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> MappedPost:
        if any(not start < end <= len(self.words) for start, end, _ in self.gold + self.said):
            raise ValueError("an entity lies outside the post")
        rows, columns = len(self.rows), len(self.columns)
        if rows * columns > MOST_CELLS:
            raise ValueError(f"{rows} rows and {columns} columns: a map has at most {MOST_CELLS:,} weights")
        if any(len(weights) != rows or any(len(row) != columns for row in weights) for _, weights in self.maps):
            raise ValueError(f"a matrix that is not {rows} x {columns}")
        return self


class KeptFigure(Content):
    """What the files of all figures hold."""

    kind: Text
    split: Text
    about: Text


class Maps(KeptFigure):
    """Maps of posts."""

    posts: ListOf[MappedPost] = Field(max_length=MOST_POSTS)


class Points(KeptFigure):
    """Points in a plane: x, y, number of the type, word, and id of the post."""

    types: ListOf[Text]
    points: ListOf[RowOf[tuple[Figure, Figure, Place, Text, Text]]] = Field(max_length=MOST_POINTS)
    posts_read: Place

    @model_validator(mode="after")
    def _check(self) -> Points:
        if any(point[2] >= len(self.types) for point in self.points):
            raise ValueError("a point is of a type that has no name")
        return self


def file_of(run: Path, kind: str, split: str) -> Path:
    """Where a run's figure of a kind (one of `COMPUTED`) is kept."""
    return run / "figures" / f"{kind}.{split}.json"


def write(run: Path, kind: str, split: str, content: dict[str, Any]) -> Path:
    """Keep a figure in a run's folder."""
    path = file_of(run, kind, split)
    head = {"format": FORMAT, "version": VERSION, "kind": kind, "split": split}
    write_text(path, json.dumps({**head, **content}, ensure_ascii=False, separators=(",", ":")) + "\n")
    return path


def read(path: Path) -> dict[str, Any]:
    """A figure, strictly.

    Raises:
        DataError: it is no figure, damaged, or of another version; in one line.
    """
    content = read_format(path, "figure", FORMAT, VERSION)
    if content.get("kind") not in COMPUTED:
        raise DataError(f"{path} is no figure of {', '.join(COMPUTED)}, but of {content.get('kind')!r}")
    return validated(Maps if content["kind"] in MAPS else Points, content, path).model_dump(mode="json")
