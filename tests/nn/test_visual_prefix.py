"""Pooled stages, gates and standardised channels: shapes, limits, and what they must not depend on."""

import torch

from mnerkit.nn.visual_prefix import DynamicGate, Standardise, gated_sum, masked_mean, pooled_stages

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
