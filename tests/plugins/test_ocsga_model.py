"""OCSGA: what words read of labels, what stands for labels, and the sizes of the released layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from visual_prefix_cases import TYPES, bare, own_parameters, posts

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, PictureObject, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.label_words import label_words
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.text.bilstm import BiLstmTower
from mnerkit_plugins.ocsga.model import OcsgaEncoder
from mnerkit_plugins.ocsga.options import OcsgaOptions


def encoder(text: str = "bilstm", **options: Any) -> OcsgaEncoder:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 32} | ({"chars": "lstm"} if text == "bilstm" else {"layers": 2, "heads": 2})
    tower = text_tower(text, facts=CorpusFacts.of(TYPES, posts()), **sizes)
    return OcsgaEncoder(tower, OcsgaOptions(text=text, **options)).eval()


def with_labels(post: Post, *labels: str) -> Post:
    objects = tuple(PictureObject((0.0, 0.0, 0.5, 0.5), 1.0 - place / 10, each) for place, each in enumerate(labels))
    return replace(post, images=(replace(post.images[0], objects=objects, caption=None),))


def batch_of(made: OcsgaEncoder, rows: list[Post]) -> Batch:
    reader = made.text.reader
    needs = Needs(reader, frozenset({"labels"}), caption_reader=reader, max_objects=made.options.max_labels)
    return Collator(needs, None, TagSet(TYPES))(rows)


@pytest.mark.parametrize("text", ["bilstm", "tiny-bert"])
def test_labels_have_no_order_and_move_every_word(text: str) -> None:
    made, post = encoder(text), posts()[0]
    first = made(batch_of(made, [with_labels(post, "person", "house")])).states
    turned = made(batch_of(made, [with_labels(post, "house", "person")])).states
    torch.testing.assert_close(turned, first, atol=1e-5, rtol=1e-4)
    other = made(batch_of(made, [with_labels(post, "person", "trophy")])).states
    assert ((other - first).abs().amax(-1) > 1e-4).all()


def test_a_post_without_labels_reads_nothing_or_a_constant() -> None:
    rows = [posts()[0], bare(posts()[1])]
    for empty, moves in (("zeros", False), ("uniform", True)):
        made = encoder(empty=empty)
        batch = batch_of(made, rows)
        alone = made.norm(made.text(batch.text).words[1])
        read = batch.text.read_mask[1].unsqueeze(-1)
        assert bool(((made(batch).states[0, 1] - alone) * read).abs().max() > 1e-3) == moves


def test_without_objects_the_states_are_those_of_the_text_tower() -> None:
    made = encoder(labels=False)
    batch = batch_of(made, posts())
    assert torch.equal(made(batch).states[0], made.text(batch.text).words)


def test_frozen_labels_train_no_word_vector_that_only_labels_have() -> None:
    for freeze in (True, False):
        made = encoder(freeze_labels=freeze)
        assert isinstance(made.text, BiLstmTower)
        batch = batch_of(made, [with_labels(posts()[0], "trophy")])
        assert batch.captions is not None and batch.captions.word_ids is not None and batch.text.word_ids is not None
        number = batch.captions.word_ids[0, 0]
        assert number > 1 and number not in batch.text.word_ids
        made(batch).states.square().sum().backward()
        gradient = made.text.word.weight.grad
        assert gradient is not None and bool(gradient[number].any()) == (not freeze)


def test_the_released_norm_has_the_unbiased_deviation() -> None:
    made = encoder(layer_norm="released")
    x = torch.randn(3, 32)
    norm: Any = made.label_layers[0].look.norm  # type: ignore[union-attr]
    torch.testing.assert_close(norm(x), (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6))


def test_nouns_of_the_caption_stand_for_labels_that_are_missing() -> None:
    ref = ImageRef("a.jpg", caption="two old men with a red flag")
    assert label_words(ref, 4) == ["men", "flag"] and label_words(ref, 1) == ["men"]
    named = PictureObject((0.0, 0.0, 1.0, 1.0), 1.0, "sports ball")
    assert label_words(replace(ref, objects=(named, named)), 4) == ["sports", "ball"]


def test_the_sizes_are_those_of_the_released_code() -> None:
    with torch.device("meta"):
        made = OcsgaEncoder(BiLstmTower(["a"], width=200, word_width=200), OcsgaOptions())
    sizes = {"label_map": 40_200, "word_layers": 482_600, "label_layers": 643_800, "norm": 400}
    assert own_parameters(made) == sizes
