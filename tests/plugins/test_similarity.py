"""Multi-view similarity, against loops and by its properties."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from mnerkit_plugins.mousing.options import MousingOptions
from mnerkit_plugins.mousing.similarity import MultiViewSimilarity, mean_pair_cosine

MASK = torch.tensor([[True] * 5, [True, True, True, False, True]])


@pytest.fixture(params=["diag", "linear"])
def module(request: pytest.FixtureRequest) -> MultiViewSimilarity:
    torch.manual_seed(0)
    return MultiViewSimilarity(4, MousingOptions(num_views=3, view_weight=request.param, view_rank=2))


def test_it_is_the_mean_cosine_over_views(module: MultiViewSimilarity) -> None:
    x = torch.randn(2, 5, 4)
    got = module(x, MASK).detach()
    for b in range(2):
        for p in range(5):
            for q in range(5):
                cosines = []
                for view in module.weight:
                    left, right = (x[b, n] * view if view.ndim == 1 else x[b, n] @ view for n in (p, q))
                    cosines.append(torch.cosine_similarity(left, right, dim=0).detach())
                wanted = sum(cosines) / 3 if MASK[b, p] and MASK[b, q] else 0.0
                assert float(got[b, p, q]) == pytest.approx(float(wanted), abs=1e-5)


def test_it_is_bounded_symmetric_one_on_the_diagonal_and_scale_free(module: MultiViewSimilarity) -> None:
    x = torch.randn(2, 5, 4)
    x[0, 2] = 0  # ReLU and dropout can leave nothing of a node
    got = module(x, MASK)
    assert (got.abs() <= 1 + 1e-5).all()
    torch.testing.assert_close(got, got.mT)
    assert torch.equal(got.diagonal(dim1=-2, dim2=-1), MASK.float())
    torch.testing.assert_close(module(x * 37.0, MASK), got)


def test_every_view_learns_and_zero_nodes_give_finite_gradients(module: MultiViewSimilarity) -> None:
    x = torch.randn(2, 5, 4)
    x[0, 2] = 0
    x.requires_grad_()
    (module(x, MASK) * torch.randn(2, 5, 5)).sum().backward()
    assert module.weight.grad is not None
    assert (module.weight.grad.flatten(1).abs().sum(1) > 0).all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_first_nodes_are_compared_as_among_all_nodes(module: MultiViewSimilarity) -> None:
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(module(x, MASK, 3), module(x, MASK)[:, :3])


def test_the_mean_cosine_is_of_two_different_real_nodes_of_one_graph() -> None:
    x = torch.randn(3, 2, 5, 4)  # of three environments
    pairs = [
        torch.cosine_similarity(graph[p], graph[q], dim=0)
        for environment in x
        for graph, mask in zip(environment, MASK, strict=True)
        for p, q in combinations(mask.nonzero().flatten().tolist(), 2)
    ]
    torch.testing.assert_close(mean_pair_cosine(x, MASK), torch.stack(pairs).mean())
    assert mean_pair_cosine(x, torch.eye(5, dtype=torch.bool)[:2]) == 0
