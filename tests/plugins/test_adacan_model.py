"""AdaCAN: who sees what, what the filter lets through, and the sizes of the re-implementation that was read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from visual_prefix_cases import (
    TYPES,
    assert_read_alike_alone,
    bare,
    batch_of,
    own_parameters,
    paper_towers,
    posts,
    towers,
)

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.bilstm import BiLstmTower
from mnerkit.towers.vision.pretrained import ResNetTower
from mnerkit_plugins.adacan.model import AdacanEncoder
from mnerkit_plugins.adacan.options import AdacanOptions


def encoder(text: str = "bilstm", captions: bool = False, **options: Any) -> AdacanEncoder:
    tower, sight = towers(captions)
    if text == "bilstm":
        tower = text_tower("bilstm", facts=CorpusFacts.of(TYPES, posts()), chars="cnn", width=32)  # type: ignore[assignment]
    o = AdacanOptions(**options)
    torch.manual_seed(1)
    return AdacanEncoder(tower, sight if o.use_image else None, o).eval()


def moved_by_word(made: AdacanEncoder) -> tuple[Tensor, Tensor]:
    """How far what words see of picture and text moves, (B, W) each, where the third word of each post moves."""
    batch = batch_of(made, posts())
    h = made.text(batch.text).words
    other = h.clone()
    torch.manual_seed(2)
    other[:, 2] += torch.randn(made.text.width)
    before, after = made.attend(batch, h), made.attend(batch, other)
    return (before[0] - after[0]).abs().amax(-1), (before[1] - after[1]).abs().amax(-1)


@pytest.mark.parametrize("text", ["bilstm", "tiny-bert"])
def test_what_a_word_sees_of_the_picture_moves_with_that_word_alone(text: str) -> None:
    of_picture, of_text = moved_by_word(encoder(text))
    assert (of_picture[:, 2] > 1e-4).all()
    assert not of_picture[:, :2].any() and not of_picture[:, 3:].any()
    assert (of_text[:, 2] > 1e-4).all()


def test_with_a_separable_score_no_word_moves_what_is_seen_and_all_see_the_same() -> None:
    made = encoder(score="separable")
    assert float(moved_by_word(made)[0].max()) < 1e-6
    batch = batch_of(made, posts())
    seen = made.attend(batch, made.text(batch.text).words)[0]
    torch.testing.assert_close(seen, seen[:, :1].expand_as(seen))


def test_a_picture_of_equal_regions_looks_the_same_to_every_word() -> None:
    made = encoder()
    batch, whole = batch_of(made, posts()), made.sight.whole  # type: ignore[union-attr]

    def grey(batch: Any) -> Any:
        seen = whole(batch)
        seen.states.regions = torch.zeros_like(seen.states.regions)
        return seen

    object.__setattr__(made.sight, "whole", grey)
    seen = made.attend(batch, made.text(batch.text).words)[0]
    torch.testing.assert_close(seen, seen[:1, :1].expand_as(seen))


def test_regions_have_no_order_and_weights_are_shares_of_the_real_ones() -> None:
    made = encoder()
    batch, whole = batch_of(made, posts()), made.sight.whole  # type: ignore[union-attr]
    states, weights = made(batch).states, made(batch, trace=True).trace["attention"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))

    def turned(batch: Any) -> Any:
        seen = whole(batch)
        seen.states.regions, seen.region_mask = seen.states.regions.flip(1), seen.region_mask.flip(2)
        return seen

    object.__setattr__(made.sight, "whole", turned)
    torch.testing.assert_close(made(batch).states, states, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("captions", [False, True])
def test_padding_and_batch_mates_count_for_nothing(captions: bool) -> None:
    made = encoder("tiny-bert" if captions else "bilstm", captions)
    assert_read_alike_alone(made, made(batch_of(made, posts())).states[0])


@pytest.mark.parametrize("options", [{}, {"filter": False}, {"text_attention": False}])
def test_a_post_without_pictures_has_its_words_and_zeros(options: dict[str, Any]) -> None:
    made = encoder(**options)
    batch = batch_of(made, [posts()[0], bare(posts()[1])])
    words, states = made.text(batch.text).words, made(batch).states[0]
    k = made.text.width
    assert torch.equal(states[..., :k], words)
    assert states[0, :, k:].any() and not states[1, :, k:].any()


def test_without_pictures_at_all_the_states_are_the_text_tower_s() -> None:
    made = encoder(use_image=False)
    batch = batch_of(encoder(), posts())
    assert torch.equal(made(batch).states[0], made.text(batch.text).words) and made.width == made.text.width


def test_the_states_are_those_of_the_equations() -> None:
    made = encoder()
    batch = batch_of(made, posts()[:1])
    h = made.text(batch.text).words
    seen, words, _, _ = made.attend(batch, h)
    p, q = torch.tanh(made.of_picture(seen)), torch.tanh(made.of_text(words))
    g = torch.sigmoid(made.gate.first(p) + made.gate.second(q))
    assert g.shape[-1] == 1
    m = g * p + (1 - g) * q
    f: Any = made.filter
    s = torch.sigmoid(f.score(torch.cat([f.of_word(h), f.of_seen(m)], -1)))
    assert ((s > 0) & (s < 1)).all()
    torch.testing.assert_close(made(batch).states[0], torch.cat([h, s * torch.tanh(f.take(m))], -1))
    open_filter = encoder(filter=False)
    assert (open_filter(batch, trace=True).trace["filter"] == 1).all()


def test_without_attention_to_the_text_a_word_stands_for_itself() -> None:
    made = encoder(text_attention=False)
    batch = batch_of(made, posts())
    h = made.text(batch.text).words
    assert torch.equal(made.attend(batch, h)[1], h)


def test_the_sizes_are_those_of_the_re_implementation() -> None:
    def size(made: AdacanEncoder, tags: int) -> int:
        return sum(own_parameters(made).values()) + made.width * tags + tags  # W_o is the head's

    with torch.device("meta"):
        bert, _ = paper_towers()
        sight = Sight(freeze(ResNetTower("random:resnet18", "resnet18")))
        assert sight.width == 512
        small = AdacanEncoder(BiLstmTower(["a"], width=200), sight, AdacanOptions(score="separable"))
        large = AdacanEncoder(bert, sight, AdacanOptions(text="bert", score="separable"))
    assert size(small, 11) == 469_815 and size(large, 9) == 5_726_989
