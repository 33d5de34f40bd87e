"""MKGformer's encoder: where its streams meet, what its masks hide, its sizes, and its authors' optimiser."""

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
from written_out_steps import adamw, linear_from_zero, three_steps

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import UsageError
from mnerkit.methods.optimiser import parameter_groups
from mnerkit.methods.parameter_counts import count
from mnerkit.nn.attention import attend
from mnerkit.towers import text_tower, vision_tower
from mnerkit_plugins.mkgformer.model import MkgformerEncoder
from mnerkit_plugins.mkgformer.options import MkgformerOptions
from mnerkit_plugins.mkgformer.tagger import MkgformerTagger

TYPES = types_of("default")
POSTS = [post for post in generate("default", "train", 40) if post.images][:7]
FACTS = CorpusFacts.of(TYPES, POSTS)
BARE = [replace(post, images=()) for post in POSTS]
LAYERS = 3
SIZES = {"width": 32, "layers": LAYERS, "heads": 2}
# two crops of 2 x 2 patches and two of one
SMALL: dict[str, Any] = {"crop_size": 32, "small_size": 16, "max_objects": 2, "small_objects": 2, "exchange_layers": 2}
AS_RELEASED = {"mask_text_for_vision": False, "mask_missing_crops": False}


def encoder(captions: bool = False, **options: Any) -> MkgformerEncoder:
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
    return MkgformerEncoder(text, vision, MkgformerOptions(**{**SMALL, "dropout": 0.0, **options})).eval()


def batch(of: MkgformerEncoder, posts: list[Post]) -> Batch:
    reader = of.text.reader
    if of.crops is None:
        needs = Needs(reader, frozenset({"captions"}), caption_reader=of.vision.reader)
        return Collator(needs, None, TagSet(TYPES))(posts)
    picture = replace(of.vision.picture, size=32)
    needs = Needs(reader, frozenset({"objects"}), picture, max_objects=4)
    return Collator(needs, PictureLoader(picture), TagSet(TYPES))(posts)


def seen(made: MkgformerEncoder, some: Batch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """States of both streams after each layer."""
    found: list[Any] = []
    handle = made.streams.register_forward_hook(lambda module, given, out: found.append(out))
    made(some)
    handle.remove()
    return found[0]


def moved(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).detach().abs().max() > 1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"exchange_layers": 0},
        {"guide": False, "fuse": False},
        {"fuse": False},
        {"exchange_layers": 0, "captions": True},
    ],
)
def test_without_fusion_it_is_the_text_tower_exactly(options: dict) -> None:
    """Prefix-guided interaction changes vision alone."""
    made = encoder(**options)
    some = batch(made, POSTS)
    assert torch.equal(made(some).states[0], made.text(some.text).words)


@pytest.mark.parametrize("options", [{}, {"captions": True}, {"exchange": "both"}])
def test_a_post_without_pictures_is_read_by_the_text_tower_alone(options: dict) -> None:
    made = encoder(**options)
    some = batch(made, [POSTS[0], *BARE[1:3]])
    plain = made.text(some.text).words
    states = made(some).states[0]
    assert moved(states[0], plain[0])
    torch.testing.assert_close(states[1:], plain[1:])


def test_a_fusion_without_weights_adds_nothing() -> None:
    made = encoder()
    for fusion in made.fusions.values():
        nn.init.zeros_(fusion.map.weight)
        nn.init.zeros_(fusion.map.bias)
    some = batch(made, POSTS)
    assert torch.equal(made(some).states[0], made.text(some.text).words)


def test_the_keys_of_the_text_layer_before_reach_text_through_the_fusion_alone() -> None:
    """A key's bias shifts all scores of its own layer alike, so it has no effect there."""
    for fuse in (True, False):
        made = encoder(exchange_layers=1, fuse=fuse)
        some = batch(made, POSTS[:2])
        before = seen(made, some)
        made.text.model.encoder.layer[-2].attention.self.key.bias.data += torch.randn(32)
        after = seen(made, some)
        torch.testing.assert_close(after[0][-2], before[0][-2])
        assert moved(after[1][-1], before[1][-1])
        assert moved(after[0][-1], before[0][-1]) == fuse


def test_text_attends_to_vision_where_both_exchange() -> None:
    one_way, both = (encoder(exchange=way, fuse=False) for way in ("text_to_vision", "both"))
    some = batch(both, POSTS[:2])
    states = [seen(made, some)[0] for made in (one_way, both)]
    assert torch.equal(states[0][1], states[1][1])
    assert moved(states[0][2], states[1][2])


def test_patches_without_positions_are_a_set() -> None:
    made = encoder(position_std=1.0)
    some = batch(made, POSTS)
    swapped = [1, 0, *range(2, some.crops.shape[1])]
    turned = replace(some, crops=some.crops[:, swapped], crop_mask=some.crop_mask[:, swapped], crop_sources=None)
    assert moved(made(some).states, made(turned).states)
    nn.init.zeros_(made.crops.position)
    (text, image), (same, permuted) = seen(made, some), seen(made, turned)
    torch.testing.assert_close(same[-1], text[-1], atol=1e-5, rtol=1e-4)
    order = [0, *range(5, 9), *range(1, 5), *range(9, image[-1].shape[1])]  # class token, four patches, four others
    real = made.crops(turned.crops, turned.crop_mask)[1]
    torch.testing.assert_close(permuted[-1][real], image[-1][:, order][real], atol=1e-5, rtol=1e-4)


