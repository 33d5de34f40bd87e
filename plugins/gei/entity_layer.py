"""One layer of entity-level interaction between tokens, entities and visual nodes (GEI, Eq. 7-12)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mnerkit.nn.attention import FeedForward, MultiHeadAttention, SubLayer
from mnerkit.nn.gates import Gate
from mnerkit_plugins.gei.entity_graph import EntityGraph, Relation
from mnerkit_plugins.gei.options import GeiOptions


class Nodes(NamedTuple):
    """Tokens (B, n, d), visual nodes (B, k, d) and, with entity nodes, entities (B, N, d).

    The last layer returns only tokens, since nothing reads the others.
    """

    tokens: Tensor
    visual: Tensor | None
    entities: Tensor | None


class Interaction(NamedTuple):
    """Attention and gates of a layer, for figures.

    Attributes:
        attention: (B, heads, N, k), attention of entities (or tokens of spans) to visual nodes.
        entity_gate: (B, N, d) or (B, N, 1), a_E: the share of the visual nodes in an entity.
        token_gate: (B, n, d) or (B, n, 1), a_T: the share of the entity in its tokens, 0 for tokens outside all spans;
            None without entity nodes.
    """

    attention: Tensor
    entity_gate: Tensor
    token_gate: Tensor | None


class HeteroEntityLayer(nn.Module):
    """A layer of GEI's graph; entities attend to visual nodes and update only their own tokens.

    Args:
        o: the options. Without `entity_nodes` each token of a span attends to visual nodes.
        last: whether it is the last layer, which needs no modules that only update visual nodes.
    """

    def __init__(self, o: GeiOptions, last: bool = False) -> None:
        super().__init__()
        width = o.width

        def around() -> SubLayer:
            return SubLayer(width, o.dropout, o.norm, o.residual)

        def attention() -> MultiHeadAttention:
            return MultiHeadAttention(width, o.heads, o.dropout)

        self.obj_update, self.entity_state = o.obj_update, o.entity_state
        self.among_tokens, self.around_tokens = attention(), around()
        self.among_visual, self.around_visual = attention(), around()
        self.entity_looks, self.entity_gate = attention(), Gate(width, o.gate)
        self.token_gate = Gate(width, o.gate) if o.entity_nodes else None
        self.think_tokens, self.token_network = around(), FeedForward(width, o.hidden, o.dropout)
        self.visual_looks: MultiHeadAttention | None = None
        self.think_visual: SubLayer | None = None
        if not last:
            if o.obj_update != "none":
                self.visual_looks, self.visual_gate = attention(), Gate(width, o.gate)
            self.think_visual, self.visual_network = around(), FeedForward(width, o.hidden, o.dropout)

    def forward(
        self, nodes: Nodes, graph: EntityGraph, apart: bool = False, trace: bool = False
    ) -> tuple[Nodes, Interaction | None]:
        """Update the nodes of B graphs.

        Args:
            nodes: the nodes before the layer; `visual` is required.
            graph: the edges.
            apart: whether tokens outside all spans do not attend to tokens inside one.
            trace: whether to return the attention and the gates.

        Returns:
            The nodes after the layer, and its attention and gates or None. Padding has arbitrary finite values.
        """
        assert nodes.visual is not None
        relation: Relation = "tokens_apart" if apart else "tokens"
        d_t = self.around_tokens(  # Eq. 7
            nodes.tokens, lambda x: graph.look(relation, self.among_tokens, x, x)[0]
        )
        d_v = self.around_visual(nodes.visual, lambda x: graph.look("visual", self.among_visual, x, x)[0])
        actors = d_t if nodes.entities is None else nodes.entities  # H_E
        r_e, weights = graph.look("visual_to_entity", self.entity_looks, actors, d_v, trace)  # Eq. 8
        # actors without visual nodes do not change
        m_e, a_e = self.entity_gate(r_e, actors, graph.fused)  # Eq. 9-10
        m_t, a_t = m_e, None
        if self.token_gate is not None:
            m_t, a_t = self.token_gate(graph.spread(m_e), d_t, graph.inside.unsqueeze(-1))  # Eq. 11-12
        h_t = self.think_tokens(m_t, self.token_network)
        interaction = None if weights is None else Interaction(weights, a_e, a_t)
        if self.think_visual is None:
            return Nodes(h_t, None, None), interaction
        h_v = self.think_visual(self._visual(d_v, actors, m_e, graph), self.visual_network)
        h_e = None
        if nodes.entities is not None:
            h_e = m_e if self.entity_state == "carry" else graph.pool(h_t)
        return Nodes(h_t, h_v, h_e), interaction

    def _visual(self, d_v: Tensor, actors: Tensor, m_e: Tensor, graph: EntityGraph) -> Tensor:
        """Eq. 8-10 in the other direction: M_V from D_V, (B, k, d)."""
        if self.visual_looks is None:
            return d_v
        r_v, _ = graph.look(
            "entity_to_visual", self.visual_looks, d_v, m_e if self.obj_update == "sequential" else actors
        )
        return self.visual_gate(r_v, d_v, graph.attended)[0]
