"""TPM-MI: who sees whom, the authors' readings beside ours, and sizes and steps as released."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from written_out_steps import adamw, linear_from_zero, three_steps

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import UsageError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.parameter_counts import count
from mnerkit.nn.image_set import ImageSetEncoder
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import HALF
from mnerkit_plugins.tpm_mi.options import TpmMiOptions
from mnerkit_plugins.tpm_mi.tagger import TpmMiTagger

TYPES = types_of("multi")
ALL = generate("multi", "train", 60)
FACTS = CorpusFacts.of(TYPES, ALL)
POSTS = [post for post in ALL if len(post.images) > 1][:3] + [post for post in ALL if len(post.images) == 1][:2]
FOUR = [post for post in ALL if len(post.images) == 4][:2]
RELEASED = {
    "pooled": "pooler", "place_std": 1.0, "attend": "posts", "norm": "post", "feedforward": 48, "subword": "X",
    "absent": "zeros", "prompt_start": "plain", "prefix_positions": "shift", "state_dropout": 0.0,
}  # fmt: skip


def tagger(**options: Any) -> TpmMiTagger:
    torch.manual_seed(0)
    made = TpmMiTagger(**{"head": CRFHead(), "text": "tiny-bert", "vision": "tiny", **options})
    made.build(FACTS)
    return made.eval()


def batch_of(made: TpmMiTagger, posts: list[Post]) -> Batch:
    needs = made.needs()
    loader = PictureLoader(needs.picture) if needs.picture is not None else None
    return Collator(needs, loader, TagSet(TYPES))(posts)


def states(made: TpmMiTagger, posts: list[Post]) -> Tensor:
    with torch.no_grad():
        return made.encoder(batch_of(made, posts)).states[0]


def repainted(post: Post) -> Post:
    """The post with other pictures."""
    images = [replace(each, pixels=np.ascontiguousarray(255 - each.pixels)) for each in post.images]
    return replace(post, images=tuple(images))


@pytest.mark.parametrize("attend, alone", [("images", True), ("posts", False)])
def test_a_post_depends_on_the_posts_beside_it_only_in_the_released_reading(attend: str, alone: bool) -> None:
    made = tagger(attend=attend)
    own = states(made, POSTS)
    beside = states(made, [POSTS[0], *map(repainted, POSTS[1:])])
    assert torch.allclose(own[0], beside[0], atol=1e-6) == alone
    assert not torch.allclose(own[1], beside[1], atol=1e-4)
    assert made.encoder.by_post == alone  # the states of posts are kept only where they are the posts' own


def test_permuting_posts_permutes_what_they_see_of_each_other() -> None:
    made = tagger(**RELEASED)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(
        states(made, [POSTS[i] for i in order]), states(made, POSTS)[order], rtol=1e-4, atol=1e-5
    )


def test_attention_among_posts_does_nothing_to_a_post_that_is_alone() -> None:
    made = tagger(**RELEASED)
    attention = made.encoder(batch_of(made, POSTS[:1]), trace=True).trace["image_attention"]
    assert torch.equal(attention, torch.ones(1, 4, 1))
    attention = made.encoder(batch_of(made, POSTS), trace=True).trace["image_attention"]
    assert attention.shape == (5, 4, 5)
    torch.testing.assert_close(attention.sum(-1), torch.ones(5, 4))


def test_a_fifth_picture_is_ignored() -> None:
    made = tagger()
    more = [replace(post, images=(*post.images, POSTS[0].images[0])) for post in FOUR]
    assert torch.equal(states(made, more), states(made, FOUR))
    assert not torch.allclose(states(tagger(max_images=5), more), states(tagger(max_images=5), FOUR), atol=1e-4)


def test_an_absent_picture_that_is_shown_is_a_grey_one() -> None:
    assert not PictureFormat(2, *HALF).apply(np.full((4, 4, 3), 128, np.uint8)).round(2).any()
    made = tagger(absent="zeros")
    batch = batch_of(made, POSTS)
    assert batch.images.shape[1] == 4 and not batch.image_mask.all()
    grey = replace(batch, image_mask=torch.ones_like(batch.image_mask), image_sources=None)
    assert torch.equal(made.encoder(batch).states, made.encoder(grey).states)
    assert not torch.allclose(states(made, POSTS), states(tagger(), POSTS), atol=1e-4)


@pytest.mark.parametrize("absent", ["mask", "zeros"])
def test_the_vector_of_a_place_learns_from_an_absent_picture_only_if_that_is_shown(absent: str) -> None:
    made = tagger(absent=absent)
    sum(made.losses(batch_of(made, POSTS[3:])).values()).backward()  # one picture each
    assert made.encoder.graph.places.weight.grad[0].any()
    assert made.encoder.graph.places.weight.grad[1:].any() == (absent == "zeros")


def test_words_begin_behind_the_prefix_in_the_released_reading() -> None:
    moved, plain = tagger(prefix_positions="shift"), tagger()
    table = plain.encoder.text.model.embeddings.position_embeddings.weight
    assert not torch.allclose(states(moved, POSTS), states(plain, POSTS), atol=1e-4)
    with torch.no_grad():
        table.copy_(table.roll(-4, 0))
    torch.testing.assert_close(states(moved, POSTS), states(plain, POSTS))


def test_positions_that_are_left_limit_the_length_of_posts_and_captions_keep_theirs() -> None:
    positions = tagger().encoder.text.config.max_position_embeddings
    moved = tagger(prefix_positions="shift", max_tokens=positions, vision="captions")
    assert moved.encoder.text.reader.max_tokens == positions - 4
    assert moved.encoder.text.first_position == 4 and moved.encoder.sight.tower.first_position == 0
    assert moved.encoder.text.reading() != tagger(max_tokens=positions - 4).encoder.text.reading()
    long = replace(POSTS[0], words=POSTS[0].words * 40, tags=POSTS[0].tags * 40)
    assert not states(moved, [long])[0, -1].any()  # cut
    with pytest.raises(UsageError, match="can't be moved"):
        tagger(prefix_positions="shift", max_images=positions)


def test_positions_of_other_towers_are_not_moved() -> None:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    tower = BertTower("roberta", RobertaModel(config), tagger().encoder.text.reader)
    with pytest.raises(UsageError, match="roberta: its positions can't be moved"):
        tower.begin_at(4)


def test_norms_behind_the_networks_are_those_of_pytorchs_layer() -> None:
    torch.manual_seed(0)
    made = ImageSetEncoder(8, 2, position="none", feedforward=12, norm="post", dropout=0.1, attention_dropout=0.3)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    layer, own = made.layers[0], theirs.self_attn
    assert layer.attention.dropout.p == 0.3
    maps = (layer.attention.query, layer.attention.key, layer.attention.value)
    with torch.no_grad():
        own.in_proj_weight.copy_(torch.cat([each.weight for each in maps]))
        own.in_proj_bias.copy_(torch.cat([each.bias for each in maps]))
    own.out_proj.load_state_dict(layer.attention.out.state_dict())
    theirs.linear1.load_state_dict(layer.feedforward[0].state_dict())
    theirs.linear2.load_state_dict(layer.feedforward[3].state_dict())
    x, mask = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)
    torch.testing.assert_close(made.eval()(x, mask)[0], theirs.eval()(x))
    with pytest.raises(ValueError, match="norm 'pre'"):
        made(x, mask, torch.ones(3, 4))


def test_the_class_state_can_pass_through_a_pooler_and_images_can_stay_apart() -> None:
    made = tagger(pooled="pooler", graph=False)
    batch = batch_of(made, POSTS)
    v = made.encoder.sight.whole(batch, regions=False).pooled
    keys, _ = made.encoder.prefix(torch.tanh(made.encoder.pooler[0](v)))
    seen = {}
    made.encoder.prompts.register_forward_hook(lambda _, args, output: seen.update(keys=output[0]))
    made.encoder(batch)
    torch.testing.assert_close(seen["keys"], keys)
    with pytest.raises(UsageError, match="nothing attends"):
        TpmMiOptions(attend="posts", graph=False)


def test_the_word_states_can_have_a_dropout_of_their_own() -> None:
    assert tagger().encoder.dropout.p == tagger(dropout=0.1, state_dropout=None).encoder.dropout.p == 0.1
    assert tagger(state_dropout=0.0).encoder.dropout.p == 0.0


def test_captions_refuse_an_absent_picture_that_is_shown() -> None:
    with pytest.raises(UsageError, match=r"--model\.absent zeros: captions have no pixels"):
        tagger(vision="captions", absent="zeros")


# ---------------------------------------------------------------------- as released: sizes and steps


def test_as_released_it_has_as_many_parameters_as_its_authors_model() -> None:
    model = {
        "text": "bert-base-uncased", "vision": "google/vit-base-patch16-224", "pooled": "pooler", "feedforward": 2048,
        "subword": "X",
    }  # fmt: skip
    parts, _ = count({"plugin": "tpm_mi", "model": model, "data": {"corpus": "twitter2017"}})
    numbers = {each.part: each.parameters for each in parts}
    pooler = 768 * 768 + 768
    assert numbers["tower text"] == 108_891_648
    assert numbers["tower vision"] + numbers["encoder pooler"] == 86_389_248
    assert numbers["encoder pooler"] == pooler
    assert numbers["encoder graph"] == 3_072 + 5_513_984 and numbers["encoder prompts"] == 19_680_256
    assert numbers["head"] == 7_690 + 120
    assert sum(each.trainable for each in parts) == 220_486_018


def test_three_steps_are_those_of_the_released_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW at one rate on every weight alike, the linear schedule from zero, no clipping, written out."""
    rate, decay, steps, warmup = 3e-3, 0.01, 8, 0.3
    options = {"lr": rate, "weight_decay": decay, "decay": "all", "schedule": "linear_from_zero", "warmup": warmup}
    made = tagger(**RELEASED, **options, dropout=0.0, freeze_vision=False)
    update = adamw(lambda step, _: linear_from_zero(step, steps, warmup) * rate, lambda _: decay)
    weights = three_steps(made, batch_of(made, POSTS), steps, update, monkeypatch)
    assert any(name.startswith("encoder.sight") for name in weights)
    # a bias of all keys moves no softmax, so its gradients are rounding
    del weights["encoder.graph.layers.0.attention.key.bias"]
    for name, weight in weights.items():
        torch.testing.assert_close(made.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name)
