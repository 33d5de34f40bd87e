"""Cosine edges, normalised adjacency and graph layers, against loops and by their properties."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.errors import UsageError
from mnerkit.nn.chain_tree import forced
from mnerkit.nn.graph import (
    Gather,
    GraphConvolution,
    GraphUpdate,
    cosine_graph,
    edge_density,
    normalise_adjacency,
    pair_mask,
    per_node,
    real_nodes,
    strongest_neighbours,
)
from mnerkit.nn.graph_backends import gather_over, load_dgl

SIMS = ("minmax_block", "zscore_block", "raw")


class Version(NamedTuple):
    """As `sys.version_info`."""

    major: int
    minor: int


def nodes(
    seed: int, length: int = 7, width: int = 5, patches: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two graphs of `length` nodes, the second with two padded words, the last `patches` nodes patches."""
    x = torch.randn(2, length, width, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, 1:3] = False
    return x, mask, torch.arange(length) >= length - patches


def scaled_by_loops(x: torch.Tensor, mask: torch.Tensor, is_image: torch.Tensor, sim: str) -> dict:
    """Eq. 2's left side, pair by pair, for one graph."""
    cosine = {
        (p, q): float(x[p] @ x[q] / (x[p].norm() * x[q].norm()))
        for p in range(len(x))
        for q in range(len(x))
        if p != q and mask[p] and mask[q]
    }
    if sim == "raw":
        return cosine
    out = {}
    for block in (0, 1, 2):
        own = {
            pair: value for pair, value in cosine.items() if int(is_image[pair[0]]) + int(is_image[pair[1]]) == block
        }
        if not own:
            continue
        values = list(own.values())
        if sim == "minmax_block":
            centre, spread = min(values), max(values) - min(values)
        else:
            centre = sum(values) / len(values)
            spread = math.sqrt(sum((value - centre) ** 2 for value in values) / len(values))
        out |= {pair: (value - centre) / spread if spread > 1e-6 else 0.0 for pair, value in own.items()}
    return out


@pytest.mark.parametrize("sim", SIMS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), delta=st.floats(-0.5, 0.95))
def test_edges_equal_the_equation_pair_by_pair(sim: str, seed: int, delta: float) -> None:
    x, mask, is_image = nodes(seed)
    adjacency = cosine_graph(x, mask, delta, is_image, sim)
    for b in range(2):
        value = scaled_by_loops(x[b], mask[b], is_image, sim)
        for p in range(7):
            for q in range(7):
                near = (p, q) in value and abs(value[p, q] - delta) < 1e-4
                wanted = float(mask[b, p]) if p == q else float(value.get((p, q), -math.inf) > delta)
                assert near or adjacency[b, p, q] == wanted


@pytest.mark.parametrize("sim", SIMS)
@pytest.mark.parametrize("seed", range(5))
def test_graph_is_symmetric_with_a_diagonal_of_real_nodes(sim: str, seed: int) -> None:
    x, mask, is_image = nodes(seed)
    adjacency = cosine_graph(x * 1e3, mask, 0.3, is_image, sim)
    assert torch.equal(adjacency, adjacency.mT)
    assert torch.equal(adjacency.diagonal(dim1=-2, dim2=-1).bool(), mask)
    assert not adjacency[~mask].any()
    assert not adjacency.mT[~mask].any()


@pytest.mark.parametrize("sim", ["minmax_block", "raw"])
def test_thresholds_beyond_the_range_give_the_full_and_the_empty_graph(sim: str) -> None:
    x, mask, is_image = nodes(0)
    pairs = mask.unsqueeze(1) & mask.unsqueeze(2)
    assert torch.equal(cosine_graph(x, mask, -1.01, is_image, sim).bool(), pairs)
    assert torch.equal(cosine_graph(x, mask, 1.0, is_image, sim), torch.diag_embed(mask).float())
    same = x[:, :1].expand(-1, 7, -1)  # cosines of 1, up to rounding
    assert torch.equal(cosine_graph(same, mask, 1.0 + 1e-5, is_image, sim), torch.diag_embed(mask).float())


