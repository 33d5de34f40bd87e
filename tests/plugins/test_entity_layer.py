"""GEI's graph: what an image reaches and what it does not, by layers and gates; DGL's edges against matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnerkit_plugins.gei.entity_graph import EntityGraph, entity_graph
from mnerkit_plugins.gei.entity_layer import HeteroEntityLayer, Interaction, Nodes
from mnerkit_plugins.gei.options import GeiOptions

B, N, K, D = 3, 7, 4, 16
TOKENS = torch.arange(N) < torch.tensor([[7], [5], [6]])
VISUAL = torch.arange(K) < torch.tensor([[4], [2], [3]])
# two spans, one word and three; one of two words; none
OWNER = torch.tensor([[-1, 0, -1, 1, 1, 1, -1], [-1, 0, 0, -1, -1, -1, -1], [-1] * N])
INSIDE = OWNER >= 0


def layers(count: int = 2, seed: int = 0, *, entities: bool = True, **options: Any) -> nn.ModuleList:
    """A stack without dropout, its weights large enough for differences to be seen."""
    torch.manual_seed(seed)
    o = GeiOptions(width=D, heads=4, hidden=32, dropout=0.0, entity_nodes=entities, **options)
    return nn.ModuleList(HeteroEntityLayer(o, last=place == count - 1) for place in range(count))


def inputs(seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    tokens, visual = torch.randn(B, N, D, generator=draw), torch.randn(B, K, D, generator=draw)
    return tokens.requires_grad_(), visual.requires_grad_()


def run(
    stack: nn.ModuleList,
    tokens: Tensor,
    visual: Tensor,
    graph: EntityGraph | None = None,
    *,
    entities: bool = True,
    apart: bool = False,
) -> tuple[Tensor, list[Interaction]]:
    """Tokens after all layers, and what each layer did."""
    graph = graph or entity_graph(TOKENS, VISUAL, OWNER, entities)
    nodes = Nodes(tokens, visual, graph.pool(tokens) if entities else None)
    done = []
    for number, layer in enumerate(stack):
        nodes, interaction = layer(nodes, graph, apart=apart and number > 0, trace=True)
        done.append(interaction)
    return nodes.tokens, done


def text_only(stack: nn.ModuleList, tokens: Tensor) -> Tensor:
    """The path of a text without picture, written out: attention among tokens and feed-forward network."""
    for layer in stack:
        assert isinstance(layer, HeteroEntityLayer)
        among = layer.among_tokens
        tokens = layer.around_tokens(tokens, lambda x, among=among: among(x, x, mask=TOKENS)[0])
        tokens = layer.think_tokens(tokens, layer.token_network)
    return tokens


def differs(a: Tensor, b: Tensor) -> Tensor:
    """(B, N) bool."""
    return (a - b).abs().amax(-1) > 1e-4


class Shut(nn.Module):
    """A gate that passes this share of its first input."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, a: Tensor, b: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.full_like(a, self.share) * mask
        return share * a + (1 - share) * b, share


@pytest.mark.parametrize("entities", [True, False])
def test_a_post_without_spans_is_read_as_text_alone(entities: bool) -> None:
    stack, (tokens, visual) = layers(3, entities=entities), inputs()
    states, _ = run(stack, tokens, visual, entities=entities)
    other, _ = run(stack, tokens, torch.randn_like(visual), entities=entities)
    assert torch.equal(states[2, :6], other[2, :6])
    torch.testing.assert_close(states[2, :6], text_only(stack, tokens)[2, :6])
    assert differs(states, other)[0].any()


@pytest.mark.parametrize("entities", [True, False])
def test_after_one_layer_the_image_is_in_the_spans_and_after_two_everywhere(entities: bool) -> None:
    tokens, visual = inputs()
    for count, apart, reached in ((1, False, INSIDE), (2, False, None), (3, True, INSIDE)):
        stack = layers(count, entities=entities)
        states = [run(stack, tokens, seen, entities=entities, apart=apart)[0] for seen in (visual, visual.flip(-1))]
        # the second row sees a picture, too; the third has no span
        wanted = reached if reached is not None else INSIDE.any(1, keepdim=True).expand(B, N)
        assert torch.equal(differs(*states) & TOKENS, wanted & TOKENS), (count, apart)


