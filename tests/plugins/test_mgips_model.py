"""MGIPS-CL's encoder: the properties of its parts together, every reading, and training on several ranks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from ranks import assert_ranks_learn_as_one, in_two_ranks
from torch import Tensor, nn
from written_out_steps import adamw, linear_from_zero, three_steps

from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.data.split_posts import blanked
from mnerkit.errors import UsageError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.optimiser import parameter_groups
from mnerkit.runs.identity import behaviours
from mnerkit.towers import text_tower, vision_tower
from mnerkit.towers.text.piece_tower import pool_words
from mnerkit_plugins.mgips_cl import released
from mnerkit_plugins.mgips_cl.model import MgipsEncoder
from mnerkit_plugins.mgips_cl.options import MgipsOptions
from mnerkit_plugins.mgips_cl.tagger import MgipsTagger

TYPES = types_of("default")
POSTS = [post for post in generate("default", "train", 40) if post.images][:7]
FACTS = CorpusFacts.of(TYPES, POSTS)
BARE = [replace(post, images=()) for post in POSTS]
SIZES = {"width": 32, "layers": 2, "heads": 2}
SMALL = {"mge_heads": 2, "crop_size": 16, "max_objects": 3, "dropout": 0.0}
READINGS = [
    {},
    {"kv_source": "same_layer_vision_first"},
    {"first_layer": "projected"},
    {"first_layer": "none"},
    {"mask_missing_crops": False},
    {"embed_noise_alpha": 5.0},
    {"use_mgi": False},
    {"n_interweave": 2},
    {"final_image_mge": False},
    {"length_align": "interpolate"},
    {"length_align": "cross_attn"},
    {"mge_heads": 1},
    {"mge_value": "target"},
    {"mge_ffn": False},
    {"column_reading": "literal"},
    {"column_bias": -0.05},
    {"interweave_residual": "eq10"},
    {"use_row": False},
    {"use_col": False},
    {"gate": "token"},
    {"ips_k": 1},
    {"ips_exclude_own": True},
    {"detach_topk_index": False},
    {"ips_variant": "merged"},
    {"cl_pool": "length_linear"},
    {"cl_pool": "cls"},
    {"cl_features": "gated"},
    {"cl_features": "encoder"},
    {"cl_features": "unimodal"},
    {"cl_direction": "both"},
    {"w_ips": 0.0},
    {"w_cl": 0.0},
    {"w_ips": 0.0, "w_cl": 0.0},
    {"w_ips": 0.0, "w_cl": 0.0, "use_mgi": False},
    {"mask_text_for_vision": False},
    {"position_std": 1.0},
    {"embed_noise_alpha": 5.0, "embed_noise_place": "before_norm"},
    {"mge_value_map": "shared"},
    {"mge_source_norm": "none"},
    {"mge_image_block": "released"},
    {"mge_text_block": "released"},
    {"mge_pad": "released"},
    {"mge_hidden": "towers"},
    {"column_bias": -0.05, "column_bias_side": "image"},
    {"image_gate": True},
    {"cl_pool_mask": False},
]
AS_RELEASED = {
    **{name: value for name, value in released.READINGS.items() if name != "subword"},
    "position_std": 1.0,
    "train_gates": False,
}


def encoder(captions: bool = False, seed: int = 0, **options) -> MgipsEncoder:
    torch.manual_seed(seed)
    text = text_tower("tiny-bert", facts=FACTS, max_tokens=64, **SIZES)
    words = {"facts": FACTS, "max_tokens": 64}
    vision = text_tower("tiny-bert", **words, **SIZES) if captions else vision_tower("tiny-vit", **SIZES)
    for tower in (text, vision):
        tower.forget = 0.0
        for module in tower.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return MgipsEncoder(text, vision, MgipsOptions(**{**SMALL, **options})).eval()


def batch(of: MgipsEncoder, posts: list[Post]):
    reader = of.text.reader
    if of.crops is None:
        needs = Needs(reader, frozenset({"captions"}), caption_reader=of.vision.reader)
        return Collator(needs, None, TagSet(TYPES))(posts)
    picture = replace(of.vision.picture, size=16)
    return Collator(Needs(reader, frozenset({"objects"}), picture), PictureLoader(picture), TagSet(TYPES))(posts)


@cache
def plain(captions: bool = False) -> MgipsEncoder:
    return encoder(captions)


@pytest.mark.parametrize("options", [{}, {"captions": True}, {"mask_missing_crops": False}])
def test_a_post_is_read_alike_alone_and_among_others(options: dict) -> None:
    made = encoder(**options)
    posts = [*POSTS[:4], BARE[4], POSTS[5]]
    together = made(batch(made, posts)).states[0]
    for number, post in enumerate(posts):
        alone = made(batch(made, [post])).states[0, 0]
        torch.testing.assert_close(together[number, : len(post.words)], alone, rtol=1e-4, atol=1e-5)
        assert not together[number, len(post.words) :].any()


def test_the_crops_change_the_states_and_masked_ones_do_not() -> None:
    made = plain()
    right, blank = (made(batch(made, posts)).states for posts in (POSTS, blanked(POSTS)))
    assert (right - blank).abs().max() > 1e-3
    some = batch(made, POSTS)
    assert not some.crop_mask.all()
    hidden = ~some.crop_mask[..., None, None, None].expand_as(some.crops)
    some.crops = some.crops.masked_fill(hidden, 9.0)
    torch.testing.assert_close(made(some).states, right)


def test_the_caption_changes_the_states() -> None:
    made = plain(captions=True)
    right, other = (made(batch(made, posts)).states[0, 0] for posts in (POSTS[:1], BARE[:1]))
    assert (right - other).abs().max() > 1e-3


@pytest.mark.parametrize("captions", [False, True])
@pytest.mark.parametrize("options", [{}, {"use_mgi": False, "w_ips": 0.0, "w_cl": 0.0}])
def test_without_any_picture_it_is_the_text_tower_exactly(captions: bool, options: dict) -> None:
    """With the losses off the head's loss is then BERT-CRF's."""
    made = encoder(captions, **options)
    some = batch(made, BARE)
    states = made(some).states[0]
    assert torch.equal(states, made.text(some.text).words)
    head = CRFHead()
    head.build(made.width, TagSet(TYPES))
    alone = head.loss(SimpleNamespace(states=made.text(some.text).words.unsqueeze(0), boundary=None), some)
    assert torch.equal(head.loss(made(some), some), alone)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["ips", "cl"]),
        ({"w_ips": 0.0}, ["cl"]),
        ({"w_cl": 0.0}, ["ips"]),
        ({"ips_variant": "merged"}, ["ips"]),
        ({"image_gate": True, "cl_features": "gated"}, ["ips", "cl"]),
        (AS_RELEASED, ["ips"]),
        ({"w_ips": 0.0, "w_cl": 0.0}, []),
        ({"w_ips": 0.0, "w_cl": 0.0, "use_mgi": False}, []),
    ],
    ids=str,
)
def test_a_loss_of_weight_zero_is_not_computed_and_has_no_weights(options: dict, names: list[str]) -> None:
    made = encoder(**options).train()
    for posts in (POSTS, BARE):
        made.zero_grad()
        encoded = made(batch(made, posts))
        (encoded.states.square().sum() + sum(encoded.losses.values())).backward()
        assert [name for name, each in made.named_parameters() if each.requires_grad and each.grad is None] == []
        assert set(encoded.losses) == set(names)


def test_every_reading_computes_something_else() -> None:
    """Of those that change states or losses."""
    found = []
    for options in READINGS:
        made = encoder(**options).train()
        torch.manual_seed(1)
        encoded = made(batch(made, POSTS))
        found.append((encoded.states.detach(), {name: loss.item() for name, loss in encoded.losses.items()}))
    same = [
        (READINGS[one], READINGS[other])
        for other in range(len(found))
        for one in range(other)
        if found[one][1] == found[other][1] and torch.equal(found[one][0], found[other][0])
    ]
    # who is chosen is the same, its gradient is not
    assert same == [({}, {"detach_topk_index": False})]


def test_more_steps_have_no_more_weights() -> None:
    sizes = [sum(each.numel() for each in encoder(n_interweave=steps).parameters()) for steps in (1, 3)]
    assert sizes[0] == sizes[1]


def test_the_gate_lies_between_before_and_after_the_fusion() -> None:
    made = encoder()
    some = batch(made, POSTS)
    fused: list[Tensor] = []  # T^t
    assert made.mge_text is not None
    made.mge_text.register_forward_hook(lambda module, given, out: fused.append(out[0]))
    found = {}
    for bias in (0.0, 30.0, -30.0):
        nn.init.constant_(made.gate.first.bias, bias)
        found[bias] = made(some).states[0]
    before = encoder(use_mgi=False)(some).states[0]
    torch.testing.assert_close(found[30.0], before)
    after = found[-30.0]
    torch.testing.assert_close(after, pool_words(fused[-1], some.text, made.text.word_pool))
    low, high = torch.minimum(before, after), torch.maximum(before, after)
    assert ((found[0.0] >= low - 1e-5) & (found[0.0] <= high + 1e-5)).all()
    assert (after - before).abs().max() > 1e-2


def test_without_rows_and_columns_pictures_reach_the_text_path_through_nothing() -> None:
    """T^t = H^t + f3(0): the gate alone is left."""
    made = encoder(use_row=False, use_col=False, mge_ffn=False)
    added: list[Tensor] = []
    assert made.mge_text is not None
    made.mge_text.register_forward_hook(lambda module, given, out: added.append(out[0] - given[0]))
    some = batch(made, POSTS)
    assert some.text.attn_mask is not None
    made(some)
    some.crops = some.crops + torch.randn_like(some.crops)
    made(some)
    before, after = (each[some.text.attn_mask] for each in (added[0], added[-1]))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(before, before[:1].expand_as(before), atol=1e-5, rtol=1e-4)


def test_losses_are_for_training_alone_and_traces_for_who_asks() -> None:
    made = plain()
    some = batch(made, [*POSTS[:3], BARE[3]])
    quiet = made(some)
    assert quiet.losses == {} and quiet.trace == {}
    trace = made(some, trace=True).trace
    words = some.text.word_mask.shape
    assert {name: tuple(each.shape) for name, each in trace.items()} == {
        "gate": words,
        "text_rows": words,
        "image_rows": words,
        "text_columns": (4, 32),
        "image_columns": (4, 32),
        "similarity": (4, 4),
    }
    assert ((trace["gate"] >= 0) & (trace["gate"] <= 1)).all()
    assert (trace["similarity"].abs() <= 1 + 1e-5).all()


def test_every_trainable_tensor_is_in_one_optimiser_group() -> None:
    tagger = MgipsTagger(
        head=CRFHead(), text="tiny-bert", vision="tiny-vit", lr=1e-4, tower_lr=2e-4, vision_lr=3e-4, contrast_lr=4e-4,
        head_lr=5e-4, max_tokens=64, **{name: SMALL[name] for name in ("crop_size", "max_objects")}, mge_heads=4,
    )  # fmt: skip
    tagger.build(FACTS)
    groups = parameter_groups(tagger.rate_groups(), tagger, 0.01)
    placed = [id(each) for group in groups for each in group["params"]]
    assert sorted(placed) == sorted(id(each) for each in tagger.parameters() if each.requires_grad)
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {"towers": 2e-4, "encoder": 1e-4, "head": 5e-4, "vision": 3e-4, "contrast": 4e-4}
    assert id(tagger.encoder.gate.first.weight) in placed


def test_a_run_whose_figures_have_changed_has_another_behaviour_number() -> None:
    """Text's first layer had vision's first keys where vision runs first; all other runs compute as before."""
    numbers = [behaviours({"plugin": "mgips_cl", "model": model})["plugin"] for model in READINGS[:3]]
    assert numbers == [1, 2, 1]


def test_the_ablation_released_has_all_readings() -> None:
    ablation = yaml.safe_load(Path(released.__file__).with_name("defaults.yaml").read_text("utf-8"))["ablations"]
    assert ablation["released"]["model"].items() >= released.READINGS.items()


def test_padding_of_the_text_is_seen_by_vision_only_as_released() -> None:
    for shown in (False, True):
        made = encoder(mask_text_for_vision=not shown)
        some = batch(made, POSTS)
        assert some.text.attn_mask is not None and not some.text.attn_mask.all() and made.by_post != shown
        before = made(some).states
        some.text.input_ids = torch.where(some.text.attn_mask, some.text.input_ids, 3)
        assert torch.allclose(made(some).states, before, atol=1e-6) != shown


def test_a_gate_of_image_states_needs_two_of_them() -> None:
    for options in ({"final_image_mge": False}, {"use_mgi": False}, {"w_ips": 0.0, "w_cl": 0.0}):
        with pytest.raises(UsageError, match="image_gate true: it mixes"):
            MgipsOptions(image_gate=True, **options)


def test_three_steps_are_those_of_the_released_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW on every weight alike, rates by side, contrast with its own decay, gates at rest, linear from zero."""
    rates = {"tower_lr": 5e-3, "vision_lr": 1.5e-3, "contrast_lr": 4e-3, "head_lr": 5e-2}
    decay, contrast_decay, steps, warmup = 0.01, 0.0057, 8, 0.3
    made = MgipsTagger(
        head=CRFHead(), text="tiny-bert", vision="tiny-vit", tiny_heads=2, max_tokens=64, subword="copy", lr=0.7,
        mge_rates="sides", weight_decay=decay, contrast_decay=contrast_decay, decay="all", warmup=warmup,
        schedule="linear_from_zero", **rates, **SMALL, **AS_RELEASED,
    )  # fmt: skip
    made.build(FACTS)
    made.eval().encoder.training = True  # losses are of training; nothing below it drops anything

    def rate_of(name: str) -> float:
        if name.startswith("head."):
            return rates["head_lr"]
        part = name.split(".")[1]
        sides = {"text": "tower_lr", "mge_text": "tower_lr", "contrast": "contrast_lr"}
        return rates[sides.get(part, "vision_lr")]

    update = adamw(
        lambda step, name: linear_from_zero(step, steps, warmup) * rate_of(name),
        lambda name: contrast_decay if ".contrast." in name else decay,
    )
    weights = three_steps(made, batch(made.encoder, POSTS), steps, update, monkeypatch)
    assert not [name for name in weights if "gate" in name]
    moved = 0
    for name, weight in made.named_parameters():
        # a gradient of rounding alone: a key's bias where all keys are a row's own
        if weight.requires_grad and not name.endswith(("key.bias", "k_proj.bias")):
            torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=2e-5, msg=name)
            moved += 1
    assert moved > 50