@pytest.mark.parametrize("sim", SIMS)
@given(seed=st.integers(0, 1000), low=st.floats(-1, 1), step=st.floats(0, 1))
@settings(max_examples=25)
def test_edges_only_vanish_as_the_threshold_grows(sim: str, seed: int, low: float, step: float) -> None:
    x, mask, is_image = nodes(seed)
    few = cosine_graph(x, mask, low + step, is_image, sim)
    assert (few <= cosine_graph(x, mask, low, is_image, sim)).all()


def test_edges_carry_no_gradient_and_block_forms_need_to_know_the_patches() -> None:
    x, mask, is_image = nodes(0)
    assert not cosine_graph(x.requires_grad_(), mask, 0.1, is_image).requires_grad
    with pytest.raises(ValueError, match="is_image"):
        cosine_graph(x, mask, 0.1)


def test_block_scale_joins_modalities_that_a_raw_threshold_keeps_apart() -> None:
    words, patches = torch.randn(6, 8).abs(), torch.randn(4, 8).abs()
    x = torch.cat((words, patches * torch.tensor([1.0] * 3 + [-1.0] * 5)))[None]  # as in CLIP: low cosines across
    mask, is_image = torch.ones(1, 10, dtype=torch.bool), torch.arange(10) >= 6
    raw = edge_density(cosine_graph(x, mask, 0.55, is_image, "raw"), mask, is_image)
    block = edge_density(cosine_graph(x, mask, 0.55, is_image), mask, is_image)
    assert raw["text_image"] == 0 < block["text_image"]


def test_density_counts_pairs_of_two_real_nodes_by_block() -> None:
    mask, is_image = torch.tensor([[True, True, True, False, True]]), torch.arange(5) >= 3
    adjacency = torch.ones(1, 5, 5)
    adjacency[0, 0, 1] = adjacency[0, 1, 0] = 0
    found = edge_density(adjacency, mask, is_image)
    assert {name: float(value) for name, value in found.items()} == {
        "text_text": pytest.approx(2 / 3),
        "text_image": 1.0,
        "image_image": 0.0,
    }


@pytest.mark.parametrize("how", ["row", "sym", "none"])
@pytest.mark.parametrize("loops", [False, True])
def test_normalisation_equals_loops(how: str, loops: bool) -> None:
    weights = torch.randn(2, 6, 6)
    weights = (weights + weights.mT) / 2
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    got = normalise_adjacency(weights, mask, how, self_loops=loops)
    for b in range(2):
        real = [p for p in range(6) if mask[b, p]]
        w = {(p, q): float(weights[b, p, q]) for p in real for q in real}
        if loops:
            w |= {(p, p): max(w[p, p], 1.0) for p in real}
        degree = {p: sum(abs(w[p, q]) for q in real) for p in real}
        for p in range(6):
            for q in range(6):
                scale = 1.0
                if (p, q) in w and how != "none":
                    scale = degree[p] if how == "row" else math.sqrt(degree[p] * degree[q])
                wanted = w.get((p, q), 0.0) / scale
                assert got[b, p, q] == pytest.approx(wanted, abs=1e-5)


def test_a_node_without_neighbours_keeps_zeros_and_a_finite_gradient() -> None:
    weights = torch.zeros(1, 3, 3, requires_grad=True)
    for how in ("row", "sym"):
        out = normalise_adjacency(weights, torch.ones(1, 3, dtype=torch.bool), how)
        (gradient,) = torch.autograd.grad(out.sum(), weights)
        assert not out.any()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("sim", SIMS)
