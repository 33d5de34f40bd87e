"""Pyramid, gates and cross-scale attention: shapes, limits, and what they must not depend on."""

import pytest
import torch

from mnerkit.nn.visual_prefix import DynamicGate, Standardise, VisualPyramid, gated_sum, masked_mean, pooled_stages
from mnerkit_plugins.gmf.cross_scale import CrossScaleAttention

CHANNELS = (4, 8, 16, 32)
SIDES = (56, 28, 14, 7)


def _stages(count=2):
    torch.manual_seed(0)
    return [torch.randn(count, c, side, side) for c, side in zip(CHANNELS, SIDES, strict=True)]


def test_every_stage_comes_to_one_grid_and_the_last_is_not_pooled():
    pooled = pooled_stages(_stages(), 7)
    assert [each.shape for each in pooled] == [(2, 49, c) for c in CHANNELS]
    last = _stages()[-1]
    assert torch.equal(pooled[-1][1, 10], last[1, :, 1, 3])  # row by row
    torch.testing.assert_close(pooled[0][0, 8], _stages()[0][0, :, 8:16, 8:16].mean((1, 2)))


def test_a_pyramid_maps_each_position_alone_as_a_convolution_does():
    pyramid, stages = VisualPyramid(CHANNELS, 12, 7), _stages()
    found = pyramid(stages)
    assert found.shape == (2, 4, 49, 12)
    maps = pyramid.maps[3]
    convolved = torch.nn.functional.conv2d(stages[3], maps.weight[:, :, None, None], maps.bias)
    torch.testing.assert_close(found[:, 3], convolved.flatten(2).transpose(1, 2))
    assert VisualPyramid(CHANNELS, 12, 2)(stages).shape == (2, 4, 4, 12)


def test_words_of_captions_stay_where_they_are():
    words = [torch.randn(3, 8, 1, 5) for _ in range(4)]
    pyramid = VisualPyramid((8,) * 4, 12, None)
    found = pyramid(words)
    assert found.shape == (3, 4, 5, 12)
    torch.testing.assert_close(found[:, 2, 4], pyramid.maps[2](words[2][:, :, 0, 4]))


def test_gates_sum_to_one_and_are_even_without_weights():
    gate = DynamicGate(12, layers=3)
    weights = gate(torch.randn(5, 12))
    assert weights.shape == (5, 3, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 3))
    torch.nn.init.zeros_(gate.map.weight), torch.nn.init.zeros_(gate.map.bias)
    assert torch.equal(gate(torch.randn(5, 12)), torch.full((5, 3, 4), 0.25))


def test_a_stage_of_great_weight_is_all_that_a_layer_is_shown():
    gate, stages = DynamicGate(12, layers=3), torch.randn(5, 4, 6, 12)
    torch.nn.init.zeros_(gate.map.weight), torch.nn.init.zeros_(gate.map.bias)
    with torch.no_grad():
        gate.map.bias[1 * 4 + 2] = 1e4  # layer 1, stage 2
    shown = gated_sum(gate(torch.randn(5, 12)), stages)
    torch.testing.assert_close(shown[:, 1], stages[:, 2])
    torch.testing.assert_close(shown[:, 0], stages.mean(1))


def test_layers_have_gates_of_their_own():
    gate, x = DynamicGate(12, layers=3), torch.randn(1, 12)
    layer = torch.nn.functional.linear(x, gate.map.weight[4:8], gate.map.bias[4:8])
    torch.testing.assert_close(gate(x)[:, 1], torch.nn.functional.leaky_relu(layer).softmax(-1))


def test_a_masked_mean_is_over_what_is_real():
    values, mask = torch.randn(2, 4, 5, 3), torch.tensor([[True] * 3 + [False] * 2, [False] * 5])
    found = masked_mean(values, mask)
    torch.testing.assert_close(found[0], values[0, :, :3].mean(1))
    assert not found[1].any()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("options", [{}, {"relu": False}, {"norm": "gn"}, {"dilation": 2}])
