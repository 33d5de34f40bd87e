"""UMGF: what words take in of objects, what they don't, and how its authors trained it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from visual_prefix_cases import (
    TYPES,
    assert_read_alike_alone,
    bare,
    batch_of,
    own_parameters,
    posts,
    towers,
    without_gradient,
)
from written_out_steps import adamw, three_steps

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import UsageError
from mnerkit.methods.parameter_counts import count
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.vision.tiny_cnn import TinyVision
from mnerkit_plugins.umgf.graph_layer import GraphLayer, Links, PairGates
from mnerkit_plugins.umgf.model import UmgfEncoder, sinusoids
from mnerkit_plugins.umgf.options import UmgfOptions
from mnerkit_plugins.umgf.tagger import UmgfTagger

SIZES = {"width": 24, "hidden": 12, "heads": 4, "dropout": 0.0}


def encoder(captions=False, **options):
    text, sight = towers(captions)
    torch.manual_seed(1)
    return UmgfEncoder(text, sight, UmgfOptions(**{**SIZES, **options})).eval()


def without_links(words, objects):
    return torch.zeros(*words.shape, objects.shape[1], dtype=torch.bool)


def test_without_links_words_are_free_of_pictures():
    made = encoder()
    made.links = without_links
    batch = batch_of(made, posts())
    other = replace(batch, crops=torch.rand_like(batch.crops), crop_sources=None)
    assert torch.equal(made(batch).states, made(other).states)
    made.links = UmgfEncoder.links.__get__(made)
    assert not torch.allclose(made(batch).states, made(other).states, atol=1e-3)


@pytest.mark.parametrize("captions", [False, True])
def test_a_post_without_objects_is_read_as_by_a_transformer(captions):
    """Nothing is taken in: the intake adds zeros, and its norm stays."""
    made = encoder(captions)
    batch = batch_of(made, [bare(each) for each in posts()])
    states = made(batch).states[0]
    mask, x = batch.text.read_mask, made.word_map(made.text(batch.text).words)
    for layer in made.layers:
        side = layer.words
        x = side.think(side.around_intake.norm(side.look(x, mask)), side.feedforward)
    torch.testing.assert_close(states[..., -24:], x * mask.unsqueeze(-1))


def test_objects_and_links_permuted_together_leave_words_as_they_are():
    torch.manual_seed(0)
    layers = [GraphLayer(UmgfOptions(**SIZES)), GraphLayer(UmgfOptions(**SIZES), last=True)]
    words, objects = torch.randn(2, 5, 24), torch.randn(2, 4, 24)
    real, shown, pairs = torch.ones(2, 5, dtype=bool), torch.rand(2, 4) < 0.7, torch.rand(2, 5, 4) < 0.5
    order = torch.tensor([2, 0, 3, 1])

    def through(nodes, links):
        x, o, _ = layers[0](words, nodes, links)
        return layers[1](x, o, links)[0]

    usual = through(objects, Links(real, shown, pairs))
    turned = through(objects[:, order], Links(real, shown[:, order], pairs[..., order]))
    torch.testing.assert_close(usual, turned)


def test_a_gate_is_one_map_of_both_vectors_side_by_side():
    gates, words, objects = PairGates(24), torch.randn(2, 3, 24), torch.randn(2, 5, 24)
    both = torch.cat((words.unsqueeze(2).expand(-1, -1, 5, -1), objects.unsqueeze(1).expand(-1, 3, -1, -1)), -1)
    torch.testing.assert_close(gates(words, objects), gates.map(both).sigmoid())


@pytest.mark.parametrize("intake", ["sum", "mean"])
def test_gates_of_zeros_take_half_and_a_doubled_object_counts_twice_under_sum(intake):
    layer = GraphLayer(UmgfOptions(**SIZES, intake=intake))
    torch.nn.init.zeros_(layer.words.gates.map.weight)
    torch.nn.init.zeros_(layer.words.gates.map.bias)
    words, objects = torch.randn(1, 2, 24), torch.randn(1, 3, 24)
    links = torch.tensor([[[True, True, False], [True, True, True]]])
    taken = layer.taken(layer.words.gates(words, objects), objects, links)
    parts = [objects[0, :2] / 2, objects[0] / 2]
    torch.testing.assert_close(taken[0], torch.stack([getattr(each, intake)(0) for each in parts]))
    twice = torch.cat((objects, objects[:, :1]), 1)
    more = layer.taken(layer.words.gates(words, twice), twice, torch.cat((links, links[..., :1]), 2))
    torch.testing.assert_close(more[0, 1], (parts[1].sum(0) + parts[1][0]) / (1 if intake == "sum" else 4))


@pytest.mark.parametrize("options", [{}, {"visual": "regions"}, {"captions": True}, {"positions": "sine"}])
def test_a_post_is_read_alike_alone_and_among_longer_ones(options):
    made = encoder(**options)
    assert_read_alike_alone(made, made(batch_of(made, posts())).states[0])


def test_a_masked_object_is_as_good_as_removed():
    made = encoder(max_objects=3)
    batch = batch_of(made, posts())
    kept = batch.crop_mask.shape[1] - 1
    shown = batch.crop_mask & (torch.arange(kept + 1) < kept)
    masked = replace(batch, crop_mask=shown, crop_sources=None)
    noisy = replace(masked, crops=torch.where(shown[..., None, None, None], batch.crops, 9.0))
    removed = replace(
        masked, crops=batch.crops[:, :kept], crop_mask=shown[:, :kept], crop_image=batch.crop_image[:, :kept]
    )
    assert torch.equal(made(masked).states, made(noisy).states)
    torch.testing.assert_close(made(masked).states, made(removed).states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"links": "to_words"}, {"links": "none"}, {"share_modalities": True}, {"object_attention": "none"},
     {"object_attention": "released"}, {"share_modalities": True, "object_attention": "none"}],
)  # fmt: skip
@pytest.mark.parametrize("seen", [True, False])
def test_no_weight_is_idle_with_and_without_pictures(options, seen):
    text, sight = towers()
    o = UmgfOptions(**SIZES, **options)
    made = UmgfEncoder(text, None if o.links == "none" else sight, o).train()
    batch = batch_of(encoder(), posts() if seen else [bare(each) for each in posts()])
    made(batch).states.square().sum().backward()
    assert without_gradient(made) == []


def test_objects_of_several_images_are_nodes():
    made = encoder(max_images=2)
    first, second, *_ = posts()
    both = replace(first, images=first.images + second.images)
    batch = batch_of(made, [both], images=2)
    trace = made(batch, trace=True).trace
    assert trace["visual_mask"].sum() > batch_of(made, [both]).crop_mask.sum()
    assert trace["gate"].shape[1:] == (2, len(both.words), batch.crops.shape[1])
    assert torch.equal(made(batch_of(made, [both])).states, made(batch_of(made, [first])).states)


def test_sinusoids_are_sines_and_cosines_in_turn():
    table = sinusoids(7, 5)
    assert table.shape == (7, 5) and torch.equal(table[0], torch.tensor([0.0, 1, 0, 1, 0]))
    assert float(table[3, 2]) == pytest.approx(torch.tensor(3 * 10000 ** (-2 / 5)).sin().item(), abs=1e-6)


def test_statistics_of_a_trained_trunk_stay_unless_options_say_so():
    for norm in ("eval", "train"):
        o = UmgfOptions(**SIZES, trunk_norm=norm, visual="regions")
        made = UmgfEncoder(towers()[0], Sight(TinyVision(width=32, channels=4)), o)
        statistics = made.sight.tower.layers[0].norm.running_mean.clone()
        made.train()(batch_of(made, posts())).states.sum().backward()
        assert torch.equal(statistics, made.sight.tower.layers[0].norm.running_mean) == (norm == "eval")
        assert made.sight.tower.layers[0].norm.weight.grad is not None


def test_options_that_undo_one_another_are_refused():
    for options, name in (
        ({"width": 30, "heads": 4}, "heads 4 does not divide"),
        ({"rate_decay": 0.8}, "rate_decay 0.8"),
        ({"share_modalities": True, "object_attention": "released"}, "share_modalities true"),
    ):
        with pytest.raises(UsageError, match=name):
            UmgfOptions(**options)


# ---------------------------------------------------------------------- as released: sizes and steps


def test_as_released_it_has_as_many_parameters_as_its_authors_model():
    model = {"text": "bert-base-cased", "vision": "resnet152", "subword": "X", "freeze_vision": False}
    model |= {"graph_layers": 6, "object_attention": "released", "object_width": 2048}
    model |= {"width": 512, "hidden": 256, "heads": 8, "max_objects": 4}
    parts, _ = count({"plugin": "umgf", "model": model, "data": {"corpus": "twitter2017"}})
    numbers = {each.part: each.parameters for each in parts}
    pooler = 768 * 768 + 768  # which BERT has there and nothing reads
    idle = (1024 * 512 + 512) + 4 * 512 + (512 * 256 + 256 + 256 * 512 + 512)  # gate, two norms, FFN of the last layer
    assert numbers["tower text"] == 108_310_272 - pooler
    assert numbers["tower vision"] == 58_143_808
    assert numbers["encoder object_reader"] == 4_196_352
    assert numbers["encoder word_map"] == 393_728 and numbers["encoder object_map"] == 1_311_744
    assert numbers["encoder layers"] == 18_945_024 - idle
    assert numbers["head"] == 16_653 + 195
    assert sum(each.parameters for each in parts) == 191_317_776 - pooler - idle


def test_three_steps_are_those_of_the_released_optimiser(monkeypatch):
    """Adam at one rate for all weights, without decay or clipping, x 0.8 every two epochs, written out."""
    lr, drop = 1e-3, 0.8
    made = UmgfTagger(
        text="tiny-bert", vision="tiny", subword="X", freeze_vision=False, lr=lr, weight_decay=0.0,
        schedule="constant", warmup=0.0, rate_decay=drop, **SIZES,
    )  # fmt: skip
    torch.manual_seed(0)
    made.build(CorpusFacts.of(TYPES, posts()))
    made.eval()
    # each step is the only one of its epoch
    update = adamw(lambda step, _: lr * drop ** (step // 2), lambda _: 0.0)
    weights = three_steps(made, batch_of(made.encoder, posts()), 9, update, monkeypatch)
    assert made.configure_optimizers()["lr_scheduler"]["interval"] == "epoch"
    # a softmax does not see what is added to all keys: the gradient of that bias is rounding, which Adam blows up
    for name, weight in weights.items():
        if name.endswith("key.bias"):
            continue
        torch.testing.assert_close(made.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name)


def test_own_parameters_of_the_last_layer_update_words_alone():
    made = encoder(graph_layers=1)
    assert own_parameters(made)["layers"] == sum(
        each.numel() for name, each in made.layers[0].named_parameters() if name.startswith(("words.", "objects."))
    )
    assert {name.split(".")[1] for name, _ in made.layers[0].named_parameters() if name.startswith("objects.")} == {
        "attention", "around_attention",
    }  # fmt: skip