def changes(made: MkgformerEncoder, change: str) -> bool:
    """Whether what stands in padding, in the places of missing crops, or in longer posts moves a post's states."""
    some = batch(made, [POSTS[0], POSTS[4]])
    words = some.text.word_mask[0]
    some.crop_mask = some.crop_mask.clone()
    some.crop_mask[0, 1:] = False
    some.crops = some.crops.masked_fill(~some.crop_mask[..., None, None, None], 0.0)
    before = made(some).states[0, 0][words]
    other = copy.deepcopy(some)
    if change == "padding":
        other.text.input_ids[~other.text.attn_mask] = other.text.input_ids[0, 1]
    elif change == "crops":
        other.crops[0, 1:] = 1.0
    else:
        pad = partial(nn.functional.pad, pad=(0, 3))
        text = other.text
        other.text = replace(
            text,
            **{name: pad(getattr(text, name)) for name in ("input_ids", "attn_mask", "type_ids")},
            piece_word=pad(text.piece_word, value=-1),
        )
    return not torch.allclose(made(other).states[0, 0][words], before, atol=1e-5)


@pytest.mark.parametrize("change", ["padding", "crops", "longer"])
def test_what_is_masked_counts_only_as_released(change: str) -> None:
    assert len(POSTS[0].words) < len(POSTS[4].words)
    assert not changes(encoder(), change)
    assert changes(encoder(**AS_RELEASED), change)
    assert encoder().by_post and not encoder(**AS_RELEASED).by_post


def test_missing_places_are_filled_up_as_released() -> None:
    made = encoder(mask_missing_crops=False)
    some = batch(made, POSTS)
    few = replace(some, crops=some.crops[:, :1], crop_mask=some.crop_mask[:, :1], crop_sources=None)
    stream = made.image_stream(few)
    assert stream.states.shape[1] == made.crops.length == 1 + 2 * 4 + 2 and stream.shared.all()


def test_fusion_weights_are_shares_of_the_real_vision_tokens() -> None:
    made = encoder()
    some = batch(made, [*POSTS[:3], BARE[3]])
    trace = made(some, trace=True).trace
    assert trace.keys() == {"fusion_1", "fusion_2"}
    weights, real = trace["fusion_2"], made.image_stream(some).shared
    assert not weights[~real.unsqueeze(1).expand_as(weights)].any()
    torch.testing.assert_close(weights.sum(-1), (some.text.word_mask & real.any(1, keepdim=True)).float())
    states, vision = torch.randn(1, 4, 32), torch.randn(1, 5, 32)
    one = torch.arange(5) == 3
    gathered, _ = attend(states, vision, vision, one.view(1, 1, 5))
    torch.testing.assert_close(gathered, vision[:, 3:4].expand(-1, 4, -1))


def test_the_fusion_is_as_written() -> None:
    """T = LN(A + W_2 gelu(W_1 A + b_1 + W_3 G + b_3) + b_2), step by step, with each reading."""
    layer = encoder().text.model.encoder.layer[0]
    states, vision, real = torch.randn(2, 5, 32), torch.randn(2, 4, 32), torch.ones(2, 4, dtype=torch.bool)
    context = layer.attention.self(states)[0]
    a = layer.attention.output(context, states)
    for reading in ({}, {"fusion_query": "states"}, {"fusion_scale": "sqrt_d"}):
        fusion: Any = encoder(**reading).fusions["1"]
        query = a if "fusion_query" in reading else context
        scores = query @ vision.transpose(1, 2) / (32**0.5 if "fusion_scale" in reading else 1)
        inner = layer.intermediate.dense(a) + fusion.map(scores.softmax(-1) @ vision)
        expected = layer.output.LayerNorm(a + layer.output.dense(nn.functional.gelu(inner)))
        torch.testing.assert_close(fusion(layer, states, None, vision, real)[0], expected)


def test_streams_meet_in_the_last_layers_and_sequences_do_not_grow() -> None:
    made = encoder()
    assert list(made.fusions) == ["1", "2"]
    assert list(encoder(exchange_layers=9).fusions) == ["0", "1", "2"] and not encoder(fuse=False).fusions
    shapes: dict[str, list[tuple[int, ...]]] = {"text": [], "vision": []}
    for tower in (made.text, made.vision):
        tower.model.set_attn_implementation("eager")
    for layer in made.text.model.encoder.layer:
        layer.attention.self.register_forward_hook(lambda m, i, out: shapes["text"].append(out[1].shape[2:]))
    for layer in made.vision.model.vision_model.encoder.layers:
        layer.self_attn.register_forward_hook(lambda m, i, out: shapes["vision"].append(out[1].shape[2:]))
    some = batch(made, POSTS)
    n, m = some.text.input_ids.shape[1], made.image_stream(some).states.shape[1]
    made(some)
    assert shapes == {"text": [(n, n)] * 3, "vision": [(m, m), (m, m + n), (m, m + n)]}