def test_straight_through_edges_are_the_same_graph_with_a_sigmoids_gradient(sim: str) -> None:
    x, mask, is_image = nodes(0)
    x = x.double().requires_grad_()
    hard = cosine_graph(x, mask, 0.3, is_image, sim)
    soft = cosine_graph(x, mask, 0.3, is_image, sim, temperature=0.2)
    assert torch.equal(hard, soft)
    assert not hard.requires_grad
    pull = torch.randn_like(soft)
    (gradient,) = torch.autograd.grad((soft * pull).sum(), x)

    def surrogate(x: torch.Tensor) -> torch.Tensor:
        """Pair by pair, by central differences below: nothing of the implementation is used."""
        total = x.new_zeros(())
        for b in range(2):
            values = scaled_by_loops(x[b], mask[b], is_image, sim)
            for (p, q), value in values.items():
                total = total + pull[b, p, q] / (1 + math.exp(-(value - 0.3) / 0.2))
        return total

    step = 1e-5
    for place in ((0, 0, 1), (0, 5, 2), (1, 4, 0), (1, 1, 3)):
        sides = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved[place] += sign * step
            sides.append(surrogate(moved))
        assert float(gradient[place]) == pytest.approx(float(sides[0] - sides[1]) / (2 * step), rel=1e-3, abs=1e-6)
    assert not gradient[1, 1:3].any()


@pytest.mark.parametrize("sim", SIMS)
def test_straight_through_gradients_are_finite_where_a_block_has_no_spread(sim: str) -> None:
    x = torch.ones(1, 4, 3, requires_grad=True)  # three equal words and a lone patch
    edges = cosine_graph(x, torch.tensor([[True, True, False, True]]), 0.3, torch.arange(4) > 2, sim, temperature=0.1)
    edges.sum().backward()
    assert x.grad.isfinite().all()


