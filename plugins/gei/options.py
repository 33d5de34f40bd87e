"""Options of GEI (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import ObjectOptions
from mnerkit.options import DROPOUT, LAYERS, SHARE, SIZE, WEIGHT, option


@dataclass(frozen=True, kw_only=True)
class GeiOptions(ObjectOptions, max_objects=8):
    """Options of the graph of tokens, entities and visual nodes, of the span task, and of the objective."""

    augment: bool = option(False, "mirror and shift pictures and crops while training; off for a frozen vision tower")
    lambda_span: float = option(0.5, "weight of the span task's loss", WEIGHT)
    lambda_mner: float = option(0.5, "weight of the tagging loss", WEIGHT)
    width: int = option(512, "d_m, width of the graph's nodes", SIZE)
    hidden: int = option(2048, "width of the graph's feed-forward networks", SIZE)
    graph_layers: int = option(6, "number of graph layers", LAYERS)
    heads: int = option(8, "heads of the graph's attentions; must divide width", LAYERS)
    dropout: float = option(
        0.4, "dropout in the graph: on attention weights, after attention and feed-forward networks", DROPOUT
    )
    transformer_heads: int = option(
        12, "heads of the two transformer layers after the text tower; must divide its width", LAYERS
    )
    transformer_dropout: float = option(0.1, "dropout in those two layers", DROPOUT)
    tokens: Literal["pieces", "words"] = option(
        "pieces",
        "token nodes are pieces, [CLS] and [SEP] among them, or words; towers that read whole words have words alone",
    )
    visual: Literal["objects", "regions"] = option(
        "objects", "beside the image, visual nodes are the objects in it, or the regions of the tower's last map"
    )
    use_global: bool = option(True, "the image itself is a visual node, the first one")
    entity_nodes: bool = option(True, "spans are nodes; false lets each token of a span attend to the visual nodes")
    span_task: bool = option(
        True, "detect spans; false (with entity_nodes false) lets all tokens attend to the visual nodes"
    )
    residual: bool = option(
        True, "residual and layer norm around attention (Eq. 7) and feed-forward networks; false leaves out both"
    )
    norm: Literal["post", "pre"] = option("post", "position of those layer norms")
    obj_update: Literal["parallel", "sequential", "none"] = option(
        "parallel",
        "visual nodes attend to the entities before the layer (parallel), to the entities already updated in it "
        "(sequential), or to none",
    )
    gate: Literal["feature", "scalar"] = option("feature", "a share for each feature, or one for a node (Eq. 9, 11)")
    isolate_non_entity: bool = option(
        False, "from the second layer on, tokens outside spans do not attend to tokens inside spans"
    )
    entity_state: Literal["from_tokens", "carry"] = option(
        "from_tokens", "after a layer, an entity is pooled from its tokens (from_tokens), or keeps its state (carry)"
    )
    ss_unit: Literal["sentence", "batch"] = option(
        "sentence", "predicted spans replace gold ones sentence by sentence, or for a whole batch"
    )
    ss_start: int = option(2, "last epoch of training, counted from 1, with gold spans alone", WEIGHT)
    ss_end: int = option(6, "epoch from which on the share of predicted spans is ss_max", WEIGHT)
    ss_max: float = option(0.9, "largest share of predicted spans while training", SHARE)
    span_repair: Literal["lenient", "strict"] = option(
        "lenient", "an I without a B before it starts a span (lenient), or belongs to none (strict)"
    )
    decode_on: Literal["graph", "concat_bert"] = option(
        "graph", "the head reads the graph's tokens (graph), or also the text tower's states (concat_bert)"
    )
    graph: Literal["dense", "dgl"] = option(
        "dense",
        "messages as matrix products (dense), or over lists of edges with the library DGL (dgl, to be installed "
        "separately); both give the same numbers",
    )

    def check(self) -> None:
        """Refuse entity nodes without spans, and heads that do not divide the width."""
        super().check()
        if self.entity_nodes and not self.span_task:
            raise UsageError("entity_nodes needs span_task: set both to true, or entity_nodes to false")
        if self.width % self.heads:
            raise UsageError(f"--model.heads {self.heads} does not divide the width {self.width}")