def test_small_crops_are_the_further_ones_at_half_the_size() -> None:
    made = encoder()
    some = batch(made, POSTS)
    whole = made.image_stream(some).states
    assert whole.shape[1] == 1 + 2 * 4 + some.crop_mask.shape[1] - 2
    alone = encoder(crop_sets="small")
    alone.crops.position.data = made.crops.small_position.data
    few = replace(some, crops=nn.functional.avg_pool2d(some.crops.flatten(0, 1), 2).unflatten(0, some.crop_mask.shape))
    torch.testing.assert_close(alone.image_stream(few).states[:, 1:], whole[:, 9:])
    large = encoder(crop_sets="large")
    large.crops.position.data = made.crops.position.data
    torch.testing.assert_close(large.image_stream(some).states, whole[:, :9])


def tagger(**options: Any) -> MkgformerTagger:
    given = {"text": "tiny-bert", "vision": "tiny-vit", "max_tokens": 64, **SMALL, **options}
    made = MkgformerTagger(**given)
    torch.manual_seed(0)
    made.build(FACTS)
    return made


def test_the_tagger_asks_for_the_crops_that_it_reads() -> None:
    expected = {"both": (4, 32), "large": (2, 32), "small": (4, 16)}
    for sets, (number, size) in expected.items():
        needs = tagger(crop_sets=sets).needs()
        assert needs.views == {"objects"} and (needs.max_objects, needs.picture.size) == (number, size)
    needs = tagger(vision="captions").needs()
    assert needs.views == {"captions"} and needs.caption_reader is not None and needs.picture is None


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
    with pytest.raises(UsageError, match=said):
        tagger(**options)


def test_every_trainable_tensor_is_in_one_group_and_has_a_gradient() -> None:
    made = tagger(lr=1e-4, tower_lr=2e-4, head_lr=5e-2)
    groups = parameter_groups(made.rate_groups(), made, 0.01)
    trained = {name: each for name, each in made.named_parameters() if each.requires_grad}
    assert sorted(id(each) for group in groups for each in group["params"]) == sorted(map(id, trained.values()))
    assert {group["name"]: group["lr"] for group in groups} == {"towers": 2e-4, "encoder": 1e-4, "head": 5e-2}
    for posts in (POSTS, BARE):
        made.zero_grad()
        sum(made.losses(batch(made.encoder, posts)).values()).backward()
        assert [name for name, each in trained.items() if each.grad is None] == []


def test_as_released_it_trains_as_many_parameters_as_its_authors_model_uses() -> None:
    model = {"text": "bert-base-uncased", "vision": "openai/clip-vit-base-patch32", "subword": "X"}
    parts, _ = count({"plugin": "mkgformer", "model": model, "data": {"corpus": "twitter2017"}})
    numbers = {each.part: each.parameters for each in parts}
    assert numbers["encoder fusions"] == 4 * (768 * 3072 + 3072)
    assert numbers["encoder crops"] == (48 + 12) * 768
    assert numbers["head"] == 10_192
    assert sum(each.trainable for each in parts) == 205_813_456


def test_three_steps_are_those_of_the_released_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW on every weight alike, one rate of the towers, another of the head, linear from zero, written out."""
    lr, head_lr, decay, steps, warmup = 3e-3, 5e-2, 0.01, 8, 0.3
    made = tagger(
        dropout=0.0, subword="X", lr=lr, head_lr=head_lr, weight_decay=decay, decay="all", schedule="linear_from_zero",
        warmup=warmup, **AS_RELEASED,
    ).eval()  # fmt: skip
    update = adamw(
        lambda step, name: linear_from_zero(step, steps, warmup) * (head_lr if name.startswith("head.") else lr),
        lambda _: decay,
    )
    weights = three_steps(made, batch(made.encoder, POSTS), steps, update, monkeypatch)
    # a key's bias in a layer whose keys nobody else sees has a gradient of rounding alone
    inert = ("text.model.encoder.layer.2.attention.self.key.bias", "encoder.layers.0.self_attn.k_proj.bias")
    for name, weight in made.named_parameters():
        if weight.requires_grad and not name.endswith(inert):
            torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=2e-5, msg=name)


def _one_rank(rank: int, folder: Path) -> None:
    make = partial(encoder, captions=folder.name == "captions")
    assert_ranks_learn_as_one(rank, folder, make, batch, (BARE[:2], POSTS[2:]))


@pytest.mark.parametrize("kind", ["crops", "captions"])
def test_two_ranks_one_without_pictures_learn_what_one_process_learns(kind: str, tmp_path: Path) -> None:
    (tmp_path / kind).mkdir()
    in_two_ranks(_one_rank, tmp_path / kind)
