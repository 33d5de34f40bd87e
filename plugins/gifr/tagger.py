"""Plugin `gifr`."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from mnerkit.errors import UsageError
from mnerkit.methods.image_prefix_tagger import ImagePrefixTagger
from mnerkit.ranges import COUNT, DROPOUT, Range, check
from mnerkit_plugins.gifr.model import GifrEncoder

# `max_images` is the base's
ENCODER_OPTIONS = tuple(
    name
    for name, each in inspect.signature(GifrEncoder).parameters.items()
    if each.kind is each.KEYWORD_ONLY and name != "max_images"
)


class GifrTagger(ImagePrefixTagger):
    """GIFR: several images as prompts of BERT, weighted by how relevant each is; `relevance` is its first stage."""

    plugin = "gifr"
    encoder: GifrEncoder

    def __init__(
        self,
        relevance: Literal["given", "ones"] = "given",
        irrelevant: Literal["weight", "drop"] = "weight",
        graph: bool = True,
        gt_block: Literal["full", "attn_only"] = "full",
        residual_scale_r: bool = True,
        r_axis: Literal["source", "target"] = "source",
        renorm: bool = False,
        pos: Literal["degree", "order", "none"] = "degree",
        max_degree: int = 3,
        graph_layers: int = 1,
        heads: int = 8,
        prompt_kv: Literal["own", "shared_bert"] = "own",
        dropout: float = 0.1,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            relevance: R of Eq. 2 as --data.relevance gives it, or 1 for all images (the paper's "w/o D").
            irrelevant: images with R <= 0.5, ranked below the blank one, are weighted by R like the others, or dropped.
            graph: let images look at each other; false hands the image vectors to the prompts as they are, without R
                (the paper's "w/o G").
            gt_block: a whole transformer layer, or the attention of Eq. 4 alone, without biases.
            residual_scale_r: scale what the layer's residual lets through by R; else an irrelevant image's own vector
                passes with weight 1.
            r_axis: R weighs the image that is looked at (source), or the one that looks (target).
            renorm: let the weighted attention sum to 1 again.
            pos: positions by degree, by order (the paper's "w/o P"), or none.
            max_degree: largest degree with a vector of its own.
            graph_layers: layers of Eq. 4.
            heads: their attention heads; must divide the width of the image vectors.
            prompt_kv: W_k and W_v of Eq. 6 are new ones, or those of the text tower's layers.
            dropout: in the graph's layers, and on the word states.
            training: options of `ImagePrefixTagger`: towers, images and training.
        """
        given = locals()
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, graph_layers=graph_layers, heads=heads)
        check("model", Range(0), max_degree=max_degree)
        if renorm and r_axis == "target":
            raise UsageError(
                "--model.renorm true takes a factor of whole rows out again, which --model.r_axis target puts in: R"
                " would weigh no attention; take one of them"
            )
        self.options = {name: given[name] for name in ENCODER_OPTIONS}

    def make_encoder(self) -> GifrEncoder:
        text = self.make_text()
        return GifrEncoder(text, self.make_sight(text), max_images=self.max_images, **self.options)
