"""HVPNet: what words see of image and objects, and what is left where nothing is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from visual_prefix_cases import (
    LAYERS,
    STAGES,
    TYPES,
    WIDTH,
    VisualPrefixCases,
    assert_read_alike_alone,
    bare,
    batch_of,
    own_parameters,
    paper_towers,
    posts,
    towers,
)
from written_out_steps import adamw, linear_from_zero, three_steps

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import UsageError
from mnerkit.methods.parameter_counts import count
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.tiny import TinyText
from mnerkit.towers.vision.tiny_cnn import TinyVision
from mnerkit_plugins.hvpnet.model import HvpnetEncoder
from mnerkit_plugins.hvpnet.options import HvpnetOptions
from mnerkit_plugins.hvpnet.tagger import HvpnetTagger


def encoder(captions=False, frozen=True, **options):
    o = HvpnetOptions(**{"hidden": 20, "dropout": 0.0, **options})
    text, sight = towers(captions, frozen)
    sight.absent, sight.tower.drifting = o.absent, o.trunk_norm == "train"
    return HvpnetEncoder(text, sight, o).eval()


class TestHvpnet(VisualPrefixCases):
    def encoder(self):
        return encoder()


@pytest.mark.parametrize("captions", [False, True])
def test_pictures_change_the_states_of_their_own_post_alone(captions):
    made = encoder(captions)
    plain = made.text(batch_of(made, posts()).text).words
    mixed = made(batch_of(made, [bare(each) if place % 2 else each for place, each in enumerate(posts())])).states[0]
    for place in range(len(posts())):
        changed = float((mixed[place] - plain[place]).detach().abs().max())
        assert changed < 1e-5 if place % 2 else changed > 1e-4


@pytest.mark.parametrize("options", [{}, {"pictures": "image"}, {"pictures": "objects"}, {"captions": True}])
def test_a_post_is_read_alike_alone_and_among_longer_ones(options):
    made = encoder(**options)
    assert_read_alike_alone(made, made(batch_of(made, posts())).states[0])


def test_the_prefix_is_the_gated_sum_of_slices_of_two_maps():
    """One picture by hand: x -> W2 tanh(W1 x), cut into stages; the layer's gates weigh them; keys, then values."""
    made = encoder(pictures="image")
    batch = batch_of(made, posts()[:1])
    prefix, seen, gates = made.look(batch)
    maps = [torch.nn.functional.adaptive_avg_pool2d(each, 2) for each in seen.maps]
    x = torch.cat(maps, 1)[0, :, 1, 0]  # position 2
    slices = made.to_slices(x).view(STAGES, 2 * WIDTH)
    expected = (gates[0, 0, 1].unsqueeze(1) * slices).sum(0)
    torch.testing.assert_close(prefix.keys[1][0, 2], expected[:WIDTH])
    torch.testing.assert_close(prefix.values[1][0, 2], expected[WIDTH:])
    assert prefix.mask.shape == (1, 4) and prefix.mask.all()


def test_the_released_layout_is_the_bare_reshape():
    made = encoder(layout="released")
    maps = [torch.randn(2, c, side, side) for c, side in ((4, 8), (8, 4), (32, 2), (32, 2))]
    pooled = torch.cat([torch.nn.functional.adaptive_avg_pool2d(each, 2) for each in maps], 1)
    torch.testing.assert_close(made.positions(maps), pooled.reshape(2, 4, -1))
    made.options = replace(made.options, layout="proper")
    torch.testing.assert_close(made.positions(maps), pooled.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    "options",
    [
        {"gate": False},
        {"gate_input": "mean"},
        {"layout": "released"},
        {"prefix_grid": 1},
        {"standardise": True},
        {"absent": "zeros"},
        {"absent": "zeros", "prefix_heads": "released"},
        {"prefix_grid": 3, "pool": "released"},
        {"prefix_map": "per_layer"},
        {"stages": "last"},
        {"stages": "by_layer"},
    ],
)
def test_every_reading_runs_and_differs(options):
    few = [posts()[0], bare(posts()[1])]
    torch.manual_seed(1)
    made, usual = encoder(**options), encoder()
    assert not torch.equal(made(batch_of(made, few)).states, usual(batch_of(usual, few)).states)


def test_gates_are_told_for_each_picture_and_layer():
    made = encoder()
    trace = made(batch_of(made, posts()), trace=True).trace
    assert trace["gate"].shape == (len(posts()), 4, LAYERS, STAGES)
    sums = trace["gate"].sum(-1)
    torch.testing.assert_close(sums, trace["picture_mask"].unsqueeze(-1).float().expand_as(sums))