@given(seed=st.integers(0, 1000), count=st.integers(1, 9))
@settings(max_examples=30)
def test_strongest_neighbours_are_those_of_a_sort_with_ties_kept(seed: int, count: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randint(0, 4, (2, 7, 7), generator=draw).float()
    mask = torch.rand(2, 7, generator=draw) > 0.3
    kept = strongest_neighbours(weights, mask, count)
    for b in range(2):
        for p in range(7):
            real = sorted((float(weights[b, p, q]) for q in range(7) if mask[b, q]), reverse=True)
            for q in range(7):
                wanted = bool(mask[b, p] and mask[b, q]) and float(weights[b, p, q]) >= real[:count][-1]
                assert bool(kept[b, p, q]) == wanted


@pytest.fixture
def dgl() -> None:
    pytest.importorskip("dgl", reason="DGL has no wheel for this Python", exc_type=ImportError)


def gathered(gather: Gather, weights: torch.Tensor, values: torch.Tensor, pull: torch.Tensor) -> list[torch.Tensor]:
    """Sums, and gradients of weights and values."""
    weights, values = weights.clone().requires_grad_(), values.clone().requires_grad_()
    sums = gather(weights, values)
    return [sums.detach(), *torch.autograd.grad((sums * pull).sum(), (weights, values))]


@pytest.mark.usefixtures("dgl")
@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.2, 1.0]), length=st.integers(1, 8))
def test_dgl_sums_equal_dense_ones_forward_and_backward(seed: int, share: float, length: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, length, generator=draw) > 0.3
    edges = (torch.rand(3, length, length, generator=draw) < share) & pair_mask(mask)
    edges[0, 0] = False  # a node that hears nothing
    weights = torch.randn(3, length, length, generator=draw) * edges
    values, pull = torch.randn(2, 3, length, 5, generator=draw)
    dense, sparse = (gathered(gather_over(edges, kind), weights, values, pull) for kind in ("dense", "dgl"))
    torch.testing.assert_close(sparse[0], dense[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(sparse[1], dense[1] * edges, rtol=0, atol=1e-5)
    torch.testing.assert_close(sparse[2], dense[2], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("dgl")
@pytest.mark.parametrize("layer", [GraphConvolution(6, 4), GraphUpdate(6)], ids=lambda layer: type(layer).__name__)
def test_a_layer_is_the_same_over_dgl(layer: torch.nn.Module) -> None:
    x, weights = torch.randn(2, 5, 6), torch.rand(2, 5, 5)
    found = []
    for kind in ("dense", "dgl"):
        layer.zero_grad()
        out = layer(x, weights, gather_over(torch.ones_like(weights).bool(), kind))
        out.pow(2).sum().backward()
        found.append([out.detach(), *(each.grad.clone() for each in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("dgl")
def test_dgl_sums_in_full_precision_under_autocast() -> None:
    weights, values = torch.rand(1, 4, 4), torch.randn(1, 4, 3)
    gather = gather_over(torch.ones(1, 4, 4, dtype=torch.bool), "dgl")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = gather(weights, values)
    torch.testing.assert_close(sums, weights @ values)
    with pytest.raises(ValueError, match="are not those of the edges"):
        gather(weights[:, :2, :2], values[:, :2])


def test_without_dgl_one_line_tells_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dgl", None)
    monkeypatch.setattr(sys, "version_info", Version(3, 11))
    with pytest.raises(UsageError, match=r"pip install 'dgl==1\.1\.3'.*--model\.graph dense") as refused:
        load_dgl()
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(sys, "version_info", Version(3, 12))
    with pytest.raises(UsageError, match=r"no wheel for Python 3\.12 and later \(this is 3\.12\)"):
        load_dgl()


def test_dgl_is_not_imported_unasked_and_writes_nothing_home(tmp_path: Path) -> None:
    script = (
        "import sys; from mnerkit.nn.graph_backends import gather_over; import torch; "
        "gather_over(torch.ones(1, 2, 2) > 0); assert 'dgl' not in sys.modules"
    )
    if importlib.util.find_spec("dgl") is not None:
        script += "; gather_over(torch.ones(1, 2, 2) > 0, 'dgl'); assert 'dgl' in sys.modules"
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("DGLBACKEND", None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not (tmp_path / ".dgl").exists()


def test_layers_equal_the_equations_node_by_node() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(4, 3), torch.rand(4, 4)
    layer, update = GraphConvolution(3, 5), GraphUpdate(3)
    for p in range(4):
        gathered = sum(weights[p, q] * (layer.linear.weight @ x[q]) for q in range(4)) + layer.linear.bias
        torch.testing.assert_close(layer(x, weights)[p], gathered.relu())
        message = sum(weights[p, q] * (update.message.weight @ x[q] + update.message.bias) for q in range(4))
        wanted = update.update.weight @ torch.cat((x[p], message)) + update.update.bias
        torch.testing.assert_close(update(x, weights)[p], wanted.relu())


def test_layers_read_real_nodes_alone() -> None:
    mask, x = torch.tensor([[True, True, False], [True, False, False]]), torch.randn(2, 3, 4, requires_grad=True)
    real, seen = real_nodes(mask), []

    def layer(nodes: torch.Tensor) -> torch.Tensor:
        seen.append(len(nodes))
        return nodes * 2 + 1

    out = per_node(layer, x, real)
    assert seen == [3]
    torch.testing.assert_close(out, (x * 2 + 1) * mask.unsqueeze(-1))
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2.0 * mask.unsqueeze(-1).expand(2, 3, 4))
    with forced():  # as on a GPU, where nobody may wait for the number of nodes
        assert real_nodes(mask) is None
    torch.testing.assert_close(per_node(layer, x, None), x * 2 + 1)


@pytest.mark.parametrize("residual", [True, False])
def test_messages_to_the_first_nodes_are_those_to_all_nodes(residual: bool) -> None:
    torch.manual_seed(0)
    mask, x = torch.tensor([[True, True, True, False], [True, True, False, True]]), torch.randn(2, 4, 3)
    layer = GraphUpdate(3, dropout=0.5, residual=residual)
    weights = normalise_adjacency(torch.rand(2, 4, 4), mask)
    torch.manual_seed(1)
    whole = layer(x, weights)
    after = torch.rand(1)
    torch.manual_seed(1)
    first = layer(x, weights[:, :3], real=real_nodes(mask), updated=real_nodes(mask[:, :3]))
    assert torch.equal(torch.rand(1), after)
    torch.testing.assert_close(first[mask[:, :3]], whole[:, :3][mask[:, :3]])
