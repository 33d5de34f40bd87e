"""GVATT: who looks at the regions, what the gates make of it, and the sizes of the reading."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from visual_prefix_cases import TYPES, bare, batch_of, own_parameters, paper_towers, posts, towers

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.nn.additive_attention import AdditiveAttention
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.bilstm import BiLstmTower
from mnerkit.towers.vision.pretrained import ResNetTower
from mnerkit_plugins.gvatt.model import GvattEncoder
from mnerkit_plugins.gvatt.options import GvattOptions


def encoder(text: str = "bilstm", captions: bool = False, **options: Any) -> GvattEncoder:
    bert, sight = towers(captions)
    tower = bert
    if text == "bilstm":
        tower = text_tower("bilstm", facts=CorpusFacts.of(TYPES, posts()), chars="lstm", width=32)
    o = GvattOptions(**options)
    torch.manual_seed(1)
    return GvattEncoder(tower, sight if o.use_image else None, o).eval()


def contexts(made: GvattEncoder, batch: Any, words: Tensor | None = None) -> Tensor:
    """What the posts of a batch see; of the word states given, else of the text tower's."""
    text = made.text(batch.text)
    words = text.words if words is None else words
    return made.context(batch, made.queries(words, text.pooled, batch.text.word_mask))[0]


@pytest.mark.parametrize(("score", "moves"), [("add", True), ("separable", False)])
def test_queries_get_contexts_of_their_own_only_if_the_score_joins_query_and_key(score: Any, moves: bool) -> None:
    torch.manual_seed(0)
    attention = AdditiveAttention(8, score)
    queries, keys, mask = torch.randn(2, 5, 8), torch.randn(2, 7, 8), torch.ones(2, 7, dtype=torch.bool)
    mask[0, 3:] = False
    seen, weights = attention(queries, keys, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))
    assert not weights[0, :, 3:].any()
    assert bool((seen - seen[:, :1]).abs().max() > 1e-3) == moves
    nothing, _ = attention(queries, keys, torch.zeros_like(mask))
    assert not nothing.any()


def test_the_score_is_that_of_the_equation() -> None:
    torch.manual_seed(0)
    attention = AdditiveAttention(4)
    q, v = torch.randn(1, 1, 4), torch.randn(1, 3, 4)
    w, p_q, b, p_v = (attention.score.weight[0], attention.query.weight, attention.query.bias, attention.key.weight)
    scores = torch.stack([w @ torch.tanh(p_q @ q[0, 0] + b + p_v @ v[0, i]) for i in range(3)])
    torch.testing.assert_close(attention(q, v, torch.ones(1, 3, dtype=torch.bool))[1][0, 0], scores.softmax(0))


@pytest.mark.parametrize(("score", "moves"), [("add", True), ("separable", False)])
@pytest.mark.parametrize("text", ["bilstm", "tiny-bert"])
def test_the_context_moves_with_the_post_unless_the_score_is_separable(text: str, score: str, moves: bool) -> None:
    made = encoder(text, score=score, query="word")
    batch = batch_of(made, posts())
    words = made.text(batch.text).words
    other = contexts(made, batch, words + torch.randn(made.width) * batch.text.word_mask.unsqueeze(-1))
    assert bool((other - contexts(made, batch, words)).abs().max() > 1e-3) == moves


def test_the_query_of_an_lstm_is_the_last_state_of_each_direction() -> None:
    made = encoder()
    batch = batch_of(made, posts()[:3])
    tower = made.text
    assert isinstance(tower, BiLstmTower)
    for row, post in enumerate(posts()[:3]):
        words = tower(batch_of(made, [post]).text).words[0]
        expected = torch.cat([words[-1, : made.width // 2], words[0, made.width // 2 :]])
        found = made.queries(tower(batch.text).words, batch.text.word_mask, batch.text.word_mask)[row, 0]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_word_in_the_middle_moves_the_context_of_a_sentence_only_through_the_query() -> None:
    made = encoder()
    batch = batch_of(made, posts())
    words = made.text(batch.text).words
    changed = words.clone()
    changed[:, 2] += 1.0  # neither the first nor the last word of a post
    assert torch.equal(contexts(made, batch, words), contexts(made, batch, changed))
    assert contexts(made, batch).shape[1] == 1


def test_regions_have_no_order() -> None:
    made = encoder()
    batch, whole = batch_of(made, posts()), made.sight.whole  # type: ignore[union-attr]
    states = made(batch).states

    def turned(batch: Any) -> Any:
        seen = whole(batch)
        seen.states.regions, seen.region_mask = seen.states.regions.flip(1), seen.region_mask.flip(2)
        return seen

    object.__setattr__(made.sight, "whole", turned)
    torch.testing.assert_close(made(batch).states, states, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fuse", ["two_gates", "one_gate", "sum"])
def test_a_post_without_pictures_is_read_as_the_text_tower_reads_it(fuse: str) -> None:
    made = encoder(fuse=fuse)
    batch = batch_of(made, [posts()[0], bare(posts()[1])])
    words, states = made.text(batch.text).words, made(batch).states[0]
    assert torch.equal(states[1], words[1])
    assert not torch.allclose(states[0], words[0], atol=1e-3)


def test_without_the_limit_gates_act_on_the_words_of_a_post_without_pictures() -> None:
    made = encoder(exact_limit=False)
    batch = batch_of(made, [bare(posts()[1])])
    h = made.text(batch.text).words
    fusion: Any = made.fusion
    torch.testing.assert_close(made(batch).states[0], fusion(h, torch.zeros_like(h))[0])
    assert not torch.allclose(made(batch).states[0], h, atol=1e-3)


def test_gates_are_shares_of_each_feature() -> None:
    made = encoder()
    batch = batch_of(made, posts())
    h = made.text(batch.text).words
    c = contexts(made, batch).expand_as(h)
    fusion: Any = made.fusion
    states, beta_v = fusion(h, c)
    beta_w = torch.sigmoid(fusion.of_word.first(h) + fusion.of_word.second(c))
    for beta in (beta_v, beta_w):
        assert beta.shape == h.shape and ((beta > 0) & (beta < 1)).all()
    torch.testing.assert_close(states, beta_w * h + beta_v * torch.tanh(fusion.both(torch.cat([h, c], -1))))


def test_without_attention_the_context_is_the_mean_of_the_regions() -> None:
    made = encoder(attention=False)
    batch = batch_of(made, posts())
    assert made.sight is not None
    regions = torch.tanh(made.region_map(made.sight.whole(batch).regions.flatten(1, 2)))
    torch.testing.assert_close(contexts(made, batch), regions.mean(1, keepdim=True))


def test_one_map_of_attention_a_post_is_drawn_for_each_word_and_none_of_captions() -> None:
    made = encoder()
    attention = made(batch_of(made, posts()), trace=True).trace["attention"]
    assert torch.equal(attention, attention[:, :1].expand_as(attention))
    reader = encoder("tiny-bert", captions=True)
    assert "attention" not in reader(batch_of(reader, posts()), trace=True).trace


def test_the_sizes_are_those_of_the_reading() -> None:
    with torch.device("meta"):
        bert, _ = paper_towers()
        sight = Sight(freeze(ResNetTower("random:resnet152", "resnet152")))
        assert sight.width == 2048
        small = own_parameters(GvattEncoder(BiLstmTower(["a"], width=200), sight, GvattOptions()))
        large = own_parameters(GvattEncoder(bert, sight, GvattOptions(text="bert")))
    assert small == {"region_map": 409_800, "attention": 80_400, "fusion": 240_600}
    assert large == {"region_map": 1_573_632, "attention": 1_181_184, "fusion": 3_541_248}