def test_towers_that_do_not_serve_are_refused_in_a_line():
    text, sight = towers()
    with pytest.raises(UsageError, match="takes no prefix"):
        HvpnetEncoder(TinyText(CorpusFacts(())), sight, HvpnetOptions())
    with pytest.raises(UsageError, match="has no stages"):
        HvpnetEncoder(text, Sight(TinyText(CorpusFacts(()))), HvpnetOptions())
    with pytest.raises(UsageError, match="have no objects"):
        HvpnetEncoder(text, towers(captions=True)[1], HvpnetOptions(pictures="objects"))
    assert HvpnetEncoder(text, Sight(freeze(TinyVision())), HvpnetOptions()).stages == 4


def test_at_the_papers_size_it_has_the_papers_parameters():
    with torch.device("meta"):
        made = HvpnetEncoder(*paper_towers(), HvpnetOptions())
    assert own_parameters(made) == {
        "to_slices": 3840 * 800 + 800 + 800 * 6144 + 6144,
        "gate": 12 * (4 * 1536 * 4 + 4),
    }


# ---------------------------------------------------------------------- what the readings have in common and apart


def maps_of(*sides):
    return [torch.randn(2, c, side, side) for c, side in zip((4, 8, 32, 32), sides, strict=True)]


def exchanged(maps, *places):
    """The maps of 2 x 2 places with two of these places exchanged."""
    order = list(range(4))
    order[places[0]], order[places[1]] = places[1], places[0]
    return [each.flatten(2)[..., order].unflatten(2, (2, 2)) for each in maps]


def test_places_of_a_map_are_positions_and_a_gate_of_means_does_not_tell_them_apart():
    maps = maps_of(2, 2, 2, 2)
    made = encoder()
    torch.testing.assert_close(made.positions(exchanged(maps, 0, 3)), made.positions(maps)[:, [3, 1, 2, 0]])
    mixed = encoder(layout="released")
    before, after = mixed.positions(maps), mixed.positions(exchanged(maps, 0, 3))
    assert not torch.equal(before, after)
    # a position holds some channels at all places, so nothing moves to another position
    torch.testing.assert_close(before.sort(-1).values, after.sort(-1).values)
    for gate_input, equal in (("mean", True), ("flat", False)):
        made = encoder(gate_input=gate_input)
        slices = torch.randn(2, STAGES, 4, 2 * WIDTH)
        mask = torch.ones(2, 4, dtype=torch.bool)
        assert torch.allclose(made.weights(slices, mask), made.weights(slices[:, :, [1, 0, 2, 3]], mask)) == equal


@pytest.mark.parametrize(("gate_input", "same"), [("mean", True), ("flat", False)])
def test_the_order_of_places_counts_only_for_gates_that_read_them_one_by_one(gate_input, same):
    made = encoder(gate_input=gate_input)
    for weight in (made.gate.map.weight, made.to_slices[-1].weight):  # made to count
        torch.nn.init.normal_(weight)
    batch, positions = batch_of(made, posts()[:2]), made.positions
    states = made(batch).states
    made.positions = lambda maps: positions(maps)[:, [2, 0, 3, 1]]
    assert torch.allclose(made(batch).states, states, atol=1e-5) == same


def test_a_gate_of_zeros_weighs_all_stages_alike():
    made = encoder()
    torch.nn.init.zeros_(made.gate.map.weight)
    torch.nn.init.zeros_(made.gate.map.bias)
    gates = made.look(batch_of(made, posts()[:1]))[2]
    assert torch.equal(gates, torch.full_like(gates, 0.25))


def test_pooling_agrees_where_the_grid_divides_the_side():
    adaptive, released = encoder(), encoder(pool="released")
    even, odd = maps_of(8, 8, 4, 2), maps_of(8, 8, 4, 7)
    assert torch.allclose(adaptive.positions(even), released.positions(even))
    assert not torch.allclose(adaptive.positions(odd), released.positions(odd))
    edge = [each.clone() for each in odd]
    edge[-1][..., -1] += 1.0
    assert torch.equal(released.positions(edge), released.positions(odd)), "the last column counts"


