"""The graph of a post's tokens, entities and visual nodes (GEI), dense or as lists of edges with DGL.

B graphs of n tokens, N entities and k visual nodes. Edges: all pairs of tokens, all pairs of visual nodes, all pairs of
an entity and a visual node, and an entity with the tokens of its span; a token and a visual node are never joined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnerkit.nn.attention import KeyMask, MultiHeadAttention
from mnerkit.nn.graph_backends import GraphBackend, load_dgl, unsupported

Relation = Literal["tokens", "tokens_apart", "visual", "visual_to_entity", "entity_to_visual"]


class EntityGraph:
    """Edges of B graphs as masks, and message passing as matrix products.

    Actors attend to visual nodes: the entities or, without entity nodes, each token of a span.

    Args:
        token_mask: (B, n) bool, real tokens.
        visual_mask: (B, k) bool, real visual nodes.
        owner: (B, n) long, the number of each token's entity, -1 for none.
        entities: whether there are entity nodes.
        count: N, no fewer than any post has entities; None: the most that a post has, which is read from the device.

    Attributes:
        inside: (B, n) bool, tokens of spans.
        actor_mask: (B, N) bool, real entities; without entity nodes `inside`.
        fused: (B, N, 1) bool, actors with a visual node to attend to.
        attended: (B, k, 1) bool, visual nodes with an actor that attends to them.
    """

    def __init__(
        self,
        token_mask: Tensor,
        visual_mask: Tensor,
        owner: Tensor,
        entities: bool = True,
        count: int | None = None,
    ) -> None:
        self.token_mask, self.visual_mask, self.owner = token_mask, visual_mask, owner
        self.inside = (owner >= 0) & token_mask
        # at least one place for an entity, so that weights are used even if no post has one
        if count is None:
            count = int(owner.max()) + 1 if owner.numel() else 0
        self.count = max(1, count)
        # tokens without an entity go to an extra place after the last one
        self.place = owner.masked_fill(~self.inside, self.count)
        self.actor_mask = self._entity_mask() if entities else self.inside
        self.fused = (self.actor_mask & visual_mask.any(1, keepdim=True)).unsqueeze(-1)
        self.attended = (visual_mask & self.actor_mask.any(1, keepdim=True)).unsqueeze(-1)
        self._prepare()

    def _prepare(self) -> None:
        """Load what a backend needs; matrix products need nothing."""
        self._masks: dict[Relation, KeyMask] = {}

    def _entity_mask(self) -> Tensor:
        mask = self.inside.new_zeros(len(self.place), self.count + 1)
        return mask.scatter(1, self.place, True)[:, :-1]

    def keys(self, relation: Relation) -> Tensor:
        """Which keys a query of a relation may attend to: (B, M), or (B, N, M) if it depends on the query."""
        if relation in ("visual", "visual_to_entity"):
            return self.visual_mask
        if relation == "entity_to_visual":
            return self.actor_mask
        tokens = self.token_mask
        if relation == "tokens":
            return tokens
        # tokens outside all spans do not attend to tokens inside one
        return tokens.unsqueeze(1) & (self.inside.unsqueeze(2) | ~self.inside.unsqueeze(1))

    def look(
        self,
        relation: Relation,
        attention: MultiHeadAttention,
        queries: Tensor,
        keys: Tensor,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of queries (B, N, d) to the keys (B, M, d) of a relation.

        Returns:
            (B, N, d), and the weights (B, heads, N, M) or None.
        """
        if relation not in self._masks:  # layers share it; what has no keys is padding, or its gate is closed
            self._masks[relation] = KeyMask(self.keys(relation), unread=True)
        return attention(queries, keys, mask=self._masks[relation], need_weights=need_weights)  # type: ignore[no-any-return]

    def pool(self, tokens: Tensor) -> Tensor:
        """Elementwise maximum over the tokens (B, n, d) of each span: (B, N, d), 0 without an entity."""
        place = self.place.unsqueeze(-1).expand_as(tokens)
        pooled = tokens.new_zeros(len(tokens), self.count + 1, tokens.shape[-1])
        # contiguous at once, or each product that reads it would copy it
        return pooled.scatter_reduce(1, place, tokens, "amax", include_self=False)[:, :-1].contiguous()

    def spread(self, entities: Tensor) -> Tensor:
        """Copy entities (B, N, d) to the tokens of their spans: (B, n, d), 0 for tokens outside all spans."""
        padded = nn.functional.pad(entities, (0, 0, 0, 1))
        return padded.gather(1, self.place.unsqueeze(-1).expand(-1, -1, entities.shape[-1]))


