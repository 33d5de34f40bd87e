"""Options of GIFR (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import ImageSetOptions
from mnerkit.options import DROPOUT, LAYERS, SIZE, Range, option


@dataclass(frozen=True, kw_only=True)
class GifrOptions(ImageSetOptions):
    """Options of the attention among images, of their relevance, and of the prompts."""

    relevance: Literal["given", "ones"] = option(
        "given", "R of Eq. 2 from --data.relevance, or 1 for all images (the paper's 'w/o D')"
    )
    irrelevant: Literal["weight", "drop"] = option(
        "weight", "weigh images with R <= 0.5, ranked below the blank one, by R like the others, or drop them"
    )
    graph: bool = option(
        True,
        "let images attend to each other; false passes the image vectors to the prompts unchanged, without R (the "
        "paper's 'w/o G')",
    )
    gt_block: Literal["full", "attn_only"] = option(
        "full", "a whole transformer layer, or the attention of Eq. 4 alone, without biases"
    )
    residual_scale_r: bool = option(
        True, "scale the layer's residual by R; if false, an irrelevant image's own vector passes with weight 1"
    )
    r_axis: Literal["source", "target"] = option(
        "source", "R weighs the image that is attended to (source), or the one that attends (target)"
    )
    renorm: bool = option(False, "rescale the weighted attention so that it sums to 1 again")
    pos: Literal["degree", "order", "none"] = option(
        "degree", "positions by degree, by order (the paper's 'w/o P'), or none"
    )
    max_degree: int = option(3, "largest degree with its own vector", Range(0, SIZE.most))
    graph_layers: int = option(1, "number of layers of Eq. 4", LAYERS)
    heads: int = option(8, "attention heads of these layers; must divide the width of the image vectors", LAYERS)
    prompt_kv: Literal["own", "shared_bert"] = option(
        "own", "W_k and W_v of Eq. 6 are new ones, or those of the text tower's layers"
    )
    dropout: float = option(0.1, "dropout in the graph's layers and on the word states", DROPOUT)

    def check(self) -> None:
        """Refuse a normalisation that cancels R."""
        super().check()
        if self.renorm and self.r_axis == "target":
            raise UsageError(
                "--model.renorm true cancels R with --model.r_axis target, which scales whole rows: give"
                " --model.renorm false or --model.r_axis source"
            )
