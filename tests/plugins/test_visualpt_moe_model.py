"""VisualPT-MoE: what experts make of their sources, how routers mix it, and how its authors trained it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from visual_prefix_cases import (
    LAYERS,
    TYPES,
    WIDTH,
    bare,
    own_parameters,
    paper_towers,
    posts,
    towers,
    without_gradient,
)
from written_out_steps import adamw, linear_from_zero, three_steps

from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import UsageError
from mnerkit.methods.parameter_counts import count
from mnerkit.towers.text.tiny import TinyText
from mnerkit_plugins.visualpt_moe.model import Source, VisualptMoeEncoder
from mnerkit_plugins.visualpt_moe.options import EXPERTS, VisualptMoeOptions
from mnerkit_plugins.visualpt_moe.tagger import VisualptMoeTagger

SIZES = {"slots": 6, "prompt_hidden": 12, "dropout": 0.0}


def encoder(frozen=True, **options):
    o = VisualptMoeOptions(**{**SIZES, **options})
    text, sight = towers(frozen=frozen)
    torch.manual_seed(1)
    made = VisualptMoeEncoder(text, sight if {"image", "objects", "labels"} & {*o.experts()} else None, o)
    for expert in made.experts.values():  # made to count, where training would begin from little
        torch.nn.init.normal_(expert.mlp[2].weight, std=0.3)
    return made.eval()


def batch_of(made, rows, images=1):
    pixels = towers()[1] if made.sight is None else made.sight
    reader = made.text.reader
    needs = pixels.needs(reader, ("whole", "objects"), max_images=images)
    needs = replace(needs, views=needs.views | {"captions"}, caption_reader=reader)
    return Collator(needs, PictureLoader(needs.picture), TagSet(TYPES))(rows)


def without_parts(post):
    """The post's picture with neither objects nor a caption."""
    return replace(
        post, id=post.id + "-plain", images=tuple(replace(each, caption=None, objects=()) for each in post.images)
    )


def scores_of_zero(made):
    for router in made.routers:
        torch.nn.init.zeros_(router.weight)
        torch.nn.init.zeros_(router.bias)


# ---------------------------------------------------------------------- routes


def test_a_router_of_zeros_gives_each_expert_a_fifth():
    made = encoder()
    scores_of_zero(made)
    encoded = made(batch_of(made, posts()), trace=True)
    torch.testing.assert_close(encoded.trace["route"], torch.full((len(posts()), LAYERS, 5), 0.2))
    assert float(encoded.losses["balance"].detach()) == pytest.approx(LAYERS / 5)


def test_a_huge_bias_makes_the_prefix_that_of_one_expert():
    made = encoder()
    scores_of_zero(made)
    with torch.no_grad():
        for router in made.routers:
            router.bias[made.names.index("caption")] = 1e4
    batch, seen = batch_of(made, posts()), {}
    forward = made.text.forward
    object.__setattr__(made.text, "forward", lambda text, prefix=None: seen.update(p=prefix) or forward(text, prefix))
    encoded = made(batch)
    assert float(encoded.losses["balance"].detach()) == pytest.approx(LAYERS)
    keys, values = made.experts["caption"](made.of_caption(batch).rows)
    torch.testing.assert_close(seen["p"].keys, keys)
    torch.testing.assert_close(seen["p"].values, values)


@pytest.mark.parametrize("router, same", [("released", True), ("text", False), ("uniform", True)])
def test_routes_follow_the_words_only_if_the_router_reads_them(router, same):
    made = encoder(router=router)
    first, second, *_ = posts()
    other = replace(first, id="other", words=second.words, tags=second.tags)
    routes = made(batch_of(made, [first, other]), trace=True).trace["route"]
    assert torch.allclose(routes[0], routes[1], atol=1e-6) == same


