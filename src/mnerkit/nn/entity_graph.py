"""The graph of a post's tokens, entities and visual nodes (GEI): who looks at whom, dense or over edges with DGL.

B graphs of n tokens, N entities and k visual nodes. Edges: all pairs of tokens, all pairs of visual nodes, all pairs of
an entity and a visual node, and an entity with the tokens of its span; a token and a visual node are never joined.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.errors import UsageError
from mnerkit.nn.attention import MultiHeadAttention
from mnerkit.nn.graph_backends import GraphBackend, load_dgl

Relation = Literal["tokens", "tokens_apart", "visual", "visual_to_entity", "entity_to_visual"]


class EntityGraph:
    """Edges of B graphs, as masks, and what passes along them, as matrix products.

    What looks at visual nodes is an entity, or, without entity nodes, each token of a span itself.

    Args:
        token_mask: (B, n) bool, real tokens.
        visual_mask: (B, k) bool, real visual nodes.
        owner: (B, n) long, the number of each token's entity, -1 for none.
        entities: whether there are entity nodes.

    Attributes:
        inside: (B, n) bool, tokens of spans.
        actor_mask: (B, N) bool, real entities; without entity nodes `inside`.
        fused: (B, N, 1) bool, actors that see a visual node.
        seen: (B, k, 1) bool, visual nodes that an actor sees.

    """

    def __init__(self, token_mask: Tensor, visual_mask: Tensor, owner: Tensor, entities: bool = True) -> None:
        self.token_mask, self.visual_mask, self.owner = token_mask, visual_mask, owner
        self.inside = (owner >= 0) & token_mask
        # a post may have none: one place for an entity is always there, so that shapes and weights stay in use
        self.count = max(1, int(owner.max()) + 1) if owner.numel() else 1
        # tokens without an entity go to a place behind the last one
        self.place = owner.masked_fill(~self.inside, self.count)
        self.actor_mask = self._entity_mask() if entities else self.inside
        self.fused = (self.actor_mask & visual_mask.any(1, keepdim=True)).unsqueeze(-1)
        self.seen = (visual_mask & self.actor_mask.any(1, keepdim=True)).unsqueeze(-1)

    def _entity_mask(self) -> Tensor:
        mask = self.inside.new_zeros(len(self.place), self.count + 1)
        return mask.scatter(1, self.place, True)[:, :-1]

    def keys(self, relation: Relation) -> Tensor:
        """Which keys a query of a relation may see: (B, M), or (B, N, M) where it is not the same for all queries."""
        if relation in ("visual", "visual_to_entity"):
            return self.visual_mask
        if relation == "entity_to_visual":
            return self.actor_mask
        tokens = self.token_mask
        if relation == "tokens":
            return tokens
        # who is in no span looks at none that is in one
        return tokens.unsqueeze(1) & (self.inside.unsqueeze(2) | ~self.inside.unsqueeze(1))

    def look(
        self, relation: Relation, attention: MultiHeadAttention, queries: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, N, d) look at the keys (B, M, d) of a relation: (B, N, d) and weights (B, heads, N, M)."""
        seen, weights = attention(queries, keys, mask=self.keys(relation), want_weights=True)
        assert weights is not None
        return seen, weights

    def pool(self, tokens: Tensor) -> Tensor:
        """Elementwise maximum over the tokens (B, n, d) of each span: (B, N, d), 0 where there is no entity."""
        place = self.place.unsqueeze(-1).expand_as(tokens)
        pooled = tokens.new_zeros(len(tokens), self.count + 1, tokens.shape[-1])
        return pooled.scatter_reduce(1, place, tokens, "amax", include_self=False)[:, :-1]

    def spread(self, entities: Tensor) -> Tensor:
        """Entities (B, N, d) to the tokens of their spans: (B, n, d), 0 for tokens of none."""
        padded = nn.functional.pad(entities, (0, 0, 0, 1))
        return padded.gather(1, self.place.unsqueeze(-1).expand(-1, -1, entities.shape[-1]))