def prefixes(heads, released):
    """Keys (1, heads, 16, d / heads) that heads of the first layer see, with a post's own objects and with others."""
    facts = CorpusFacts.of(TYPES, posts())
    text = text_tower("tiny-bert", facts=facts, width=48, layers=1, heads=heads)
    o = HvpnetOptions(hidden=20, dropout=0.0, absent="zeros", prefix_heads="released" if released else "proper")
    torch.manual_seed(0)
    made = HvpnetEncoder(text, Sight(freeze(TinyVision(width=WIDTH, channels=4)), absent="zeros"), o).eval()
    batch = batch_of(made, posts()[:1])
    other = replace(batch, crops=torch.rand_like(batch.crops), crop_sources=None)
    return [made.look(each)[0].keys[0].view(1, -1, heads, 48 // heads).transpose(1, 2) for each in (batch, other)]


@pytest.mark.parametrize("heads, alone", [(4, True), (12, True), (3, False)])
def test_in_the_released_reading_the_first_head_sees_the_image_alone_if_its_rows_end_with_it(heads, alone):
    own, other = prefixes(heads, released=True)
    assert torch.equal(own[:, 0], other[:, 0]) == alone
    assert not torch.equal(own[:, -1], other[:, -1])
    own, other = prefixes(heads, released=False)
    assert not any(torch.equal(own[:, head], other[:, head]) for head in range(heads))


def test_in_the_released_reading_the_order_of_objects_matters():
    made = encoder(absent="zeros", prefix_heads="released")
    batch = batch_of(made, posts()[:2])
    turned = replace(batch, crops=batch.crops[:, [2, 0, 1]], crop_sources=None)
    assert not torch.allclose(made(batch).states, made(turned).states, atol=1e-4)


def test_what_stands_in_an_absent_place_counts_only_if_it_is_shown():
    made, shown = encoder(), encoder(absent="zeros")
    few = posts()[:2]
    for each, counts in ((made, False), (shown, True)):
        batch = batch_of(each, few)
        batch.crop_mask = batch.crop_mask.clone()
        batch.crop_mask[0, 1:] = False
        noise = torch.zeros_like(batch.crops)
        noise[0, 1:] = torch.randn_like(noise[0, 1:])
        own, noisy = each(batch).states[0], each(replace(batch, crops=batch.crops + noise, crop_sources=None)).states[0]
        assert torch.equal(own[1], noisy[1])
        assert torch.equal(own[0], noisy[0]) != counts
    batch = batch_of(shown, [bare(each) for each in few])
    assert batch.crops.shape[1] == 3 and not batch.crop_mask.any()
    prefix = shown.look(batch)[0]
    assert prefix.mask.all() and prefix.mask.shape[1] == 16


def test_statistics_that_move_make_a_post_depend_on_its_mates_in_training_alone():
    made = encoder(trunk_norm="train")
    few = batch_of(made, posts()[:2])
    alone = few.select(torch.tensor([0]))
    assert torch.allclose(made(few).states[0, 0], made(alone).states[0, 0], atol=1e-5)
    before = made.sight.tower.layers[0].norm.running_mean.clone()
    made.sight.train()
    assert not torch.allclose(made(few).states[0, 0], made(alone).states[0, 0], atol=1e-4)
    assert not torch.equal(before, made.sight.tower.layers[0].norm.running_mean)
    assert not any(each.requires_grad for each in made.sight.parameters())
    assert not made.sight.tower.external


@pytest.mark.parametrize("reading", ["pool", "layout"])
def test_captions_refuse_readings_of_places(reading):
    with pytest.raises(UsageError, match=f"--model.{reading} released: the words of a caption have no grid"):
        encoder(captions=True, **{reading: "released"})


def test_own_keys_of_captions_are_what_each_layer_makes_of_the_caption():
    made = encoder(captions=True, caption_keys="own", vision="captions")
    batch = batch_of(made, posts())
    prefix, captions = made.own_prefix(batch), batch.captions
    mask = captions.read_mask.view(len(posts()), -1)
    assert torch.equal(prefix.mask, mask)
    states = made.text.model(captions.input_ids, attention_mask=captions.attn_mask, output_hidden_states=True)
    for number in range(LAYERS):
        attention = made.text.model.encoder.layer[number].attention.self
        for found, linear in ((prefix.keys, attention.key), (prefix.values, attention.value)):
            pieces = linear(states.hidden_states[number])  # (B m, n, d)
            for row, place in captions.read_mask.nonzero().tolist():
                expected = pieces[row, captions.first_piece[row, place]]
                torch.testing.assert_close(found[number].view(len(pieces), -1, WIDTH)[row, place], expected)
    prefix.keys[0].sum().backward()  # the live tower: its maps learn from what reads the caption
    assert made.text.model.encoder.layer[0].attention.self.key.weight.grad.abs().sum() > 0
    assert (
        sum(weight.numel() for name, weight in made.named_parameters() if not name.startswith(("text", "sight"))) == 0
    )


def test_own_keys_change_the_states_of_posts_with_captions_alone():
    made = encoder(captions=True, caption_keys="own", vision="captions")
    plain = made.text(batch_of(made, posts()).text).words
    mixed = made(batch_of(made, [bare(each) if place % 2 else each for place, each in enumerate(posts())])).states[0]
    for place in range(len(posts())):
        changed = float((mixed[place] - plain[place]).detach().abs().max())
        assert changed < 1e-5 if place % 2 else changed > 1e-4
    nothing = made(batch_of(made, [bare(each) for each in posts()])).states[0]
    torch.testing.assert_close(nothing, plain)
    with pytest.raises(UsageError, match=r"--model.caption_keys own: pictures have no keys"):
        HvpnetOptions(caption_keys="own", vision="tiny")


def test_captions_refuse_readings_of_pixels():
    for name, value in (("absent", "zeros"), ("picture_fit", "centre_crop"), ("trunk_norm", "train")):
        tagger = HvpnetTagger(text="tiny-bert", vision="captions", **{name: value})
        with pytest.raises(UsageError, match=f"--model.{name} {value}: captions have no pixels"):
            tagger.build(CorpusFacts.of(TYPES, posts()))


def test_readings_that_undo_one_another_are_refused():
    with pytest.raises(UsageError, match="prefix_heads released: absent pictures can't be masked"):
        HvpnetOptions(prefix_heads="released")
    with pytest.raises(UsageError, match="prefix_map per_layer"):
        HvpnetOptions(prefix_map="per_layer", layout="released")


def test_one_released_reading_of_four_is_remarked(caplog):
    HvpnetTagger(layout="released", text="tiny-bert").build(CorpusFacts.of(TYPES, posts()))
    assert "--ablation released" in caplog.text and "--model.pool released" in caplog.text


def test_the_papers_rows_take_one_stage_a_layer():
    few = posts()[:1]
    deep = encoder(stages="last")
    assert deep.gate is None and deep.to_slices[0].in_features == deep.sight.stage_widths[-1]
    by_layer = encoder(stages="by_layer")
    gates = by_layer.look(batch_of(by_layer, few))[2]
    assert gates[0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]  # two layers, four stages


# ---------------------------------------------------------------------- as released: sizes and steps


def test_as_released_it_has_as_many_parameters_as_its_authors_model():
    model = {"text": "bert-base-uncased", "vision": "resnet50", "subword": "X"}
    parts, _ = count({"plugin": "hvpnet", "model": model, "data": {"corpus": "twitter2017"}})
    numbers = {each.part: each.parameters for each in parts}
    pooler = 768 * 768 + 768  # which BERT has there and nothing reads
    assert numbers["tower text"] == 109_482_240 - pooler
    assert numbers["tower vision"] == 23_508_032
    assert numbers["encoder to_slices"] == 7_994_144 and numbers["encoder gate"] == 294_960
    assert numbers["head"] == 9_997 + 195
    assert sum(each.trainable for each in parts) == 117_190_944


def test_three_steps_are_those_of_the_released_optimiser(monkeypatch):
    """AdamW on every weight alike, two rates, the linear schedule from zero, no clipping, written out."""
    # a larger rate of the towers than 3e-5, so that the decay of their norms is no rounding
    lr, head_lr, decay, steps, warmup = 3e-3, 5e-2, 0.01, 8, 0.3
    made = HvpnetTagger(
        text="tiny-bert", hidden=20, dropout=0.0, subword="X", freeze_vision=True, lr=lr, head_lr=head_lr,
        weight_decay=decay, decay="all", schedule="linear_from_zero", warmup=warmup,
    )  # fmt: skip
    torch.manual_seed(0)
    made.build(CorpusFacts.of(TYPES, posts()))
    made.eval()
    update = adamw(
        lambda step, name: linear_from_zero(step, steps, warmup) * (head_lr if name.startswith("head.") else lr),
        lambda _: decay,
    )
    weights = three_steps(made, batch_of(made.encoder, posts()), steps, update, monkeypatch)
    for name, weight in weights.items():
        torch.testing.assert_close(made.get_parameter(name), weight, rtol=1e-5, atol=3e-6, msg=name)