class DglEntityGraph(EntityGraph):
    """The same graph as lists of edges: for each relation, one DGL graph contains all graphs of a batch.

    Values and gradients equal those of `EntityGraph`, except that the gradient of a tied maximum goes to one of the
    tied tokens. Rows of padding, which nothing reads, attend to nothing here.
    """

    def _prepare(self) -> None:
        self._dgl = load_dgl()
        self._joined: dict[str, tuple[Any, tuple[Tensor, Tensor, Tensor]]] = {}

    def _pairs(self, relation: str) -> Tensor:
        """The pairs of targets and sources of a relation, (B, N, M) bool."""
        if relation in ("in", "holds"):
            count = torch.arange(self.count, device=self.owner.device).view(1, -1, 1)
            members = (self.owner.unsqueeze(1) == count) & self.inside.unsqueeze(1)  # (B, N, n)
            return members if relation == "in" else members.transpose(1, 2)
        keys = self.keys(relation)  # type: ignore[arg-type]
        targets = {"visual_to_entity": self.actor_mask, "tokens": self.token_mask, "tokens_apart": self.token_mask}
        real = targets.get(relation, self.visual_mask)
        return (keys.unsqueeze(1) if keys.dim() == 2 else keys) & real.unsqueeze(2)

    def _edges(self, relation: str) -> tuple[Any, tuple[Tensor, Tensor, Tensor]]:
        """The DGL graph of a relation, from keys to queries, and its edges as numbers of row, query and key.

        Raises:
            UsageError: DGL has no support for the device.
        """
        if relation not in self._joined:
            pairs = self._pairs(relation)
            (_, queries, keys), (row, query, key) = pairs.shape, pairs.nonzero(as_tuple=True)
            edges = {("key", relation, "query"): (row * keys + key, row * queries + query)}
            counts = {"key": len(pairs) * keys, "query": len(pairs) * queries}
            try:
                graph = self._dgl.heterograph(edges, num_nodes_dict=counts, device=pairs.device)
            except self._dgl.DGLError:
                raise unsupported(pairs.device) from None
            self._joined[relation] = graph, (row, query, key)
        return self._joined[relation]

    def look(
        self,
        relation: Relation,
        attention: MultiHeadAttention,
        queries: Tensor,
        keys: Tensor,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        ops, (edges, (row, target, source)) = self._dgl.ops, self._edges(relation)
        with torch.autocast(queries.device.type, enabled=False):
            query, key, value = (_nodes(part) for part in attention.split(queries.float(), keys.float()))
            scores = ops.v_dot_u(edges, query / math.sqrt(query.shape[-1]), key)  # (edges, heads, 1)
            weights = ops.edge_softmax(edges, scores)
            by_head = ops.u_mul_e_sum(edges, value, attention.dropout(weights))  # (B N, heads, d / heads)
            shape = len(queries), queries.shape[1], attention.heads, -1
            has_edge = (edges.in_degrees() > 0).view(*shape[:2], 1)
            attended = attention.join(by_head.reshape(shape).transpose(1, 2)).masked_fill(~has_edge, 0.0)
        attended = attended.to(queries.dtype)
        if not need_weights:
            return attended, None
        dense = weights.new_zeros(len(queries), attention.heads, queries.shape[1], keys.shape[1])
        dense[row, :, target, source] = weights.detach().squeeze(-1)
        return attended, dense

    def pool(self, tokens: Tensor) -> Tensor:
        pooled = self._pass("in", tokens, self._dgl.ops.copy_u_max)
        # DGL's maximum over an empty set is -inf
        return pooled.masked_fill(~self.actor_mask.unsqueeze(-1), 0.0)

    def spread(self, entities: Tensor) -> Tensor:
        return self._pass("holds", entities, self._dgl.ops.copy_u_sum)

    def _pass(self, relation: str, values: Tensor, reduce: Callable[[Any, Tensor], Tensor]) -> Tensor:
        reduced = reduce(self._edges(relation)[0], values.float().flatten(0, 1))
        return reduced.view(len(values), -1, values.shape[-1]).to(values.dtype)


def _nodes(split: Tensor) -> Tensor:
    """(B, heads, N, d) to (B N, heads, d)."""
    return split.transpose(1, 2).flatten(0, 1).contiguous()


def entity_graph(
    token_mask: Tensor,
    visual_mask: Tensor,
    owner: Tensor,
    entities: bool = True,
    backend: GraphBackend = "dense",
    count: int | None = None,
) -> EntityGraph:
    """The graphs of a batch; see `EntityGraph`.

    Raises:
        UsageError: DGL is not installed (and, when the graph is used, has no support for the device).
    """
    family = EntityGraph if backend == "dense" else DglEntityGraph
    return family(token_mask, visual_mask, owner, entities, count)
