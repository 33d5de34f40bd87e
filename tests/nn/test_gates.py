"""Gates: shares between two vectors."""

from __future__ import annotations

import pytest
import torch

from mnerkit.nn.gates import Gate


@pytest.mark.parametrize(("kind", "size"), [("feature", 6), ("scalar", 1)])
def test_it_is_its_equation(kind: str, size: int) -> None:
    gate = Gate(6, kind)  # type: ignore[arg-type]
    a, b = torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    mixed, g = gate(a, b)
    wanted = torch.sigmoid(a @ gate.first.weight.T + b @ gate.second.weight.T)
    assert g.shape == (2, 3, size)
    torch.testing.assert_close(g, wanted)
    torch.testing.assert_close(mixed, wanted * a + (1 - wanted) * b)


def test_an_open_gate_passes_the_first_and_a_shut_one_the_second() -> None:
    gate = Gate(4, bias=True)
    a, b = torch.randn(5, 4), torch.randn(5, 4)
    for value, passed in ((1e4, a), (-1e4, b)):
        torch.nn.init.constant_(gate.first.bias, value)
        torch.testing.assert_close(gate(a, b)[0], passed)


def test_without_a_bias_two_equal_zeros_share_alike() -> None:
    _, g = Gate(4)(torch.zeros(1, 4), torch.zeros(1, 4))
    assert torch.equal(g, torch.full((1, 4), 0.5))
