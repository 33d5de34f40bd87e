"""What an input line says of its pictures besides their names: boxes of objects, and relevance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnerkit.data.batches.inputs import read_input
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.pictures.objects import FALLBACK
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import DataError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.method import Method
from mnerkit.methods.predictor import Predictor
from mnerkit.methods.support import support_posts, support_state
from mnerkit_plugins.gifr.tagger import GifrTagger
from mnerkit_plugins.hvpnet.tagger import HvpnetTagger

LEFT = {"box": [0, 0, 20, 20], "score": 0.4, "label": "dog"}
RIGHT = {"box": [20, 0, 40, 20], "score": 0.9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of 40 x 20."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def read(folder: Path, **more: Any) -> Post:
    """The second post of a file, which has two pictures."""
    rows: list[Any] = [{"words": ["x"]}, {"words": ["Ann"], "images": ["a.png", "b.png"], **more}]
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    return list(read_input(folder / "in.jsonl"))[1]


def test_boxes_of_an_input_line_are_those_of_its_pictures_the_surest_first(folder: Path) -> None:
    first, second = read(folder, boxes=[[LEFT, RIGHT], None]).images
    assert [(each.box, each.score, each.label) for each in first.objects] == [
        ((0.5, 0, 1, 1), 0.9, ""),
        ((0, 0, 0.5, 1), 0.4, "dog"),
    ]
    assert second.objects == () and first.relevance is None
    shares, row = {"box": [0, 0, 0.5, 1]}, {"unit": "pixels", "size": [40, 20], "objects": [LEFT]}
    images = read(folder, boxes=[[shares], row], unit="shares").images
    assert [each.objects[0].box for each in images] == [(0, 0, 0.5, 1)] * 2


def test_relevance_of_an_input_line_is_that_of_its_pictures(folder: Path) -> None:
    assert [each.relevance for each in read(folder, relevance=[0.25, 1]).images] == [0.25, 1.0]
    assert [each.relevance for each in read(folder).images] == [None, None]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"boxes": [[LEFT]]}, "2 images but 1 values of 'boxes'"),
        ({"boxes": {"a.png": []}}, "'boxes' must be a list, one value for each image, found dict"),
        ({"boxes": [3, []]}, "boxes of a.png: objects must be a list, got 3"),
        ({"boxes": [0, []]}, "boxes of a.png: objects must be a list, got 0"),
        ({"boxes": [[LEFT], False]}, "boxes of b.png: objects must be a list, got False"),
        ({"boxes": [[[0, 0, 1, 1]], []]}, r"boxes of a.png: objects\[0\] must be a mapping"),
        ({"boxes": [[{"box": [5, 5, 2, 9]}], []]}, "has no size"),
        ({"boxes": [[{"box": [0, 0, 0.5, 0.5]}], []]}, "smaller than a pixel"),
        ({"boxes": [[{"box": [400, 0, 500, 20]}], []]}, "lies outside picture a.png"),
        ({"boxes": [[LEFT], []], "unit": "percent"}, "unit must be one of pixels, shares, got 'percent'"),
        ({"relevance": [0.5]}, "2 images but 1 values of 'relevance'"),
        ({"relevance": 0.5}, "'relevance' must be a list"),
        ({"relevance": [0.5, 2]}, r"relevance\[1\] must be 1 at most, got 2"),
        ({"relevance": [0.5, None]}, r"relevance\[1\] must be a number, got None"),
    ],
)
def test_what_a_line_can_not_say_of_its_pictures_is_refused(folder: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as problem:
        read(folder, **more)
    assert str(problem.value).startswith(f"{folder / 'in.jsonl'}:2: ")
    assert len(str(problem.value).splitlines()) <= 2


def test_a_checkpoint_keeps_what_is_known_of_the_pictures_of_its_support(folder: Path) -> None:
    post = read(folder, tags=["B-PER"], boxes=[[LEFT, RIGHT], []], relevance=[0.25, 1])
    state = support_state([post])
    torch.save(state, folder / "state.pt")
    (again,) = support_posts(torch.load(folder / "state.pt", weights_only=True))
    assert [(each.objects, each.relevance) for each in again.images] == [
        (each.objects, each.relevance) for each in post.images
    ]
    for picture in state[0]["images"]:
        del picture["objects"], picture["relevance"]  # as checkpoints had it before
    assert [(each.objects, each.relevance) for each in support_posts(state)[0].images] == [((), None)] * 2


def seen(kind: type[Method], monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Predictor, list[Any]]:
    """The predictor of a method without training, and the batches that it will read."""
    posts = generate("multi", "train", 4)
    torch.manual_seed(0)
    method = kind(head=CRFHead(), text="tiny-bert", vision="tiny")  # type: ignore[call-arg]
    method.build(CorpusFacts.of(types_of("multi"), posts))
    method.config = {"data": options}
    batches: list[Any] = []
    inner = method.answers
    monkeypatch.setattr(method, "answers", lambda batch: batches.append(batch) or inner(batch))
    return Predictor(method), batches


def test_a_method_that_looks_at_objects_sees_the_given_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, batches = seen(HvpnetTagger, monkeypatch, object_score=0.3, max_objects=2)
    record = {"words": ["Ann"], "images": ["a.png"]}
    unsure = {"box": [10, 0, 30, 20], "score": 0.1}
    predictor.predict([{**record, "boxes": [[unsure, LEFT, RIGHT]]}, record], images=folder)
    (batch,) = batches
    places = len(batch.boxes[0])
    assert batch.boxes[0].tolist() == [[0.5, 0, 1, 1], [0, 0, 0.5, 1], *[[0] * 4] * (places - 2)]
    assert batch.boxes[1].tolist() == [list(each.box or ()) for each in FALLBACK[:places]]
    with pytest.raises(DataError, match=r"post 0: boxes of a.png: objects\[0\]: score must be 1 at most"):
        predictor.predict([{**record, "boxes": [[{**LEFT, "score": 3}]]}], images=folder)


def test_a_method_that_needs_relevance_reads_the_given_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, batches = seen(GifrTagger, monkeypatch)
    record = {"words": ["Ann"], "images": ["a.png", "b.png"]}
    found = predictor.predict([{**record, "relevance": [0.25, 0.75]}, {"words": ["Bob"]}], images=folder)
    assert len(found) == 2 and batches[0].relevance.tolist() == [[0.25, 0.75], [0, 0]]
    with pytest.raises(DataError, match=r"picture a\.png has no relevance score") as problem:
        predictor.predict([record], images=folder)
    assert "'relevance' in the input" in str(problem.value) and len(str(problem.value).splitlines()) == 2
