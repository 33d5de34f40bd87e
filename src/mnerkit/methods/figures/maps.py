"""Maps of posts as plain data: attention of entities to pictures, and graphs before and after an update."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.errors import UsageError
from mnerkit.methods.figures import MOST_CELLS
from mnerkit.methods.figures.graphs import letter, post_graphs, region_names, traced

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import Batch
    from mnerkit.methods.method import Method
    from mnerkit.methods.prediction import Prediction

# of entities, of words, or of words to the cells of a grid; then where the nodes are that are looked at
LOOKS = ("entity_attention", "word_attention", "attention")
PLACES = ("spans", "visual_mask", "visual_image", "visual_place", "boxes")
ABOUT = {
    "attention": "Attention of the entities that the method found to what it saw of the pictures, mean over heads; "
    "an entity that it detected and gave no type stands without one.",
    "adjacency": "Edges between words and what was seen of the pictures, before the update (A) and after it (A'), "
    "means over environments.",
}
Node = list[Any]  # name, number of its picture or None, box there or None


def posts(kind: str, method: Method, batch: Batch) -> Iterator[dict[str, Any]]:
    """Maps of the posts of a batch that are scored and have something to draw; kind `attention` or `adjacency`.

    Raises:
        UsageError: the method traces nothing of the kind.
    """
    for post in _graphs(method, batch) if kind == "adjacency" else _looks(method, batch):
        if 0 < len(post["rows"]) * len(post["columns"]) <= MOST_CELLS:
            yield post


def _plain(prediction: Prediction, **maps: Any) -> dict[str, Any]:
    """Maps with their post and its entities."""
    sides = {"gold": prediction.gold, "said": prediction.tags}
    spans = {name: [[span.start, span.end, span.type] for span in entities(tags)] for name, tags in sides.items()}
    post = prediction.post
    return {"id": post.id, "episode": prediction.episode, "words": list(post.words), **spans, **maps}


def _rounded(weights: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 3) for value in row] for row in weights]


def _cell(place: int, side: int) -> list[float]:
    """The box of a cell of a grid of `side` x `side`, row-major, in shares of the picture."""
    row, column = divmod(place, side)
    return [round(edge / side, 4) for edge in (column, row, column + 1, row + 1)]


# ------------------------------------------------------------------ graphs


def _graphs(method: Method, batch: Batch) -> Iterator[dict[str, Any]]:
    for graph in post_graphs(method, batch):
        nodes: list[Node] = [[graph.labels[number], None, None] for number in range(len(graph.places))]
        for name, (picture, place) in zip(graph.labels[len(nodes) :], graph.regions, strict=True):
            nodes.append([name, picture, _cell(place, graph.cells) if graph.cells else None])
        types = graph.word_types + [""] * len(graph.regions)
        rows = [[label, kind] for label, kind in zip(graph.labels, types, strict=True)]
        maps = [["A, before", _rounded(graph.before)], ["A', after", _rounded(graph.after)]]
        yield _plain(graph.prediction, rows=rows, columns=nodes, maps=maps)


# ------------------------------------------------------------------ attention


def _looks(method: Method, batch: Batch) -> Iterator[dict[str, Any]]:
    numbers = batch.places.queries
    views = method.needs().views
    for number, prediction in zip(numbers, traced(method, batch, LOOKS + PLACES), strict=True):
        name = next((look for look in LOOKS if look in getattr(prediction, "traces", ())), None)
        if name is None or (name == "attention" and "captions" in views):
            raise UsageError(f"plugin {method.plugin!r} has no attention to pictures to draw")
        weights = prediction.traces[name]
        if name == "attention":
            weights = weights[None]
            places, nodes = _cells(prediction, batch, number, weights.shape[-1])
        else:
            places, nodes = _visual(prediction, views)
        spans = [(span.start, span.end) for span in entities(prediction.tags)]
        if name == "entity_attention":
            detected = entities(TagSet(("entity",)).decode([int(tag) for tag in prediction.traces["spans"]]))
            spans = [(span.start, span.end) for span in detected]
            weights = weights[:, : len(spans)]
        elif spans:
            weights = np.stack([weights[:, start:end].mean(1) for start, end in spans], 1)  # (L, N, k)
        kinds = {(span.start, span.end): span.type for span in entities(prediction.tags)}
        rows = [[" ".join(prediction.post.words[start:end]), kinds.get((start, end), "")] for start, end in spans]
        layers = [f"layer {place + 1}" for place in range(len(weights))] if len(weights) > 1 else ["attention"]
        maps = [[layer, _rounded(matrix[:, places])] for layer, matrix in zip(layers, weights, strict=True)]
        yield _plain(prediction, rows=rows, columns=nodes, maps=maps)


def _cells(prediction: Prediction, batch: Batch, number: int, count: int) -> tuple[list[int], list[Node]]:
    """The cells of the grid over each picture that is there: their places on the axis of weights, and their nodes."""
    assert batch.image_mask is not None
    size = count // batch.image_mask.shape[1]
    pictures = torch.nonzero(batch.image_mask[number]).flatten().tolist()
    regions = [(picture, place) for picture in pictures for place in range(size)]
    names = region_names(prediction.post, regions, ())
    side = math.isqrt(size)
    nodes: list[Node] = [
        [name, picture, _cell(place, side)] for name, (picture, place) in zip(names, regions, strict=True)
    ]
    return [picture * size + place for picture, place in regions], nodes


def _visual(prediction: Prediction, views: frozenset[str]) -> tuple[list[int], list[Node]]:
    """Whole images, and objects, regions or caption words within them, as a method names their places."""
    traces = prediction.traces
    real: list[int] = np.flatnonzero(traces["visual_mask"] > 0).tolist()
    where = [(int(traces["visual_image"][node]), int(traces["visual_place"][node])) for node in real]
    several = len({picture for picture, _ in where}) > 1
    boxes = traces.get("boxes")
    # the side of the grid, where regions are cells of one
    side = math.isqrt(max([place for _, place in where], default=0))
    nodes: list[Node] = []
    for node, (picture, place) in zip(real, where, strict=True):
        suffix = f" {letter(picture)}" if several else ""
        if place == 0:
            nodes.append([f"image{suffix}", picture, None])
        elif boxes is not None:
            box = [round(float(value), 4) for value in boxes[node]]
            nodes.append([f"object {place}{suffix}", picture, box if box[2] > box[0] and box[3] > box[1] else None])
        else:
            (name,) = region_names(prediction.post, [(picture, place - 1)], views)
            nodes.append([name + suffix, picture, None if "captions" in views else _cell(place - 1, side)])
    return real, nodes
