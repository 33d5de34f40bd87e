"""MOUSING (LREC-COLING 2024): one graph over words and patches, read by two networks and updated under many views.

Equation numbers are the paper's. A batch holds support and query posts of one episode; each post is a graph.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.graph import (
    BLOCKS,
    EdgeSimilarity,
    GraphConvolution,
    GraphUpdate,
    Normalisation,
    cosine_graph,
    edge_density,
    normalise_adjacency,
    pair_mask,
    strongest_neighbours,
)
from mnerkit.nn.graph_backends import GraphBackend, gather_over, load_dgl
from mnerkit.towers.interface import Encoder, TextTower, VisionTower, WordStates
from mnerkit_plugins.mousing.intervention import Intervention, Perturbation, seeds_of
from mnerkit_plugins.mousing.nodes import ImageNodes, ImageNodeSource, TextSpace, WordNodes
from mnerkit_plugins.mousing.similarity import MultiViewSimilarity, ViewWeight

DivergenceMode = Literal["neg_kl", "neg_js", "none"]


def separation(
    logits: Tensor, mask: Tensor, mode: Literal["neg_kl", "neg_js"] = "neg_kl", cap: float | None = None
) -> Tensor:
    """Eq. 13: minus the divergence of the two environments' nodes, a mean over real nodes; minimising it parts them.

    Args:
        logits: (2, B, L, k), a softmax over k is taken.
        mask: (B, L) bool.
        mode: Kullback-Leibler as printed, or Jensen-Shannon, which is bounded by ln 2.
        cap: bound of the divergence in nats, beyond which there is nothing to gain.

    Returns:
        Scalar in float32, in [-cap, 0].
    """
    first, second = logits.float().log_softmax(-1)[:, mask]  # (nodes, k) each
    if mode == "neg_kl":
        divergence = (first.exp() * (first - second)).sum(-1)
    else:
        middle = torch.logaddexp(first, second) - torch.log(torch.tensor(2.0, device=logits.device))
        divergence = sum((side.exp() * (side - middle)).sum(-1) for side in (first, second)) / 2  # type: ignore[assignment]
    mean = divergence.sum() / mask.sum().clamp_min(1)
    return -(mean if cap is None else mean.clamp(max=cap))


class MousingEncoder(Encoder):
    """Words and patches of each post become one graph; word states come back in two environments.

    Trainable beside the frozen towers: the environments' networks (Eq. 4, 8), the views (Eq. 5), `F_M` (Eq. 9) and
    `F'_M` (Eq. 13).
    """

    def __init__(
        self,
        text: TextTower,
        vision: VisionTower | None = None,
        *,
        use_image: bool = True,
        image_nodes: ImageNodeSource = "grid_crop",
        image_projection: bool = False,
        text_space: TextSpace = "projected",
        grid: int = 3,
        width: int | None = None,
        hidden: int = 1024,
        kl_width: int = 128,
        delta: float = 0.55,
        edge_sim: EdgeSimilarity = "minmax_block",
        ste: bool = False,
        ste_temperature: float = 0.1,
        num_env: int = 2,
        intervention: Intervention = "learned",
        flip: float = 0.1,
        noise: float = 0.1,
        multiview: bool = True,
        num_views: int = 6,
        view_weight: ViewWeight = "diag",
        view_rank: int = 64,
        view_shared_across_env: bool = True,
        gamma: float = 0.8,
        num_layers: int = 1,
        share_update_gnn_across_env: bool = False,
        recompute_adj_each_layer: bool = False,
        sim_relu: bool = True,
        adj_norm: Normalisation = "row",
        neighbourhood: Literal["dense", "original", "topk"] = "dense",
        topk: int = 10,
        graph: GraphBackend = "dense",
        residual: bool = False,
        test_intervention: Literal["keep", "skip"] = "keep",
        env_inference: Literal["mean", "g1", "g2"] = "mean",
        kl_mode: DivergenceMode = "neg_kl",
        kl_cap: float | None = 10.0,
        kl_nodes: Literal["all", "text"] = "all",
        dropout: float = 0.15,
    ) -> None:
        """Create the trainable parts around the towers. `MousingTagger` explains the options.

        Raises:
            UsageError: options contradict each other, or the towers share no space.
        """
        super().__init__()
        if min(num_layers, num_views, topk) < 1:
            raise UsageError(f"num_layers is {num_layers}, num_views {num_views}, topk {topk}; all start at 1")
        if ste_temperature <= 0:
            raise UsageError(f"ste_temperature is {ste_temperature}; give a number above 0")
        if graph == "dgl":
            load_dgl()  # here, so that its absence is told before anything is trained
        if num_env not in (1, 2):
            raise UsageError(f"num_env is {num_env}; MOUSING has 1 or 2 environments")
        learnt_pair = num_env == 2 and intervention == "learned"
        if kl_mode != "none" and not learnt_pair:
            raise UsageError(f"kl_mode {kl_mode} parts two learned environments; without them set kl_mode to none")
        if num_env == 1 and (intervention != "learned" or env_inference == "g2"):
            raise UsageError("intervention and env_inference g2 speak of a second environment, and num_env is 1")
        self.words = WordNodes(text, text_space)
        self.image = ImageNodes(self.words, vision, image_nodes, grid, image_projection) if use_image else None
        if ste and not any(each.requires_grad for each in self.parameters()):
            raise UsageError(
                "ste lets a gradient pass the edges, and nothing before them learns: with it goes freeze false or "
                "image_projection true"
            )
        node_width = self.words.width  # d_C
        width = width or node_width  # d
        if test_intervention == "skip" and width != node_width:
            raise UsageError(f"test_intervention skip needs width = width of the nodes: {width} is not {node_width}")
        if residual and width != node_width:
            raise UsageError(f"residual needs width = width of the nodes: {width} is not {node_width}")
        self.delta, self.edge_sim, self.gamma, self.residual = delta, edge_sim, gamma, residual
        self.temperature = ste_temperature if ste else None
        self.sim_relu, self.adj_norm, self.neighbourhood = sim_relu, adj_norm, neighbourhood
        self.topk, self.graph = topk, graph
        self.recompute = recompute_adj_each_layer
        self.test_intervention, self.env_inference = test_intervention, env_inference
        self.by_post = intervention == "learned"  # what is drawn depends on the episode
        self.kl_mode, self.kl_cap, self.kl_nodes = kl_mode, kl_cap, kl_nodes
        self.num_env = num_env
        self.perturbation = Perturbation(intervention, flip, noise)
        networks = num_env if intervention == "learned" else 1

        def views() -> MultiViewSimilarity:
            return MultiViewSimilarity(width, num_views, view_weight, view_rank)

        def update() -> nn.ModuleList:
            return nn.ModuleList(GraphUpdate(width, dropout, residual) for _ in range(num_layers))

        self.generate = nn.ModuleList(GraphConvolution(node_width, width, dropout, residual) for _ in range(networks))
        self.views = nn.ModuleList(views() for _ in range(1 if view_shared_across_env else networks) if multiview)
        self.update = nn.ModuleList(update() for _ in range(1 if share_update_gnn_across_env else networks))
        last = nn.Linear(hidden, width)
        self.output = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)  # F_M
        if residual:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.divergence = nn.Linear(width, kl_width) if kl_mode != "none" else None  # F'_M
        self.width = width

    def nodes(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 1: node features (B, L, d_C), their mask (B, L) and which of them are patches (L,); words come first."""
        x, mask = self.words(batch.text)
        count = x.shape[1]
        if self.image is not None:
            patches, patch_mask = self.image(batch, self.words)
            x, mask = torch.cat((x, patches), dim=1), torch.cat((mask, patch_mask), dim=1)
        return x, mask, torch.arange(x.shape[1], device=x.device) >= count

    def updated(self, environment: int, adjacency: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """Eq. 5-7: A' = gamma A + (1 - gamma) Sim, (B, L, L); A itself without views."""
        if not self.views:
            return adjacency
        similarity = self.views[environment % len(self.views)](x, mask)
        return self.gamma * adjacency + (1 - self.gamma) * similarity

    def weights(self, updated: Tensor, original: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the messages of Eq. 8, from A' (B, L, L): negatives clipped, then normalised.

        Returns:
            The weights, and where they may differ from 0 or carry a gradient, both (B, L, L).
        """
        edges = pair_mask(mask)
        if self.neighbourhood == "original":
            updated = updated * original
            edges = edges if original.requires_grad else original > 0
        elif self.neighbourhood == "topk":
            edges = strongest_neighbours(updated, mask, self.topk)
            updated = updated * edges
        if self.sim_relu:
            updated = updated.relu()
        return normalise_adjacency(updated, mask, self.adj_norm), edges

    def environment(self, which: int, x: Tensor, adjacency: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 4-8 in one environment: its graph's nodes (B, L, d), A' (B, L, L) and the nodes after Eq. 8 (B, L, d)."""
        network = which % len(self.generate)
        if self.test_intervention == "skip" and not self.training:
            generated = x
        else:
            edges = pair_mask(mask) if adjacency.requires_grad else adjacency > 0
            weights = normalise_adjacency(adjacency, mask, self.adj_norm)
            generated = self.generate[network](x, weights, gather_over(edges, self.graph))  # Eq. 4
        updated = self.updated(network, adjacency, generated, mask)
        state = generated
        layers = self.update[network % len(self.update)]
        assert isinstance(layers, nn.ModuleList)  # for the type checker
        for number, layer in enumerate(layers):
            if number and self.recompute:
                updated = self.updated(network, adjacency, state, mask)
            weights, edges = self.weights(updated, adjacency, mask)
            state = layer(state, weights, gather_over(edges, self.graph))  # Eq. 8
        return generated, updated, state

    def final(self, state: Tensor) -> Tensor:
        """Eq. 9: r = F_M(x), or x + F_M(x), (..., d)."""
        return state + self.output(state) if self.residual else self.output(state)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        x, mask, is_image = self.nodes(batch)
        adjacency = cosine_graph(x, mask, self.delta, is_image, self.edge_sim, self.temperature)  # Eq. 2
        seeds = None if self.training else seeds_of(batch)
        graphs = self.perturbation.draws(x, adjacency, mask, seeds)[: self.num_env]
        results = [self.environment(number, seen, edges, mask) for number, (seen, edges) in enumerate(graphs)]
        kept = range(self.num_env)
        if not self.training and self.env_inference != "mean":
            kept = range(int(self.env_inference[1]) - 1, int(self.env_inference[1]))
        count = batch.text.word_mask.shape[1]
        read = mask[:, :count, None]
        # heads see words alone, so the patches' r is not computed
        states = torch.stack([self.final(results[number][2][:, :count]) * read for number in kept])  # (E, B, W, d)
        losses = {}
        if self.divergence is not None and self.kl_mode != "none":
            logits = self.divergence(torch.stack([generated for generated, _, _ in results]))  # (2, B, L, k)
            counted = mask & ~is_image if self.kl_nodes == "text" else mask
            losses["kl"] = separation(logits, counted, self.kl_mode, self.kl_cap)
        blocks = BLOCKS if self.image is not None else BLOCKS[:1]
        density = edge_density(adjacency.detach(), mask, is_image)
        encoded = WordStates(states, losses, logged={f"density_{name}": density[name] for name in blocks})
        if not trace:
            return encoded
        after = torch.stack([updated.detach() for _, updated, _ in results], dim=1)  # (B, E, L, L)
        encoded.trace = {
            "adjacency": torch.stack([edges.detach() for _, edges in graphs], dim=1),
            "updated_adjacency": after,
            "node_mask": mask,
            "is_image": is_image.expand(mask.shape),
        }
        # (B, W, R): how strongly each word is tied to each patch; words of a caption are no regions of a picture
        if self.image is not None and self.image.source != "captions":
            encoded.trace["attention"] = (after.mean(1) * pair_mask(mask))[:, :count, count:]
        return encoded
