"""What is drawn of posts is what the network said, under the names of the nodes, without padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import entities
from mnerkit.data.datamodule import MnerData
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.figures import maps, points
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.heads.prototype_crf import PrototypeCRFHead
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.untyped_spans import bounds_of_spans
from mnerkit.runs import figure_file
from mnerkit.validation import validated
from mnerkit_plugins.bert.tagger import BertTagger
from mnerkit_plugins.cross.tagger import CrossTagger
from mnerkit_plugins.gei.tagger import GeiTagger
from mnerkit_plugins.mousing.tagger import MousingTagger

SMALL: dict[str, Any] = {"width": 24, "hidden": 32, "graph_layers": 2, "heads": 4, "transformer_heads": 4}
PICTURES: dict[str, Any] = {
    "objects": {"max_objects": 3},
    "several images": {"max_objects": 2, "max_images": 3},
    "objects alone": {"max_objects": 2, "max_images": 3, "use_global": False},
    "regions": {"visual": "regions"},
    "captions": {"vision": "captions"},
    "words look": {"entity_nodes": False},
}


def connected(method: Tagger, mode: str = "plain", **options: Any) -> tuple[Tagger, MnerData]:
    """A method with fresh weights, and data as it wants to see them."""
    torch.manual_seed(0)
    data = MnerData(corpus="probe", limit=24, batch_size=6, **options)
    method.build(data.facts, n_way=data.options.n_way)
    data.connect(method.needs(), mode)
    return method.eval(), data


def batches(data: MnerData) -> Iterator[Batch]:
    return iter(data.loader("dev"))


def fair(post: dict[str, Any]) -> dict[str, Any]:
    """The post, once it has passed the checks of the file that it will be kept in."""
    return validated(figure_file.MappedPost, post, "a post").model_dump(mode="json")


@pytest.mark.parametrize("case", PICTURES)
@torch.inference_mode()
def test_attention_of_gei_has_a_row_an_entity_and_a_column_a_node(case: str) -> None:
    options = {**SMALL, **PICTURES[case]}
    made, data = connected(GeiTagger(head=CRFHead(), **options), variant="multi")
    # a fresh network detects nothing: here every second word is an entity
    encoder: Any = made.encoder
    encoder.spans.decode = lambda emissions, mask: torch.arange(mask.shape[1]).remainder(2).expand(mask.shape) * mask
    found = 0
    for batch in batches(data):
        trace, spans = encoder(batch, trace=True).trace, encoder.detected
        mask = trace["visual_mask"]
        drawn = {post["id"]: fair(post) for post in maps.posts("attention", made, batch)}
        tags = {each.post.id: each.tags for each in made.tag(batch)}
        for row, post in enumerate(batch.posts):
            if post.id not in drawn:
                assert not mask[row].any() or (case == "words look" and not entities(tags[post.id]))
                continue
            found += 1
            shown = drawn[post.id]
            real = mask[row].nonzero().flatten()
            assert [name for name, _ in shown["maps"]] == ["layer 1", "layer 2"]
            if case == "words look":
                bounds = [(span.start, span.end) for span in entities(tags[post.id])]
                rows = [trace["word_attention"][row, -1, start:end].mean(0) for start, end in bounds]
                wanted = torch.stack(rows)[:, real]
            else:
                places, there = bounds_of_spans(spans[row : row + 1])
                bounds = [tuple(each) for each in places[0][there[0]].tolist()]
                wanted = trace["entity_attention"][row, -1, : len(bounds)][:, real]
            assert [name for name, _ in shown["rows"]] == [" ".join(post.words[a:b]) for a, b in bounds]
            np.testing.assert_allclose(shown["maps"][-1][1], wanted.numpy(), atol=6e-4)
            _check_nodes(case, shown["columns"], batch, row)
    assert found > 5


def _check_nodes(case: str, columns: list[Any], batch: Batch, row: int) -> None:
    """Nodes are named after what they are, and lie where their boxes are."""
    post = batch.posts[row]
    names = [name.split()[0] for name, _, _ in columns]
    if case == "captions":
        told = [word for ref in post.images[:1] for word in (ref.caption or "").split()]
        assert [name for name, _, _ in columns] == ["image", *told] and not any(box for _, _, box in columns)
        return
    if case == "regions":
        assert columns[0][0] == "image" and columns[1][2][:2] == [0, 0] and columns[-1][2][2:] == [1, 1]
        assert names[1:] == [str(place + 1) for place in range(len(columns) - 1)]
        return
    count = int(batch.image_mask[row].sum()) if case != "objects alone" else 0  # type: ignore[index]
    assert names == ["image"] * count + ["object"] * (len(columns) - count)
    assert batch.boxes is not None and batch.crop_mask is not None and batch.crop_image is not None
    real = batch.crop_mask[row]
    assert [picture for _, picture, _ in columns[count:]] == batch.crop_image[row][real].tolist()
    np.testing.assert_allclose([box for _, _, box in columns[count:]], batch.boxes[row][real].numpy(), atol=1e-4)
    if len({picture for _, picture, _ in columns}) > 1:
        letters = ["abc"[picture] for _, picture, _ in columns]
        assert [name.split()[-1] for name, _, _ in columns] == letters


@torch.inference_mode()
def test_attention_of_words_becomes_that_of_the_entities_that_they_make(monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = connected(CrossTagger(head=CRFHead()))
    batch = next(batches(data))
    tagged = made.answers

    def answers(batch: Batch) -> list[Any]:
        said = tagged(batch)
        for each in said:
            each.tags = ["B-PER", "I-PER", *["O"] * (len(each.tags) - 2)]
        return said

    monkeypatch.setattr(made, "answers", answers)
    weights = made.encoder(batch, trace=True).trace["attention"]
    for row, post in enumerate(maps.posts("attention", made, batch)):
        assert fair(post)["rows"] == [[" ".join(post["words"][:2]), "PER"]]
        np.testing.assert_allclose(post["maps"][0][1][0], weights[row, :2].mean(0).numpy(), atol=6e-4)
        side = len(post["columns"]) ** 0.5
        assert post["columns"][1][:2] == ["2", 0] and post["columns"][1][2] == [
            round(1 / side, 4),
            0,
            round(2 / side, 4),
            round(1 / side, 4),
        ]


@torch.inference_mode()
def test_a_graph_names_its_nodes_and_their_places_on_the_picture() -> None:
    made, data = connected(
        MousingTagger(head=PrototypeCRFHead(), hidden=16, kl_width=8, image_nodes="grid_crop"),
        "episodic",
        variant="fewshot",
        train_types="PER+LOC+ORG+MISC",
        dev_episodes=2,
    )
    batch = next(batches(data))
    (post,) = maps.posts("adjacency", made, batch)
    count = len(fair(post)["words"])
    assert [name for name, _ in post["rows"]] == [name for name, _, _ in post["columns"]]
    assert [kind for _, kind in post["rows"][:count]] == [tag[2:] for tag in made.answers(batch)[0].gold]
    assert post["columns"][count + 4] == ["5", 0, [0.3333, 0.3333, 0.6667, 0.6667]]
    trace = made.encoder(batch, trace=True).trace
    real = trace["node_mask"][-1]
    for (_, weights), name in zip(post["maps"], ("adjacency", "updated_adjacency"), strict=True):
        np.testing.assert_allclose(weights, trace[name][-1].mean(0)[real][:, real].numpy(), atol=6e-4)


@pytest.mark.parametrize("kind", ["attention", "adjacency"])
def test_a_method_that_looks_at_nothing_says_so(kind: str) -> None:
    made, data = connected(BertTagger(head=CRFHead()))
    with pytest.raises(UsageError, match="plugin 'bert' has no"):
        list(maps.posts(kind, made, next(batches(data))))


# ---------------------------------------------------------------- points


@torch.inference_mode()
def test_points_are_the_states_of_gold_entity_words() -> None:
    made, data = connected(BertTagger(head=CRFHead()))
    states, words, read = points.gold_words(made, batches(data))
    assert read == len(data.posts("dev")) == 24
    wanted, named = [], []
    for batch in batches(data):
        found = made.encoder(batch).states.mean(0)
        for row, post in enumerate(batch.posts):
            for place, tag in enumerate(post.tags or ()):
                if tag != "O":
                    wanted.append(found[row, place].numpy())
                    named.append((tag[2:], post.words[place], post.id))
    assert words == named
    np.testing.assert_array_equal(states, np.stack(wanted))


def test_types_that_lie_apart_are_drawn_apart_the_same_each_time() -> None:
    draw = np.random.default_rng(0)
    kinds = np.arange(60) % 3
    states = 20 * np.eye(3)[kinds] @ draw.normal(size=(3, 16)) + draw.normal(size=(60, 16))
    places = points.tsne(states)
    assert places.shape == (60, 2) and places.min() == 0 and places.max() == 1
    np.testing.assert_array_equal(places, points.tsne(states))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(60)
    assert (kinds[distances.argmin(1)] == kinds).all()


@pytest.mark.parametrize("states", [np.zeros((0, 1)), np.eye(4), np.ones((30, 3))])
def test_too_few_points_are_refused(states: np.ndarray) -> None:
    with pytest.raises(DataError, match="t-SNE needs 5"):
        points.tsne(states)
