"""HVPNet: what words see of image and objects, and what is left where nothing is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from visual_prefix_cases import (
    LAYERS,
    STAGES,
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

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import UsageError
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.tiny import TinyText
from mnerkit.towers.vision.tiny_cnn import TinyVision
from mnerkit_plugins.hvpnet.model import HvpnetEncoder
from mnerkit_plugins.hvpnet.options import HvpnetOptions


def encoder(captions=False, frozen=True, **options):
    made = HvpnetEncoder(*towers(captions, frozen), HvpnetOptions(**{"hidden": 20, "dropout": 0.0, **options}))
    return made.eval()


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
    [{"gate": False}, {"gate_input": "mean"}, {"layout": "released"}, {"prefix_grid": 1}, {"standardise": True}],
)
def test_every_reading_runs_and_differs(options):
    batch = batch_of(encoder(), posts()[:2])
    torch.manual_seed(1)
    assert not torch.equal(encoder(**options)(batch).states, encoder()(batch).states)


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