def test_the_order_of_visual_nodes_is_that_of_their_states_and_means_nothing_else() -> None:
    stack, (tokens, visual) = layers(2), inputs()
    graph, order = entity_graph(TOKENS, VISUAL, OWNER), torch.tensor([2, 0, 3, 1])
    turned = entity_graph(TOKENS, VISUAL[:, order], OWNER)
    nodes, _ = stack[0](Nodes(tokens, visual, graph.pool(tokens)), graph)
    other, _ = stack[0](Nodes(tokens, visual[:, order], turned.pool(tokens)), turned)
    torch.testing.assert_close(nodes.tokens[TOKENS], other.tokens[TOKENS])
    torch.testing.assert_close(nodes.visual[:, order][VISUAL[:, order]], other.visual[VISUAL[:, order]])
    states, done = run(stack, tokens, visual)
    again, done_again = run(stack, tokens, visual[:, order], turned)
    torch.testing.assert_close(states[TOKENS], again[TOKENS])
    torch.testing.assert_close(done[1].attention[..., order], done_again[1].attention)


def test_the_order_of_spans_means_nothing() -> None:
    stack, (tokens, visual) = layers(2), inputs()
    swapped = torch.where(INSIDE & (torch.arange(B) == 0).unsqueeze(1), 1 - OWNER, OWNER)
    states, _ = run(stack, tokens, visual)
    again, _ = run(stack, tokens, visual, entity_graph(TOKENS, VISUAL, swapped))
    torch.testing.assert_close(states[TOKENS], again[TOKENS])


@pytest.mark.parametrize("name", ["entity_gate", "token_gate"])
def test_a_shut_gate_keeps_the_image_out(name: str) -> None:
    tokens, visual = inputs()
    for share, reached in ((0.0, False), (0.5, True)):
        stack = layers(3)
        for layer in stack:
            setattr(layer, name, Shut(share))
        states = [run(stack, tokens, seen)[0] for seen in (visual, visual.flip(-1))]
        assert bool((differs(*states) & TOKENS).any()) == reached


def test_an_open_gate_hands_every_token_of_a_span_what_its_entity_fused() -> None:
    stack, (tokens, visual) = layers(1), inputs()
    (layer,) = stack
    layer.token_gate = Shut(1.0)
    fused: list[Tensor] = []
    handed: list[Tensor] = []
    layer.entity_gate.register_forward_hook(lambda _, __, out: fused.append(out[0]))
    layer.think_tokens.register_forward_pre_hook(lambda _, given: handed.append(given[0]))
    run(stack, tokens, visual)
    for row, token in INSIDE.nonzero().tolist():
        assert torch.equal(handed[0][row, token], fused[0][row, OWNER[row, token]])


def test_an_entity_is_the_maximum_over_its_tokens() -> None:
    tokens, _ = inputs()
    graph = entity_graph(TOKENS, VISUAL, OWNER)
    pooled = graph.pool(tokens)
    assert torch.equal(pooled[0, 0], tokens[0, 1]), "a single token is its entity"
    assert torch.equal(pooled[0, 1], tokens[0, 3:6].amax(0))
    assert graph.actor_mask.tolist() == [[True, True], [True, False], [False, False]]
    assert not pooled[~graph.actor_mask].any()
    lower = tokens.detach().clone()
    lower[0, 6] = tokens[0, 3:6].amin() - 1
    longer = OWNER.clone()
    longer[0, 6] = 1
    assert torch.equal(entity_graph(TOKENS, VISUAL, longer).pool(lower)[0, 1], pooled[0, 1])
    spread = graph.spread(pooled)
    assert torch.equal(spread[0, 4], pooled[0, 1]) and not spread[~INSIDE].any()


