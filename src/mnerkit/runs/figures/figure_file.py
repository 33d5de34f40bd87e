"""Figures that take a network to compute, kept in the folder of their run: `figures/<kind>.<split>.json`, plain data.

`attention` and `adjacency` are maps of some posts: rows and columns with names, and matrices of weights. `tsne` is
points in a plane, one a word of a gold entity.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_text
from mnerkit.errors import DataError
from mnerkit.strict_json import (
    Check,
    anything,
    figure,
    list_of,
    maybe,
    place,
    read_json,
    read_keys,
    row_of,
    text,
    texts,
)

FORMAT, VERSION = "mnerkit-figure", 1
MAPS, POINTS = ("attention", "adjacency"), ("tsne",)
COMPUTED = MAPS + POINTS
FROM_SCORES, FROM_PREDICTIONS, CASES = "histogram", "relevance", "cases"  # which take none
KINDS = (FROM_SCORES, FROM_PREDICTIONS, *COMPUTED, CASES)
MOST_POSTS = 50  # with maps
MOST_CELLS = 10_000  # of a matrix
MOST_POINTS = 1_000

_entities = list_of(row_of(place, place, text))
# name, number of its picture, and its box there as x0 y0 x1 y1, shares of width and height
_node = row_of(text, maybe(place), maybe(row_of(figure, figure, figure, figure)))
_POST: dict[str, Check] = {
    "id": text,
    "episode": maybe(place),
    "words": texts,
    "gold": _entities,
    "said": _entities,
    "rows": list_of(row_of(text, text)),  # name, and type of the entity
    "columns": list_of(_node),
    "maps": list_of(row_of(text, list_of(list_of(figure)))),  # name, and rows of weights
}
_HEAD: dict[str, Check] = {"format": anything, "version": anything, "kind": text, "split": text, "about": text}
_POINT = row_of(figure, figure, place, text, text)  # x, y, number of the type, word, id of the post
_KEYS: dict[str, dict[str, Check]] = {
    **{kind: {"posts": list_of(anything, MOST_POSTS)} for kind in MAPS},
    **{kind: {"types": texts, "points": list_of(_POINT, MOST_POINTS), "posts_read": place} for kind in POINTS},
}


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
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("kind") not in COMPUTED:
        raise DataError(f"{path} is no figure (format {FORMAT!r})")
    if content.get("version") != VERSION:
        raise DataError(f"{path} is of version {content.get('version')!r}; this mnerkit reads version {VERSION}")
    keys = {**_HEAD, **_KEYS[content["kind"]]}
    found = read_keys(content, keys, str(path), tuple(keys))
    for number, each in enumerate(found.get("posts", ())):
        found["posts"][number] = _post(each, f"{path}: post {number}")
    if any(point[2] >= len(found["types"]) for point in found.get("points", ())):
        raise DataError(f"{path}: a point is of a type that has no name")
    return found


def _post(content: Any, where: str) -> dict[str, Any]:
    post = read_keys(content, _POST, where, tuple(_POST))
    if any(not start < end <= len(post["words"]) for start, end, _ in post["gold"] + post["said"]):
        raise DataError(f"{where}: an entity lies outside the post")
    rows, columns = len(post["rows"]), len(post["columns"])
    if rows * columns > MOST_CELLS or not post["maps"]:
        raise DataError(f"{where}: {rows} rows and {columns} columns, {len(post['maps'])} maps")
    for _, weights in post["maps"]:
        if len(weights) != rows or any(len(row) != columns for row in weights):
            raise DataError(f"{where}: a matrix that is not {rows} x {columns}")
    return post
