"""VEC-MNER's encoder: where its streams meet, CA by hand, what masks hide, and its sizes."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import assert_ranks_learn_as_one, in_two_ranks
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import UsageError
from mnerkit.methods.parameter_counts import count
from mnerkit.towers import text_tower, vision_tower
from mnerkit_plugins.vec_mner.model import RELEASED, TokenAttention, VecMnerEncoder, pooled, softpool
from mnerkit_plugins.vec_mner.options import VecMnerOptions
from mnerkit_plugins.vec_mner.tagger import VecMnerTagger

TYPES = types_of("default")
POSTS = [post for post in generate("default", "train", 40) if post.images][:5]
FACTS = CorpusFacts.of(TYPES, POSTS)
BARE = [replace(post, images=()) for post in POSTS]
SIZES = {"width": 32, "layers": 3, "heads": 2}
SMALL: dict[str, Any] = {"crop_size": 32, "small_size": 16, "max_objects": 2, "small_objects": 1}


def encoder(captions: bool = False, **options: Any) -> VecMnerEncoder:
    torch.manual_seed(0)
    text = text_tower("tiny-bert", facts=FACTS, max_tokens=64, **SIZES)
    words = {"facts": FACTS, "max_tokens": 64}
    vision = text_tower("tiny-bert", **words, **SIZES) if captions else vision_tower("tiny-vit", **SIZES)
    for tower in (text, vision):
        tower.forget = 0.0
        for module in tower.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    torch.manual_seed(1)
    return VecMnerEncoder(text, vision, VecMnerOptions(**{**SMALL, "dropout": 0.0, **options})).eval()


def batch(of: VecMnerEncoder, posts: list[Post]) -> Batch:
    reader = of.text.reader
    if of.tokens is None:
        needs = Needs(reader, frozenset({"captions"}), caption_reader=of.vision.reader)
        return Collator(needs, None, TagSet(TYPES))(posts)
    picture = of.vision.picture
    needs = Needs(reader, frozenset({"whole", "objects"}), picture, max_objects=3)
    return Collator(needs, PictureLoader(picture), TagSet(TYPES))(posts)


def streams(made: VecMnerEncoder, some: Batch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """States of both streams after each layer."""
    found: list[Any] = []
    handle = made.streams.register_forward_hook(lambda module, given, out: found.append(out))
    made(some)
    handle.remove()
    return found[0]


def moved(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).detach().abs().max() > 1e-4)


@pytest.mark.parametrize("options", [{}, {"captions": True}, {"align_layer": False}, {"ca": False, "hand": "keys"}])
def test_a_post_without_pictures_is_read_by_the_text_tower_alone(options: dict) -> None:
    made = encoder(**options)
    some = batch(made, [POSTS[0], *BARE[1:3]])
    plain = made.text(some.text).words
    states = made(some).states[0]
    assert moved(states[0], plain[0])
    torch.testing.assert_close(states[1:], plain[1:])


def test_the_first_layer_of_both_streams_is_their_towers() -> None:
    made = encoder()
    some = batch(made, POSTS)
    texts, images = streams(made, some)
    other = replace(some, images=torch.zeros_like(some.images), image_sources=None)
    torch.testing.assert_close(streams(made, other)[0][1], texts[1])
    changed = encoder()
    changed.text.model.embeddings.word_embeddings.weight.data.normal_()
    torch.testing.assert_close(streams(changed, some)[1][1], images[1])
    assert moved(streams(changed, some)[1][2], images[2]) and moved(streams(made, other)[0][2], texts[2])


def test_the_second_layer_attends_to_the_other_stream_alone() -> None:
    """Its own value map has no effect on it then; vision's values have, and text's through the layer before."""
    for alone in (True, False):
        made = encoder(align_layer=alone)
        some = batch(made, POSTS[:2])
        before = streams(made, some)
        made.text.model.encoder.layer[1].attention.self.value.weight.data.zero_()
        after = streams(made, some)
        assert moved(after[0][2], before[0][2]) != alone
        made.vision.model.vision_model.encoder.layers[1].self_attn.v_proj.weight.data *= 2.0
        assert moved(streams(made, some)[0][2], after[0][2])


def test_text_reads_keys_for_values_as_released() -> None:
    made = encoder(hand="keys")
    some = batch(made, POSTS[:2])
    before = streams(made, some)[0][2]
    made.vision.model.vision_model.encoder.layers[1].self_attn.v_proj.weight.data.zero_()
    torch.testing.assert_close(streams(made, some)[0][2], before)


def test_ca_is_as_written() -> None:
    torch.manual_seed(0)
    ca, x = TokenAttention(7, 3, mean=False), torch.randn(2, 7, 5)
    real = torch.ones(2, 7, dtype=torch.bool)
    soft = (x * x.exp()).sum(-1) / x.exp().sum(-1)
    torch.testing.assert_close(softpool(x), soft)
    f = lambda y: torch.relu(ca.down(y))  # noqa: E731
    expected = ca.up((f(x.mean(-1)) + f(x.max(-1).values)) * f(soft)).softmax(-1)
    torch.testing.assert_close(ca(x, real), expected)
    real[0, 4:] = False
    weights, scaled = ca(x, real), copy.copy(ca)
    scaled.mean = True
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))
    assert not weights[0, 4:].any()
    torch.testing.assert_close(scaled(x, real), weights * real.sum(-1, keepdim=True))
    # tokens that a batch does not reach are as if they were masked
    torch.testing.assert_close(ca(x[:1, :4], real[:1, :4]), weights[:1, :4])


def test_crops_count_by_their_places() -> None:
    made = encoder(position_std=1.0)
    some = batch(made, POSTS)
    swapped = [1, 0, *range(2, some.crops.shape[1])]
    turned = replace(some, crops=some.crops[:, swapped], crop_mask=some.crop_mask[:, swapped], crop_sources=None)
    assert moved(made(some).states, made(turned).states)


@pytest.mark.parametrize("change", ["padding", "crops"])
def test_what_is_masked_has_no_effect(change: str) -> None:
    made = encoder()
    some = batch(made, [POSTS[0], POSTS[4]])
    some.crop_mask = some.crop_mask.clone()
    some.crop_mask[0, 1:] = False
    before = made(some).states[0, 0][some.text.word_mask[0]]
    other = copy.deepcopy(some)
    if change == "padding":
        assert not other.text.attn_mask.all()
        other.text.input_ids[~other.text.attn_mask] = other.text.input_ids[0, 1]
    else:
        other.crops, other.crop_sources = other.crops.clone(), None
        other.crops[0, 1:] = 1.0
    torch.testing.assert_close(made(other).states[0, 0][some.text.word_mask[0]], before, atol=1e-5, rtol=1e-4)


def test_the_contrast_ignores_posts_without_pictures() -> None:
    made = encoder().train()
    with_bare, alone = (made(batch(made, posts)).losses["contrast"] for posts in ([*POSTS, *BARE[:2]], POSTS))
    torch.testing.assert_close(with_bare, alone, atol=1e-5, rtol=1e-4)
    assert made(batch(made, BARE)).losses["contrast"].item() == 0
    assert not encoder().eval()(batch(made, POSTS)).losses
    assert not encoder(contrast=False).train()(batch(made, POSTS)).losses
    states, mask = torch.tensor([[[1.0, 5.0], [3.0, 2.0]], [[1.0, 1.0], [9.0, 9.0]]]), torch.tensor([[1, 1], [1, 0]])
    assert pooled(states, mask.bool()).tolist() == [[3, 5], [1, 1]]
    assert pytest.approx(0.376, abs=5e-4) == RELEASED


def test_noise_is_of_training_alone() -> None:
    made = encoder(noise=5.0, contrast=False)
    some = batch(made, POSTS)
    quiet = encoder(contrast=False)(some).states
    assert torch.equal(made(some).states, quiet)
    assert moved(made.train()(some).states, quiet)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "tiny"}, "give a tower like BERT"),
        ({"vision": "tiny"}, "give a CLIP"),
        ({"crop_size": 20}, "--model.crop_size 20: .* multiple"),
        ({"small_size": 20}, "--model.small_size 20: .* multiple"),
    ],
)
def test_towers_and_sizes_that_do_not_fit_are_refused(options: dict, said: str) -> None:
    made = VecMnerTagger(**{"text": "tiny-bert", "vision": "tiny-vit", "max_tokens": 64, **SMALL, **options})
    with pytest.raises(UsageError, match=said):
        made.build(FACTS)


def test_it_has_as_many_new_parameters_as_the_authors_model() -> None:
    model = {"text": "bert-base-uncased", "vision": "openai/clip-vit-base-patch32"}
    parts, _ = count({"plugin": "vec_mner", "model": model, "data": {"corpus": "twitter2017"}})
    numbers = {each.part: each.parameters for each in parts}
    assert numbers["encoder tokens"] == 83_712 and numbers["encoder ca"] == 1_436


def _one_rank(rank: int, folder: Path) -> None:
    make = partial(encoder, captions=folder.name == "captions")
    assert_ranks_learn_as_one(rank, folder, make, batch, (BARE[:2], POSTS[2:]))


@pytest.mark.parametrize("kind", ["crops", "captions"])
def test_two_ranks_one_without_pictures_learn_what_one_process_learns(kind: str, tmp_path: Path) -> None:
    (tmp_path / kind).mkdir()
    in_two_ranks(_one_rank, tmp_path / kind)