def test_what_a_post_lacks_is_not_mixed_unless_all_are():
    few = [posts()[0], without_parts(posts()[1]), bare(posts()[2])]
    made = encoder()
    routes = made(batch_of(made, few), trace=True).trace["route"]
    assert (routes[0] > 0).all()
    absent = {1: ("labels", "caption"), 2: ("image", "objects", "labels", "caption")}  # set places stand for objects
    for row, names in absent.items():
        for name in EXPERTS:
            assert bool((routes[row, :, EXPERTS.index(name)] > 0).all()) == (name not in names), (row, name)
    torch.testing.assert_close(routes.sum(-1), torch.ones(3, LAYERS))
    everything = encoder(route="all")
    assert (everything(batch_of(everything, few), trace=True).trace["route"] > 0).all()


def test_a_post_without_any_source_is_read_as_bert_reads_it():
    made = encoder(use_random=False)
    batch = batch_of(made, [bare(each) for each in posts()])
    encoded = made(batch, trace=True)
    assert torch.equal(encoded.states[0], made.text(batch.text).words)
    assert not encoded.trace["route"].any()


def test_evaluation_is_free_of_noise_and_equals_training_without():
    made = encoder(noise=0.5)
    batch = batch_of(made, posts()[:2])
    states = made(batch).states
    assert torch.equal(states, made(batch).states)
    made.text.model.train(False)
    made.training = True  # the towers stay as they are
    assert not torch.equal(states, made(batch).states)
    made.options = replace(made.options, noise=0.0)
    assert torch.equal(states, made(batch).states)