@pytest.mark.parametrize("backend", ["dense", "dgl"])
def test_room_for_more_entities_than_there_are_has_no_effect(backend: Any) -> None:
    if backend == "dgl":
        pytest.importorskip("dgl")
    stack, (tokens, visual) = layers(3), inputs()
    exact, roomy = (entity_graph(TOKENS, VISUAL, OWNER, backend=backend, count=count) for count in (None, N))
    assert (exact.count, roomy.count) == (2, N)
    wanted, seen = (run(stack, tokens, visual, graph)[0][TOKENS] for graph in (exact, roomy))
    torch.testing.assert_close(seen, wanted)


@pytest.mark.parametrize("entities", [True, False])
def test_padding_of_tokens_spans_and_visual_nodes_has_no_effect(entities: bool) -> None:
    """Each row alone, without any padding, is as in the batch, whose padding holds noise."""
    stack, (tokens, visual) = layers(2, entities=entities), inputs()
    states, done = run(stack, tokens, visual, entities=entities)
    for row in range(B):
        n, k = int(TOKENS[row].sum()), int(VISUAL[row].sum())
        own = slice(row, row + 1)
        graph = entity_graph(TOKENS[own, :n], VISUAL[own, :k], OWNER[own, :n], entities)
        alone, alone_done = run(stack, tokens[own, :n], visual[own, :k], graph, entities=entities)
        torch.testing.assert_close(alone[0], states[row, :n], atol=1e-5, rtol=1e-4)
        real = graph.actor_mask[0]
        together = done[0].attention[row, :, : len(real), :k][:, real]
        torch.testing.assert_close(alone_done[0].attention[0][:, real], together, atol=1e-5, rtol=1e-4)
    (states * TOKENS.unsqueeze(-1)).square().sum().backward()
    assert tokens.grad is not None and visual.grad is not None
    assert not tokens.grad[~TOKENS].any() and not visual.grad[~VISUAL].any()


def test_padded_spans_receive_no_gradient() -> None:
    stack, (tokens, visual) = layers(2), inputs()
    graph = entity_graph(TOKENS, VISUAL, OWNER)
    entities = torch.randn(B, graph.count, D, requires_grad=True)
    nodes = Nodes(tokens, visual, entities)
    for layer in stack:
        nodes, _ = layer(nodes, graph)
    (nodes.tokens * TOKENS.unsqueeze(-1)).square().sum().backward()
    assert entities.grad is not None
    assert not entities.grad[~graph.actor_mask].any() and entities.grad[graph.actor_mask].any(-1).all()


def test_attention_of_entities_is_a_distribution_over_real_visual_nodes() -> None:
    stack, (tokens, visual) = layers(2), inputs()
    visible = VISUAL.clone()
    visible[1] = False
    graph = entity_graph(TOKENS, visible, OWNER)
    for each in run(stack, tokens, visual, graph)[1]:
        sums = each.attention.sum(-1)
        torch.testing.assert_close(sums[0], torch.ones_like(sums[0]))
        assert not sums[1].any(), "a post without a picture"
        assert not each.attention.masked_select(~visible[:, None, None, :]).any()


def test_without_a_picture_tokens_that_look_by_themselves_are_read_as_text_alone() -> None:
    """The row -Span Detection of the paper: all tokens look, here at nothing."""
    stack, (tokens, visual) = layers(2, entities=False), inputs()
    everywhere = torch.zeros_like(OWNER).masked_fill(~TOKENS, -1)
    graph = entity_graph(TOKENS, torch.zeros_like(VISUAL), everywhere, entities=False)
    states, _ = run(stack, tokens, visual, graph, entities=False)
    torch.testing.assert_close(states[TOKENS], text_only(stack, tokens)[TOKENS])