def test_cross_scale_attention_keeps_the_shape_the_signs_and_the_scale(side, options):
    torch.manual_seed(0)
    attend, x = CrossScaleAttention(32, **options), torch.randn(3, 32, side, side)
    m, refined = attend.attention(x), attend(x)
    assert refined.shape == x.shape and bool(((m > 0) & (m < 1)).all())
    assert bool((refined.abs() >= x.abs()).all()) and bool((refined.abs() <= 2 * x.abs()).all())
    assert torch.equal(refined.sign(), x.sign())


@pytest.mark.parametrize(("pressed", "factor"), [(-1e4, 1.0), (1e4, 2.0)])
def test_attention_of_zero_leaves_the_map_and_of_one_doubles_it(pressed, factor):
    attend, x = CrossScaleAttention(32), torch.randn(3, 32, 7, 7)
    with torch.no_grad():
        attend.spatial[-1].bias.fill_(pressed)
    torch.testing.assert_close(attend(x), factor * x)


def test_the_attention_is_that_of_the_equations():
    """M = sigmoid(BN(W1 W0 avgpool) + BN(conv(dil(dil(conv))))), with running statistics that are still 0 and 1."""
    torch.manual_seed(0)
    attend, x = CrossScaleAttention(32, relu=False).eval(), torch.randn(2, 32, 14, 14)
    w0, w1 = (attend.channel[place] for place in (1, 2))
    channel = w1.weight[..., 0, 0] @ (w0.weight[..., 0, 0] @ x.mean((2, 3)).T + w0.bias[:, None]) + w1.bias[:, None]
    spatial = x
    for place in range(4):
        spatial = attend.spatial[place](spatial)
    assert attend.spatial[1].dilation == (4, 4) and spatial.shape == (2, 1, 14, 14)
    scale = (1 + 1e-5) ** -0.5
    expected = torch.sigmoid(scale * channel.T[:, :, None, None] + scale * spatial)
    torch.testing.assert_close(attend.attention(x), expected)


def test_sizes_are_those_of_the_paper():
    """r = 16: 256 channels, W0 256 x 16, W1 16 x 256, convolutions 256 -> 16, 16 -> 16 (3 x 3) twice, 16 -> 1."""
    shapes = [tuple(each.shape) for each in CrossScaleAttention(256).parameters() if each.dim() == 4]
    assert shapes == [
        (16, 256, 1, 1), (256, 16, 1, 1), (16, 256, 1, 1), (16, 16, 3, 3), (16, 16, 3, 3), (1, 16, 1, 1)
    ]  # fmt: skip


def test_a_picture_alone_is_no_error_and_teaches_the_norms_nothing_false():
    attend = CrossScaleAttention(32).train()
    before = {name: value.clone() for name, value in attend.channel.named_buffers()}
    assert torch.isfinite(attend(torch.randn(1, 32, 7, 7))).all()
    assert all(torch.equal(value, before[name]) for name, value in attend.channel.named_buffers())
    attend(torch.randn(2, 32, 7, 7))
    assert not all(torch.equal(value, before[name]) for name, value in attend.channel.named_buffers())


def test_in_eval_mode_pictures_do_not_see_each_other():
    attend, x = CrossScaleAttention(32), torch.randn(3, 32, 7, 7)
    attend(x)
    attend.eval()
    torch.testing.assert_close(attend(x)[:1], attend(x[:1]))


def test_standardised_channels_have_mean_0_and_deviation_1_and_later_those_of_training():
    torch.manual_seed(0)
    norm, x = Standardise(6), 3 + 0.1 * torch.randn(40, 4, 6)
    for _ in range(100):
        found = norm(x).flatten(0, 1)
    torch.testing.assert_close(found.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(6), atol=1e-2, rtol=0)
    assert torch.isfinite(norm(x[:1, :1])).all()
    norm.eval()
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]))
    torch.testing.assert_close(norm(x).flatten(0, 1), found, atol=0.05, rtol=0.05)