@pytest.mark.parametrize("vision", ["tiny-vit", "captions"])
def test_the_tagger_asks_for_crops_of_its_size_or_for_captions(vision: str) -> None:
    tagger = MgipsTagger(head=CRFHead(), text="tiny-bert", vision=vision, crop_size=32, max_objects=2, mge_heads=4)
    tagger.build(FACTS)
    needs = tagger.needs()
    if vision == "captions":
        assert needs.views == {"captions"} and needs.caption_reader is tagger.towers["vision"].reader
        assert needs.picture is None and needs.caption_reader.max_tokens == 40
    else:
        assert needs.views == {"objects"} and needs.max_objects == 2
        assert needs.picture is not None and needs.picture.size == 32
    loader = None if needs.picture is None else PictureLoader(needs.picture)
    some = Collator(needs, loader, TagSet(TYPES))(POSTS)
    losses = tagger.train().losses(some)
    assert set(losses) == {"head", "ips", "cl"} and tagger.loss_weights() == {"ips": 1.0, "cl": 1.0}
    assert all(each.isfinite() for each in losses.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "tiny"}, "give a tower like BERT"),
        ({"vision": "tiny"}, "give a CLIP"),
        ({"mge_heads": 7}, "must divide"),
        ({"crop_size": 20}, "multiple"),
    ],
)
def test_towers_and_sizes_that_do_not_fit_are_refused(options: dict, said: str) -> None:
    given = {"text": "tiny-bert", "vision": "tiny-vit", "crop_size": 16, "mge_heads": 4, **options}
    with pytest.raises(UsageError, match=said):
        MgipsTagger(head=CRFHead(), **given).build(FACTS)


def _one_rank(rank: int, folder: Path) -> None:
    assert_ranks_learn_as_one(rank, folder, encoder, batch, (BARE[:2], POSTS[2:]))


def test_two_ranks_one_without_pictures_learn_what_one_process_learns(tmp_path) -> None:
    in_two_ranks(_one_rank, tmp_path)
