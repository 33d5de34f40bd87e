"""Prototypes are class means; distances are what their names say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.nn.prototypes import distances, nearest, prototypes


def states(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_prototype_is_the_mean_of_its_class():
    words, classes = states(2, 6, 4), torch.tensor([0, 2, 0, 2, 2, 0])
    centres, counts = prototypes(words, classes, 4)
    torch.testing.assert_close(centres[:, 0], words[:, [0, 2, 5]].mean(1))
    torch.testing.assert_close(centres[:, 2], words[:, [1, 3, 4]].mean(1))
    assert counts.tolist() == [3, 0, 3, 0]
    assert not centres[:, [1, 3]].any()


def test_a_class_seen_once_is_that_words_state():
    words = states(5, 8)
    centres, _ = prototypes(words, torch.tensor([0, 0, 1, 0, 0]), 2)
    assert torch.equal(centres[1], words[2])


@settings(max_examples=20)
@given(st.permutations(range(7)))
def test_the_order_of_the_support_is_irrelevant(order):
    words, classes = states(7, 4), torch.tensor([0, 1, 2, 0, 1, 1, 0])
    torch.testing.assert_close(
        prototypes(words[list(order)], classes[list(order)], 3)[0], prototypes(words, classes, 3)[0]
    )


def test_masked_words_do_not_enter():
    words, classes = states(4, 3), torch.tensor([0, 1, 0, 1])
    centres, counts = prototypes(words, classes, 2, torch.tensor([True, True, False, True]))
    assert torch.equal(centres[0], words[0])
    assert counts.tolist() == [1, 2]


def test_distances_equal_their_definitions():
    words, centres = states(2, 5, 4), states(2, 3, 4, seed=1)
    gap = words.unsqueeze(2) - centres.unsqueeze(1)
    torch.testing.assert_close(distances(words, centres, "sq_euclid"), gap.square().sum(-1))
    torch.testing.assert_close(distances(words, centres, "euclid"), gap.norm(dim=-1))
    cosine = torch.cosine_similarity(words.unsqueeze(2), centres.unsqueeze(1), dim=-1)
    torch.testing.assert_close(distances(words, centres, "cosine"), 1 - cosine)
    torch.testing.assert_close(nearest(words, centres), gap.square().sum(-1).amin(-1))


@pytest.mark.parametrize("kind", ["sq_euclid", "euclid", "cosine"])
def test_gradients_are_finite_where_a_word_is_its_own_prototype(kind):
    words = states(3, 4).requires_grad_()
    distances(words, words[:2], kind).sum().backward()
    assert words.grad.isfinite().all()


def test_gradient_of_the_squared_distance_is_the_analytic_one():
    words, centres = states(2, 4).requires_grad_(), states(3, 4, seed=1)
    distances(words, centres).sum().backward()
    torch.testing.assert_close(words.grad, 2 * (words.detach().unsqueeze(1) - centres).sum(1))
