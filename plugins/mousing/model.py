"""MOUSING (LREC-COLING 2024): one graph over words and patches, read by two networks and updated under many views.

Equation numbers are the paper's. A batch contains support and query posts of one episode; each post is a graph.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.graph import (
    BLOCKS,
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
from mnerkit.towers.interface import Encoder, TextTower, VisionTower, WordStates
from mnerkit_plugins.mousing.gradient_share import Balanced
from mnerkit_plugins.mousing.intervention import environments, seeds_of
from mnerkit_plugins.mousing.nodes import ImageNodes, WordNodes
from mnerkit_plugins.mousing.options import MousingOptions
from mnerkit_plugins.mousing.similarity import MultiViewSimilarity, mean_pair_cosine


def separation(
    logits: Tensor, mask: Tensor, mode: Literal["neg_kl", "neg_js"] = "neg_kl", cap: float | None = None
) -> Tensor:
    """Eq. 13: the negative divergence of the two environments' nodes, a mean over real nodes, to separate them.

    Args:
        logits: (2, B, L, k), logits of a softmax over k.
        mask: (B, L) bool.
        mode: Kullback-Leibler as printed, or Jensen-Shannon, which is bounded by ln 2.
        cap: upper bound of the divergence in nats.

    Returns:
        Scalar in float32, in [-cap, 0].
    """
    first, second = logits.float().log_softmax(-1)  # (B, L, k) each
    if mode == "neg_kl":
        divergence = (first.exp() * (first - second)).sum(-1)
    else:
        middle = torch.logaddexp(first, second) - torch.log(torch.tensor(2.0, device=logits.device))
        divergence = sum((side.exp() * (side - middle)).sum(-1) for side in (first, second)) / 2  # type: ignore[assignment]
    mean = divergence.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)
    return -(mean if cap is None else mean.clamp(max=cap))


class MousingEncoder(Encoder):
    """One graph of words and patches for each post, and word states in two environments.

    Besides unfrozen towers, it trains the environments' networks (Eq. 4, 8), the views (Eq. 5), `F_M` (Eq. 9) and
    `F'_M` (Eq. 13).
    """

    def __init__(self, text: TextTower, vision: VisionTower | None, o: MousingOptions) -> None:
        """Create the modules around the towers; `vision` is None if no pixels are read.

        Raises:
            UsageError: options do not fit the towers, the towers share no space, or DGL is missing.
        """
        super().__init__()
        self.options = o
        if o.graph == "dgl":
            load_dgl()  # so that a missing DGL is reported before training
        self.words = WordNodes(text, o)
        self.image = ImageNodes(self.words, vision, o) if o.use_image else None
        node_width = self.words.width  # d_C
        self.width = width = o.width or node_width  # d
        for name, active in (("test_intervention skip", o.test_intervention == "skip"), ("residual", o.residual)):
            if active and width != node_width:
                raise UsageError(f"{name} needs width = width of the nodes: {width} is not {node_width}")
        self.by_post = o.intervention == "learned"  # random draws depend on the episode
        networks = o.num_env if o.intervention == "learned" else 1

        def update() -> nn.ModuleList:
            return nn.ModuleList(GraphUpdate(width, o.dropout, o.residual) for _ in range(o.num_layers))

        self.generate = nn.ModuleList(
            GraphConvolution(node_width, width, o.dropout, o.residual) for _ in range(networks)
        )
        views = (1 if o.view_shared_across_env else networks) if o.multiview else 0
        self.views = nn.ModuleList(MultiViewSimilarity(width, o) for _ in range(views))
        self.update = nn.ModuleList(update() for _ in range(1 if o.share_update_gnn_across_env else networks))
        last = nn.Linear(o.hidden, width)
        self.output = nn.Sequential(nn.Linear(width, o.hidden), nn.ReLU(), last)  # F_M
        if o.residual:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.divergence = nn.Linear(width, o.kl_width) if o.kl_mode != "none" else None  # F'_M

    def nodes(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 1: node features (B, L, d_C), their mask (B, L) and which nodes are patches (L,); words come first."""
        x, mask = self.words(batch.text)
        count = x.shape[1]
        if self.image is not None:
            patches, patch_mask = self.image(batch, self.words)
            x, mask = torch.cat((x, patches), dim=1), torch.cat((mask, patch_mask), dim=1)
        return x, mask, torch.arange(x.shape[1], device=x.device) >= count

    def updated(self, environment: int, adjacency: Tensor, x: Tensor, mask: Tensor, rows: int) -> Tensor:
        """Eq. 5-7: A' = gamma A + (1 - gamma) Sim, its first rows (B, rows, L); those of A itself without views."""
        if not self.views:
            return adjacency[:, :rows]
        similarity = self.views[environment % len(self.views)](x, mask, rows)
        return self.options.gamma * adjacency[:, :rows] + (1 - self.options.gamma) * similarity

    def weights(self, updated: Tensor, original: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Message weights of Eq. 8 from A' (B, R, L): negative ones clipped, then normalised.

        Returns:
            The weights, and where they may differ from 0 or have a gradient, both (B, R, L).
        """
        o, rows = self.options, updated.shape[1]
        original, edges = original[:, :rows], pair_mask(mask, rows)
        if o.neighbourhood == "original":
            updated = updated * original
            edges = edges if original.requires_grad else original > 0
        elif o.neighbourhood == "topk":
            edges = strongest_neighbours(updated, mask, o.topk)
            updated = updated * edges
        if o.sim_relu:
            updated = updated.relu()
        return normalise_adjacency(updated, mask, o.adj_norm), edges

    def environment(
        self, number: int, x: Tensor, adjacency: Tensor, mask: Tensor, words: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 4-8 in one environment.

        Args:
            number: of the environment.
            x: (B, L, d_C) nodes.
            adjacency: (B, L, L).
            mask: (B, L) bool.
            words: R, the first nodes, which alone are wanted after Eq. 8; default: all nodes, and all of A'.

        Returns:
            Its graph's nodes (B, L, d) for Eq. 13, A' (B, R, L), or (B, L, L) where a later layer needs all of it, and
            the first nodes after Eq. 8 (B, R, d).
        """
        o, network = self.options, number % len(self.generate)
        words = x.shape[1] if words is None else words
        real, real_words = real_nodes(mask), real_nodes(mask[:, :words])
        if o.test_intervention == "skip" and not self.training:
            generated = x
        else:
            edges = pair_mask(mask) if adjacency.requires_grad else adjacency > 0
            weights = normalise_adjacency(adjacency, mask, o.adj_norm)
            generated = self.generate[network](x, weights, gather_over(edges, o.graph), real)  # Eq. 4
        separated = generated
        if o.balance == "gradients" and generated.requires_grad:
            generated, separated = Balanced.apply(generated, 1 / o.trade_off - 1)
        layers = self.update[network % len(self.update)]
        assert isinstance(layers, nn.ModuleList)  # for the type checker
        # degrees on both sides of an edge, and lists of edges, are those of the whole graph
        last = x.shape[1] if o.adj_norm == "sym" or o.graph == "dgl" else words
        rows = [*[x.shape[1]] * (len(layers) - 1), last]  # nodes that get messages, layer by layer
        updated = self.updated(network, adjacency, generated, mask, rows[0])
        state = generated
        for depth, layer in enumerate(layers):
            if depth and o.recompute_adj_each_layer:
                updated = self.updated(network, adjacency, state, mask, rows[depth])
            weights, edges = self.weights(updated[:, : rows[depth]], adjacency, mask)
            targets = real_words if rows[depth] == words else real
            state = layer(state, weights, gather_over(edges, o.graph), real, targets)  # Eq. 8
        return separated, updated, state[:, :words]

    def final(self, state: Tensor) -> Tensor:
        """Eq. 9: r = F_M(x), or x + F_M(x), (..., d)."""
        return state + self.output(state) if self.options.residual else self.output(state)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        o = self.options
        x, mask, is_image = self.nodes(batch)
        temperature = o.ste_temperature if o.ste else None
        adjacency = cosine_graph(x, mask, o.delta, is_image, o.edge_sim, temperature)  # Eq. 2
        graphs = environments(o, x, adjacency, mask, None if self.training else seeds_of(batch))
        count = batch.text.word_mask.shape[1]
        # heads only use words, so neither A' nor r is computed for patches
        wanted = None if trace else count
        results = [self.environment(number, nodes, edges, mask, wanted) for number, (nodes, edges) in enumerate(graphs)]
        selected = range(o.num_env)
        if not self.training and o.env_inference != "mean":
            selected = range(int(o.env_inference[1]) - 1, int(o.env_inference[1]))
        words = mask[:, :count].expand(len(selected), -1, -1)
        read = torch.stack([results[number][2][:, :count] for number in selected])  # (E, B, W, d)
        states = per_node(self.final, read, real_nodes(words)) * words.unsqueeze(-1)
        losses = {}
        if self.divergence is not None and o.kl_mode != "none":
            nodes = torch.stack([generated for generated, _, _ in results])
            logits = per_node(self.divergence, nodes, real_nodes(mask.expand(len(results), -1, -1)))  # (2, B, L, k)
            kl_mask = mask & ~is_image if o.kl_nodes == "text" else mask
            losses["kl"] = separation(logits, kl_mask, o.kl_mode, o.kl_cap)
        blocks = BLOCKS if self.image is not None else BLOCKS[:1]
        density = edge_density(adjacency.detach(), mask, is_image)
        encoded = WordStates(states, losses, logged={f"density_{name}": density[name] for name in blocks})
        if self.training:
            cosines = {"word_cosine_before": x[:, :count], "word_cosine_after": states.detach()}
            encoded.logged |= {name: mean_pair_cosine(each, mask[:, :count]) for name, each in cosines.items()}
        if not trace:
            return encoded
        updated_graphs = torch.stack([updated.detach() for _, updated, _ in results], dim=1)  # (B, E, L, L)
        encoded.trace = {
            "adjacency": torch.stack([edges.detach() for _, edges in graphs], dim=1),
            "updated_adjacency": updated_graphs,
            "node_mask": mask,
            "is_image": is_image.expand(mask.shape),
        }
        # (B, W, R): weight of the edge from each word to each patch; words of a caption are not regions of a picture
        if self.image is not None and self.image.source != "captions":
            encoded.trace["attention"] = (updated_graphs.mean(1) * pair_mask(mask))[:, :count, count:]
        return encoded
