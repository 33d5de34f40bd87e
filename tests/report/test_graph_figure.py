"""Figures of a post's graph: valid pictures whose content is the graph's, from a tagger and from plain arrays."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.datamodule import MnerData
from mnerkit.errors import UsageError
from mnerkit.methods.figures.graphs import PostGraph, post_graphs
from mnerkit.methods.heads.prototype_crf import PrototypeCRFHead
from mnerkit.methods.prediction import Prediction
from mnerkit.report.figures.graph_figure import load_figure, png
from mnerkit_plugins.mousing.tagger import MousingTagger

WORDS = ("Kevin", "Durant", "$\\frac{", "enters", "\x07Oakland", "<b>", "a" * 60, "\U0001f600")


def graph(captions: bool = False, pictures: int = 1, words: tuple[str, ...] = WORDS, cells: int = 3) -> PostGraph:
    """A graph of words and cells (or caption words) with random weights."""
    draw = np.random.default_rng(0)
    pixels = [draw.integers(0, 255, (90, 120 + 60 * number, 3), dtype=np.uint8) for number in range(pictures)]
    texts = tuple("a man in a red shirt" for _ in pixels) if captions else ()
    names = " ".join(texts).split() if captions else [str(n + 1) for _ in pixels for n in range(cells * cells)]
    labels = [*words, *names]
    before = (draw.random((len(labels), len(labels))) > 0.7).astype(float)
    refs = tuple(ImageRef(f"{number}.jpg", pixels=each) for number, each in enumerate(pixels))
    tags = ["B-PER", "I-PER", *["O"] * (len(words) - 2)]
    post = Post("a/b: c", words, tuple(tags), refs)
    return PostGraph(
        Prediction(post, ["O", "B-LOC", *tags[2:]], ("LOC", "PER"), 3),
        labels,
        list(range(len(words))),
        before,
        0.8 * before + 0.2 * draw.random(before.shape),
        list(pixels),
        0 if captions else cells,
        texts,
    )


def pixels_of(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)


def dark_blue(picture: np.ndarray) -> int:
    """Pixels of the colour that stands for 1 in the heat maps."""
    return int((np.abs(picture - [8, 48, 107]).sum(-1) < 12).sum())


CASES: dict[str, dict[str, Any]] = {
    "cells": {},
    "captions": {"captions": True},
    "several pictures": {"pictures": 3},
    "no picture": {"pictures": 0},
    "long": {"words": WORDS * 5},
    "all patches": {"cells": 16},
    "one word": {"words": ("Kevin", "Durant"), "pictures": 0},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_a_figure_is_a_picture_with_content(case: str) -> None:
    pytest.importorskip("matplotlib")
    picture = pixels_of(png(graph(**CASES[case])))
    height, width = picture.shape[:2]
    assert 400 < height < 2400 and 1000 < width < 4400
    assert picture.std() > 10
    margin = np.concatenate(
        [picture[:5].ravel(), picture[-5:].ravel(), picture[:, :5].ravel(), picture[:, -5:].ravel()]
    )
    assert (margin == 255).all(), "something is cut off at the edge"


def test_the_heat_maps_show_the_weights() -> None:
    pytest.importorskip("matplotlib")
    some = graph()
    empty, full = (replace(some, before=w, after=w) for w in (0 * some.before, 0 * some.before + 1))
    few, many = (dark_blue(pixels_of(png(each))) for each in (empty, full))
    assert many > few + 100_000
    negative = replace(some, after=some.after - 0.9)
    assert dark_blue(pixels_of(png(negative))) < dark_blue(pixels_of(png(some))) / 2, "another scale, around 0"


def test_without_matplotlib_one_line_tells_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'mnerkit\[figures\]'") as refused:
        load_figure()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("source", ["grid_crop", "all_tokens", "captions", None])
def test_the_graph_of_a_post_is_the_encoders_without_padding(source: str | None) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"use_image": False} if source is None else {"image_nodes": source}
    tagger = MousingTagger(head=PrototypeCRFHead(), hidden=16, kl_width=8, **options)
    data = MnerData(variant="fewshot", train_types="PER+LOC+ORG+MISC", dev_episodes=3, limit=60)
    tagger.build(data.facts, n_way=data.options.n_way)
    data.connect(tagger.needs(), "episodic")
    tagger.eval()
    for batch in data.loader("dev"):
        (found,) = post_graphs(tagger, batch)
        post, row = batch.posts[-1], len(batch) - 1
        assert found.prediction.post is post and found.prediction.episode == batch.episode
        count = len(post.words)
        assert found.labels[:count] == list(post.words) and found.places == list(range(count))
        if source == "captions":
            assert found.labels[count:] == [word for ref in post.images for word in (ref.caption or "").split()]
            assert found.captions and not found.cells
        elif source is not None:
            side = 3 if source == "grid_crop" else found.cells
            assert found.cells == side
            assert len(found.labels) == count + side * side * len(post.images)
            assert found.labels[count].endswith("1")
            assert found.pictures[0].ndim == 3
        else:
            assert len(found.labels) == count
        trace = tagger.encoder(batch, trace=True).trace
        real = trace["node_mask"][row]
        wanted = trace["updated_adjacency"][row].mean(0)[real][:, real]
        np.testing.assert_allclose(found.after, wanted.numpy(), atol=1e-6)
        assert set(np.unique(found.before)) <= {0.0, 1.0}
    assert tagger.tracing == ()
