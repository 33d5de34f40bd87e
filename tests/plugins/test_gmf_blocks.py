"""GMF's own blocks, the visual pyramid and cross-scale attention: shapes, limits, and what they must not depend on."""

import pytest
import torch

from mnerkit_plugins.gmf.model import CrossScaleAttention, VisualPyramid
from mnerkit_plugins.gmf.options import GmfOptions

CHANNELS = (4, 8, 16, 32)
SIDES = (56, 28, 14, 7)


def _stages(count=2):
    torch.manual_seed(0)
    return [torch.randn(count, c, side, side) for c, side in zip(CHANNELS, SIDES, strict=True)]


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


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("options", [{}, {"csa_relu": False}, {"csa_norm": "gn"}, {"csa_dilation": 2}])
def test_cross_scale_attention_keeps_the_shape_the_signs_and_the_scale(side, options):
    torch.manual_seed(0)
    attend, x = CrossScaleAttention(32, GmfOptions(**options)), torch.randn(3, 32, side, side)
    m, refined = attend.attention(x), attend(x)
    assert refined.shape == x.shape and bool(((m > 0) & (m < 1)).all())
    assert bool((refined.abs() >= x.abs()).all()) and bool((refined.abs() <= 2 * x.abs()).all())
    assert torch.equal(refined.sign(), x.sign())


@pytest.mark.parametrize(("pressed", "factor"), [(-1e4, 1.0), (1e4, 2.0)])
def test_attention_of_zero_leaves_the_map_and_of_one_doubles_it(pressed, factor):
    attend, x = CrossScaleAttention(32, GmfOptions()), torch.randn(3, 32, 7, 7)
    with torch.no_grad():
        attend.spatial[-1].bias.fill_(pressed)
    torch.testing.assert_close(attend(x), factor * x)


def test_the_attention_is_that_of_the_equations():
    """M = sigmoid(BN(W1 W0 avgpool) + BN(conv(dil(dil(conv))))), with running statistics that are still 0 and 1."""
    torch.manual_seed(0)
    attend, x = CrossScaleAttention(32, GmfOptions(csa_relu=False)).eval(), torch.randn(2, 32, 14, 14)
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
    shapes = [tuple(each.shape) for each in CrossScaleAttention(256, GmfOptions()).parameters() if each.dim() == 4]
    assert shapes == [
        (16, 256, 1, 1), (256, 16, 1, 1), (16, 256, 1, 1), (16, 16, 3, 3), (16, 16, 3, 3), (1, 16, 1, 1)
    ]  # fmt: skip


def test_a_picture_alone_is_no_error_and_teaches_the_norms_nothing_false():
    attend = CrossScaleAttention(32, GmfOptions()).train()
    before = {name: value.clone() for name, value in attend.channel.named_buffers()}
    assert torch.isfinite(attend(torch.randn(1, 32, 7, 7))).all()
    assert all(torch.equal(value, before[name]) for name, value in attend.channel.named_buffers())
    attend(torch.randn(2, 32, 7, 7))
    assert not all(torch.equal(value, before[name]) for name, value in attend.channel.named_buffers())


def test_in_eval_mode_pictures_do_not_see_each_other():
    attend, x = CrossScaleAttention(32, GmfOptions()), torch.randn(3, 32, 7, 7)
    attend(x)
    attend.eval()
    torch.testing.assert_close(attend(x)[:1], attend(x[:1]))
