"""The graph of a post, before and after a method's update, with what is needed to draw it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import Batch
    from mnerkit.methods.method import Method
    from mnerkit.methods.prediction import Prediction

TRACES = ("adjacency", "updated_adjacency", "node_mask", "is_image")


@dataclass(frozen=True)
class PostGraph:
    """A post's graph of L real nodes: its words, then what its pictures gave.

    Attributes:
        prediction: the post and its tags, with the method's traces.
        labels: L names of nodes: words, and then caption words, or numbers of cells (`a1` ... with several pictures).
        places: word of the post that each word node is; as many as there are word nodes.
        before: (L, L) A, mean over environments.
        after: (L, L) A', mean over environments.
        pictures: (H, W, 3) uint8 each, in the post's order; None where a picture is missing or broken.
        cells: rows and columns of the grid over each picture; 0 where captions are the nodes.
        captions: the captions that are nodes, one a picture; empty otherwise.
        regions: of each node that is no word, the number of its picture, and its place there, from 0.
    """

    prediction: Prediction
    labels: list[str]
    places: list[int]
    before: np.ndarray
    after: np.ndarray
    pictures: list[np.ndarray | None]
    cells: int = 0
    captions: tuple[str, ...] = ()
    regions: tuple[tuple[int, int], ...] = ()

    @property
    def word_types(self) -> list[str]:
        """Of each word node the type of its gold entity; empty of one outside."""
        spans = entities(self.prediction.gold)
        types = {place: span.type for span in spans for place in range(span.start, span.end)}
        return [types.get(place, "") for place in self.places]


def traced(tagger: Method, batch: Batch, names: Sequence[str]) -> list[Any]:
    """Answers to the posts of a batch that are scored, with these traces where the method has them."""
    tagger.tracing = tuple(names)
    try:
        return tagger.answers(batch)
    finally:
        tagger.tracing = ()


def post_graphs(tagger: Method, batch: Batch) -> Iterator[PostGraph]:
    """Graphs of the posts of a batch that are scored, with what the tagger predicts for them.

    Raises:
        UsageError: the method's encoder traces no graph.
    """
    views = tagger.needs().views
    as_captions = "captions" in views
    axis = batch.caption_mask if as_captions else batch.image_mask
    for prediction in traced(tagger, batch, TRACES):
        post, traces = prediction.post, prediction.traces
        if missing := [name for name in TRACES if name not in traces]:
            raise UsageError(f"plugin {tagger.plugin!r} has no graph to draw (its encoder traces no {missing[0]})")
        total = int((traces["is_image"] > 0).sum())
        count = len(traces["is_image"]) - total
        per_picture = total // (axis.shape[1] if axis is not None and total else 1)
        real = np.flatnonzero(traces["node_mask"] > 0)
        places = [int(place) for place in real if place < count]
        regions = [divmod(int(place) - count, per_picture) for place in real if place >= count]
        before, after = (traces[name].mean(0)[np.ix_(real, real)] for name in TRACES[:2])
        yield PostGraph(
            prediction,
            labels=[post.words[place] for place in places] + region_names(post, regions, views),
            places=places,
            before=before,
            after=after,
            pictures=[_pixels(ref) for ref in post.images],
            cells=0 if as_captions or not total else round(per_picture**0.5),
            captions=tuple(ref.caption or "" for ref in post.images) if as_captions else (),
            regions=tuple(regions),
        )


def region_names(post: Post, regions: Sequence[tuple[int, int]], views: Collection[str]) -> list[str]:
    """Names of places (picture, place in it from 0): caption words, or numbers of cells from 1 (`a1` with several)."""
    if "captions" in views:
        words = [(ref.caption or "").split() for ref in post.images]
        return [words[picture][place] for picture, place in regions]
    several = len({picture for picture, _ in regions}) > 1
    return [(letter(picture) if several else "") + str(place + 1) for picture, place in regions]


def letter(picture: int) -> str:
    """What a picture of several is called: a, b, c ..."""
    return chr(ord("a") + picture)


def _pixels(ref: ImageRef) -> np.ndarray | None:
    try:
        return decode(ref)
    except DataError:
        return None
