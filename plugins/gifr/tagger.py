"""Plugin `gifr`."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from mnerkit.data.views import Needs
from mnerkit.ranges import COUNT, DROPOUT, Range, check
from mnerkit.tagging.tagger import Tagger
from mnerkit_plugins.gifr.model import GifrEncoder

ENCODER_OPTIONS = tuple(
    name for name, each in inspect.signature(GifrEncoder).parameters.items() if each.kind is each.KEYWORD_ONLY
)


class GifrTagger(Tagger):
    """GIFR: several images as prompts of BERT, weighted by how relevant each is; `relevance` is its first stage."""

    plugin = "gifr"
    encoder: GifrEncoder

    def __init__(
        self,
        text: str = "bert-base-uncased",
        vision: str = "google/vit-base-patch16-224",
        freeze_text: bool = False,
        freeze_vision: bool = False,
        max_tokens: int = 64,
        word_pool: Literal["first", "mean"] = "first",
        max_images: int = 4,
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
        augment: bool = False,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower, one that takes a prefix: `tiny-bert`, a hub name such as `bert-base-uncased`, or a
                folder.
            vision: the vision tower: `tiny`, a hub name (`google/vit-base-patch16-224`), a folder, or `captions`, which
                reads captions in place of pictures.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: read this many images of a post, the first ones.
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
            augment: mirror and shift pictures while training; off for a frozen vision tower.
            training: options of `Tagger`.
        """
        given = locals()
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, graph_layers=graph_layers, heads=heads)
        check("model", Range(0), max_degree=max_degree)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision, self.augment = freeze_text, freeze_vision, augment
        self.max_tokens, self.word_pool, self.max_images = max_tokens, word_pool, max_images
        self.options = {name: given[name] for name in ENCODER_OPTIONS}

    def make_encoder(self) -> GifrEncoder:
        text = self.text_tower(
            "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
        )
        sight = self.sight("vision", self.vision, text, freeze=self.freeze_vision, augment=self.augment)
        return GifrEncoder(text, sight, **self.options)

    def needs(self) -> Needs:
        return self.encoder.sight.needs(
            self.towers["text"].reader,
            max_images=self.max_images,
            relevance=self.encoder.relevance == "given",
        )