class DglEntityGraph(EntityGraph):
    """The same along lists of edges: one DGL heterograph holds all graphs of a batch.

    Numbers and gradients are those of `EntityGraph`, but for ties in a maximum, whose gradient goes to one of them.
    Rows of padding, which nothing reads, see nothing here.

    Raises:
        UsageError: DGL is not installed, or has no support for the device.

    """

    def __init__(self, token_mask: Tensor, visual_mask: Tensor, owner: Tensor, entities: bool = True) -> None:
        super().__init__(token_mask, visual_mask, owner, entities)
        self._dgl = dgl = load_dgl()
        masks = {"token": token_mask, "visual": visual_mask, "actor": self.actor_mask}
        sizes = {kind: mask.shape[1] for kind, mask in masks.items()}
        self._kinds = {
            "tokens": ("token", "tokens", "token"),
            "tokens_apart": ("token", "tokens_apart", "token"),
            "visual": ("visual", "visual", "visual"),
            "visual_to_entity": ("visual", "visual_to_entity", "actor"),
            "entity_to_visual": ("actor", "entity_to_visual", "visual"),
        }
        edges: dict[tuple[str, str, str], tuple[Tensor, Tensor]] = {}
        self._pairs: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for name, (source, _, target) in self._kinds.items():
            keys = self.keys(name)  # type: ignore[arg-type]
            pairs = masks[target].unsqueeze(2) & (keys.unsqueeze(1) if keys.dim() == 2 else keys)
            row, query, key = pairs.nonzero(as_tuple=True)
            self._pairs[name] = row, query, key
            edges[self._kinds[name]] = row * sizes[source] + key, row * sizes[target] + query
        if entities:
            row, token = self.inside.nonzero(as_tuple=True)
            members, homes = row * sizes["token"] + token, row * sizes["actor"] + owner[row, token]
            edges["token", "in", "actor"], edges["actor", "holds", "token"] = (members, homes), (homes, members)
        counts = {kind: mask.numel() for kind, mask in masks.items()}
        try:
            self._graph = dgl.heterograph(edges, num_nodes_dict=counts, device=owner.device)
        except dgl.DGLError:
            raise UsageError(
                f"the installed DGL has no support for {owner.device.type}: take --model.graph dense, or "
                "--trainer.accelerator cpu"
            ) from None

    def look(
        self, relation: Relation, attention: MultiHeadAttention, queries: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        ops, edges = self._dgl.ops, self._graph[self._kinds[relation]]
        with torch.autocast(queries.device.type, enabled=False):
            query, key, value = (_nodes(each) for each in attention.split(queries.float(), keys.float()))
            scores = ops.v_dot_u(edges, query / math.sqrt(query.shape[-1]), key)  # (edges, heads, 1)
            weights = ops.edge_softmax(edges, scores)
            seen = ops.u_mul_e_sum(edges, value, attention.dropout(weights))  # (B N, heads, d / heads)
            shape = len(queries), queries.shape[1], attention.heads, -1
            reached = (edges.in_degrees() > 0).view(*shape[:2], 1)
            seen = attention.join(seen.reshape(shape).transpose(1, 2)).masked_fill(~reached, 0.0)
        row, target, source = self._pairs[relation]
        dense = weights.new_zeros(len(queries), attention.heads, queries.shape[1], keys.shape[1])
        dense[row, :, target, source] = weights.detach().squeeze(-1)
        return seen.to(queries.dtype), dense

    def pool(self, tokens: Tensor) -> Tensor:
        pooled = self._pass("in", tokens, "copy_u_max", self.count)
        # DGL's maximum over nothing is -inf
        return pooled.masked_fill(~self.actor_mask.unsqueeze(-1), 0.0)

    def spread(self, entities: Tensor) -> Tensor:
        return self._pass("holds", entities, "copy_u_sum", self.token_mask.shape[1])

    def _pass(self, relation: str, values: Tensor, how: str, count: int) -> Tensor:
        passed = getattr(self._dgl.ops, how)(self._graph[relation], values.float().flatten(0, 1))
        return passed.view(len(values), count, -1).to(values.dtype)


def _nodes(split: Tensor) -> Tensor:
    """(B, heads, N, d) to (B N, heads, d)."""
    return split.transpose(1, 2).flatten(0, 1).contiguous()


def entity_graph(
    token_mask: Tensor, visual_mask: Tensor, owner: Tensor, entities: bool = True, backend: GraphBackend = "dense"
) -> EntityGraph:
    """The graphs of a batch; see `EntityGraph`.

    Raises:
        UsageError: see `DglEntityGraph`.
    """
    family = EntityGraph if backend == "dense" else DglEntityGraph
    return family(token_mask, visual_mask, owner, entities)