def test_without_a_picture_entities_still_gather_their_tokens() -> None:
    stack, (tokens, visual) = layers(2), inputs()
    graph = entity_graph(TOKENS, torch.zeros_like(VISUAL), OWNER)
    states, _ = run(stack, tokens, visual, graph)
    assert torch.equal(states, run(stack, tokens, torch.randn_like(visual), graph)[0])
    assert differs(states, text_only(stack, tokens))[0].any()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"residual": False},
    {"norm": "pre"},
    {"gate": "scalar"},
    {"obj_update": "sequential"},
    {"obj_update": "none"},
    {"entity_state": "carry"},
    {"entities": False},
    {"entities": False, "obj_update": "sequential"},
]


def every_gradient(backend: str, apart: bool, **options: Any) -> Iterator[Tensor]:
    stack, (tokens, visual) = layers(3, **options), inputs()
    entities = options.get("entities", True)
    graph = entity_graph(TOKENS, VISUAL, OWNER, entities, backend)  # type: ignore[arg-type]
    states, done = run(stack, tokens, visual, graph, entities=entities, apart=apart)
    yield states[TOKENS]
    yield from (each.attention.transpose(1, 2)[graph.actor_mask] for each in done)
    (states[TOKENS] * torch.linspace(-1, 1, D)).sum().backward()
    for each in (tokens, visual, *stack.parameters()):
        assert each.grad is not None
        yield each.grad


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("apart", [False, True])
def test_dgl_and_matrix_products_agree_forward_and_backward(options: dict[str, Any], apart: bool) -> None:
    pytest.importorskip("dgl")
    pairs = zip(every_gradient("dense", apart, **options), every_gradient("dgl", apart, **options), strict=True)
    for dense, along_edges in pairs:
        torch.testing.assert_close(dense, along_edges, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["dense", "dgl"])
@pytest.mark.parametrize("options", [{}, {"entities": False}], ids=str)
def test_a_batch_without_any_span_or_picture_leaves_no_weight_without_a_gradient(
    backend: str, options: dict[str, Any]
) -> None:
    """One without would stop distributed training."""
    if backend == "dgl":
        pytest.importorskip("dgl")
    entities = options.get("entities", True)
    nothing = torch.full_like(OWNER, -1), torch.zeros_like(VISUAL)
    for owner, visible in ((nothing[0], VISUAL), (OWNER, nothing[1]), nothing):
        stack, (tokens, visual) = layers(2, **options), inputs()
        graph = entity_graph(TOKENS, visible, owner, entities, backend)  # type: ignore[arg-type]
        states, _ = run(stack, tokens, visual, graph, entities=entities)
        assert states[TOKENS].isfinite().all()
        states[TOKENS].square().sum().backward()
        assert all(each.grad is not None and each.grad.isfinite().all() for each in stack.parameters())


@pytest.mark.parametrize("options", [each for each in OPTIONS if each], ids=str)
def test_every_option_changes_the_result(options: dict[str, Any]) -> None:
    tokens, visual = inputs()
    plain, _ = run(layers(2), tokens, visual)
    other, _ = run(layers(2, **options), tokens, visual, entities=options.get("entities", True))
    assert differs(plain, other).any()


def count(hidden: int, last: bool = False) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in HeteroEntityLayer(GeiOptions(hidden=hidden), last).parameters())


def test_a_layer_of_the_papers_size_has_ten_million_parameters() -> None:
    attention, gates, norms = 4 * 4 * (512 * 512 + 512), 6 * 512 * 512, 4 * 2 * 512
    for hidden, layer, six in ((2048, 10.0, 60), (256, 6.3, 38)):
        networks = 2 * (2 * 512 * hidden + hidden + 512)
        found = count(hidden=hidden)
        assert found == attention + gates + norms + networks
        assert round(found / 1e6, 1) == layer and round(6 * found / 1e6) == six
    # the last layer's visual nodes are read by nobody: attention to entities, two gates, network and norm
    unread = attention // 4 + gates // 3 + norms // 4 + (2 * 512 * 2048 + 2048 + 512)
    assert count(hidden=2048, last=True) == count(hidden=2048) - unread