@pytest.mark.parametrize("layout", ["proper", "released"])
def test_slots_permuted_in_all_experts_and_routers_change_nothing(layout):
    made = encoder(router_layout=layout)
    batch, order = batch_of(made, posts()), torch.tensor([3, 0, 5, 1, 4, 2])
    states, sources = made(batch).states, made.sources(batch)
    with torch.no_grad():
        for router in made.routers:
            shape = (5, 6, WIDTH) if layout == "proper" else (5, made.heads, 6, WIDTH // made.heads)
            weight = router.weight.view(shape)
            router.weight.copy_(weight.index_select(-2, order).reshape(router.weight.shape))
    made.sources = lambda _: {name: Source(rows[:, order], real[:, order]) for name, (rows, real, _) in sources.items()}
    torch.testing.assert_close(made(batch).states, states, rtol=1e-4, atol=1e-5)


def test_without_text_the_layout_of_the_router_is_an_order_of_its_weights():
    proper, released = encoder(), encoder(router_layout="released")
    with torch.no_grad():
        for one, other in zip(proper.routers, released.routers, strict=True):
            heads = one.weight.view(5, 6, proper.heads, -1).transpose(1, 2)  # from slots to heads first
            other.weight.copy_(heads.reshape(other.weight.shape))
    batch = batch_of(proper, posts())
    torch.testing.assert_close(proper(batch).states, released(batch).states)


# ---------------------------------------------------------------------- sources


def test_rows_are_those_of_the_pooled_stages_then_zeros():
    made = encoder(prefix_grid=1)
    batch = batch_of(made, posts()[:2])
    image, objects = made.of_image(batch), made.of_objects(batch)
    maps = made.sight.whole(batch, stages=True).states.stages
    torch.testing.assert_close(image.rows[0, 0], torch.cat([each[0].mean((1, 2)) for each in maps]))
    assert image.real.sum(1).tolist() == [1, 1] and not image.rows[:, 1:].any()
    assert objects.real.sum(1).tolist() == batch.crop_mask.sum(1).tolist()


def test_labels_and_captions_are_rows_of_the_word_table_then_of_its_padding():
    made = encoder(max_labels=1)
    post = posts()[0]
    batch = batch_of(made, [post])
    with torch.no_grad():
        made.text.model.get_input_embeddings().weight.add_(1.0)  # training does not move the copy
    for source, words in (
        (made.of_labels(batch), post.images[0].objects[0].label.split()),
        (made.of_caption(batch), post.images[0].caption.split()),
    ):
        text = made.text.reader.collate([words])
        ids = text.input_ids[0][text.piece_word[0] >= 0][:6]
        expected = torch.cat((made.table[ids], made.table[made.padding].expand(6 - len(ids), -1)))
        assert torch.equal(source.rows[0], expected) and source.real[0].sum() == len(ids)


def test_zero_rows_give_equal_slots_and_may_add_nothing():
    made = encoder(prefix_grid=1)
    batch = batch_of(made, posts()[:1])
    keys = made.experts["image"](made.of_image(batch).rows)[0][0]
    torch.testing.assert_close(keys[0, 1], keys[0, 5])
    assert not torch.allclose(keys[0, 0], keys[0, 1])
    images = [f"use_{name}" for name in EXPERTS if name != "image"]
    states = {}
    for empty in ("constant", "nothing"):
        alone = encoder(prefix_grid=1, empty=empty, **dict.fromkeys(images, False))
        states[empty] = alone(batch).states
    assert not torch.allclose(states["constant"], states["nothing"], atol=1e-4)
    # only the slot with a row is seen: as many as that
    one = encoder(prefix_grid=1, slots=1, **dict.fromkeys(images, False))
    one.experts.load_state_dict(alone.experts.state_dict())
    torch.testing.assert_close(one(batch).states, states["nothing"])


def test_several_images_fill_the_image_expert_in_order():
    made = encoder(prefix_grid=1)
    first, second, *_ = posts()
    both = replace(first, images=first.images + second.images)
    batch = batch_of(made, [both, second], images=2)
    image, objects = made.of_image(batch), made.of_objects(batch)
    assert image.real.sum(1).tolist() == [2, 1]
    torch.testing.assert_close(image.rows[0, 1], image.rows[1, 0])
    own = len(both.images[0].objects[:3])
    torch.testing.assert_close(objects.rows[0, own], objects.rows[1, 0])


def test_images_and_objects_are_each_standardised_by_their_own():
    made, batch = encoder(prefix_grid=1, standardise=True), batch_of(encoder(), posts())
    made.train()
    for source in (made.of_image(batch), made.of_objects(batch)):
        rows = source.rows[source.real]
        torch.testing.assert_close(rows.mean(0), torch.zeros(rows.shape[1]), atol=1e-4, rtol=0)
        varies = rows.var(0, correction=0)
        assert varies.max() <= 1.01 and varies.median() > 0.5  # a channel that hardly varies stays so
    assert not torch.allclose(made.norms["image"].norm.running_mean, made.norms["objects"].norm.running_mean)


# ---------------------------------------------------------------------- the whole


@pytest.mark.parametrize("options", [{}, {"router": "text"}, {"words": "tower"}, {"empty": "nothing"}])
def test_a_post_is_read_alike_alone_and_among_longer_ones(options):
    made = encoder(**options)
    together = made(batch_of(made, posts())).states[0]
    assert together.shape[1] == max(len(each.words) for each in posts())
    for number in (0, 3):
        alone = made(batch_of(made, [posts()[number]])).states[0, 0]
        torch.testing.assert_close(together[number, : len(alone)], alone, atol=1e-5, rtol=1e-4)
        assert not together[number, len(alone) :].any()


@pytest.mark.parametrize(
    "options",
    [{}, {"router": "text"}, {"router": "uniform"}, {"standardise": True}, {"words": "tower"}, {"use_random": False},
     {"frozen": False},
     {"use_image": False, "use_objects": False, "frozen": False}],
)  # fmt: skip
@pytest.mark.parametrize("seen", [True, False])
def test_no_weight_is_idle_with_and_without_pictures(options, seen):
    made = encoder(**options).train()
    encoded = made(batch_of(made, posts() if seen else [bare(each) for each in posts()]))
    (encoded.states.square().sum() + encoded.losses["balance"]).backward()
    assert without_gradient(made) == []


def test_captions_alone_leave_two_experts():
    tagger = VisualptMoeTagger(text="tiny-bert", vision="captions", **SIZES)
    tagger.build(CorpusFacts.of(TYPES, posts()))
    assert tagger.encoder.names == ("caption", "random") and tagger.encoder.sight is None
    assert tagger.needs().views == {"captions"} and tagger.needs().picture is None
    with pytest.raises(UsageError, match=r"picture_fit centre_crop: captions have no pixels"):
        VisualptMoeOptions(vision="captions", picture_fit="centre_crop")
    with pytest.raises(UsageError, match="no expert is left"):
        VisualptMoeOptions(vision="captions", use_caption=False, use_random=False)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_losses_share_alpha(alpha):
    tagger = VisualptMoeTagger(text="tiny-bert", alpha=alpha, **SIZES)
    torch.manual_seed(0)
    tagger.build(CorpusFacts.of(TYPES, posts()))
    losses, weights = tagger.losses(batch_of(tagger.encoder, posts()[:2])), tagger.loss_weights()
    assert weights == {"head": 1 - alpha, "balance": alpha}
    sum(weights[name] * loss for name, loss in losses.items()).backward()
    assert bool(tagger.head.linear.weight.grad.any()) == (alpha < 1)
    assert losses["balance"] >= LAYERS / 5


@pytest.mark.parametrize("router_lr, rate", [(None, 2e-3), (1e-5, 1e-5)])
def test_routers_may_have_a_learning_rate_of_their_own(router_lr, rate):
    tagger = VisualptMoeTagger(text="tiny-bert", lr=2e-3, router_lr=router_lr, **SIZES)
    tagger.build(CorpusFacts.of(TYPES, posts()))
    groups = tagger.rate_groups()
    assert groups["routers"] == ([tagger.encoder.routers], rate) and groups["encoder"][1] == 2e-3


def test_positions_may_begin_at_the_number_of_heads():
    usual, shifted = encoder(), encoder(positions="heads")
    with torch.no_grad():  # the same vectors at other places
        table = shifted.text.model.embeddings.position_embeddings.weight
        table.copy_(table.roll(shifted.heads, 0))
    batch = batch_of(usual, posts())
    torch.testing.assert_close(usual(batch).states, shifted(batch).states)
    assert shifted.text.reader.max_tokens <= shifted.text.config.max_position_embeddings - shifted.heads


def test_towers_that_do_not_serve_are_refused_in_a_line():
    with pytest.raises(UsageError, match="takes no prefix"):
        VisualptMoeEncoder(TinyText(CorpusFacts(())), towers()[1], VisualptMoeOptions(**SIZES))


# ---------------------------------------------------------------------- as released: sizes and steps


def test_at_the_papers_size_it_has_the_papers_parameters():
    with torch.device("meta"):
        made = VisualptMoeEncoder(*paper_towers(), VisualptMoeOptions(router="text"))
    assert own_parameters(made) == {
        "experts": 2 * 22_825_984 + 3 * 19_680_256,
        "random": 12_288,
        "routers": 737_340,
        "text_maps": 7_087_104,
    }


def test_as_released_it_has_as_many_parameters_as_its_authors_model():
    model = {"text": "bert-base-uncased", "vision": "resnet50", "head": {"name": "softmax"}}
    parts, _ = count({"plugin": "visualpt_moe", "model": model, "data": {"corpus": "twitter2017"}})
    numbers = {each.part: each.parameters for each in parts}
    pooler, idle = 768 * 768 + 768, 7_087_104  # which learn nothing there
    assert numbers["tower text"] == 109_482_240 - pooler
    assert numbers["head"] == 6_921
    assert sum(each.parameters for each in parts) - numbers["tower vision"] == 222_018_629 - pooler - idle


def test_three_steps_are_those_of_the_released_optimiser(monkeypatch):
    """AdamW on every weight alike, another rate of the head, the linear schedule from zero, written out."""
    lr, head_lr, decay, steps, warmup = 3e-3, 5e-2, 0.01, 8, 0.3
    made = VisualptMoeTagger(
        text="tiny-bert", lr=lr, head_lr=head_lr, weight_decay=decay, decay="all", schedule="linear_from_zero",
        warmup=warmup, alpha=0.1, **SIZES,
    )  # fmt: skip
    torch.manual_seed(0)
    made.build(CorpusFacts.of(TYPES, posts()))
    made.eval()
    update = adamw(
        lambda step, name: linear_from_zero(step, steps, warmup) * (head_lr if name.startswith("head.") else lr),
        lambda _: decay,
    )
    weights = three_steps(made, batch_of(made.encoder, posts()), steps, update, monkeypatch)
    # a softmax does not see what is added to all own keys alike but for the prefix: that bias has a gradient here
    for name, weight in weights.items():
        torch.testing.assert_close(made.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name)
