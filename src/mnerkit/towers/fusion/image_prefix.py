"""An encoder with the images of a post as a prefix of the text tower: words attend to each image in each layer."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.image_set import ImageSetEncoder
from mnerkit.nn.prompts import LayerPrompts, Maps, MlpPrompts
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Seen, Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import PieceTower, pieces_of

Relevance = Literal["given", "ones"]
Irrelevant = Literal["weight", "drop"]

# an image is relevant if it ranks above the blank one (GIFR, Eq. 2)
RELEVANT = 0.5


class ImagePrefixEncoder(Encoder):
    """Pooled image vectors V -> U (images attend to each other) -> keys and values of each layer -> word states.

    The encoder of TPM-MI and GIFR, which differ in the attention among images and in the prompts.

    Args:
        text: the text tower; its words attend to the prefix in all layers.
        sight: reads the images.
        graph: V to U; None: U = V.
        prompts: U to keys and values.
        relevance: `given`: R of each image from the batch; `ones`: R = 1.
        irrelevant: `weight`: images with R <= 0.5 are weighted like the others; `drop`: they are masked for the other
            images and in the prefix.
        dropout: dropout of the word states.
        pooler: a further map of the pooled vectors; None: V is what the tower pools.

    Raises:
        UsageError: the text tower takes no prefix, or has no maps for prompts to share.
    """

    def __init__(
        self,
        text: TextTower,
        sight: Sight,
        graph: ImageSetEncoder | None,
        prompts: LayerPrompts | MlpPrompts,
        relevance: Relevance = "ones",
        irrelevant: Irrelevant = "weight",
        dropout: float = 0.1,
        pooler: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.text, self.sight, self.graph, self.prompts = pieces_of(text), sight, graph, prompts
        self.width, self.relevance, self.irrelevant = text.width, relevance, irrelevant
        self.dropout, self.pooler = nn.Dropout(dropout), pooler
        self.by_post = graph is None or graph.axis == "images"
        if self._shares:
            key_value_maps(self.text)  # raises an error early if it has none

    @property
    def _shares(self) -> bool:
        """Whether the prompts use the text tower's own W_k and W_v."""
        return isinstance(self.prompts, LayerPrompts) and self.prompts.keys is None

    def weights(self, batch: Batch, images: Seen) -> tuple[Tensor | None, Tensor]:
        """R of the images (B, m), None if all are 1, and the mask of the images to use, (B, m) bool.

        Raises:
            ValueError: the batch was collated without relevance.
        """
        if self.relevance == "ones":
            return None, images.mask
        if batch.relevance is None:
            raise ValueError("the batch lacks the relevance of its images (`Needs.relevance`)")
        # relevance is an input and is not trained here
        r = batch.relevance.detach()
        mask = images.mask & (r > RELEVANT) if self.irrelevant == "drop" else images.mask
        return r.to(images.pooled.dtype), mask

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        images = self.sight.whole(batch, regions=False)
        vectors, (r, mask) = images.pooled, self.weights(batch, images)  # (B, m, d_v)
        if self.pooler is not None:
            vectors = self.pooler(vectors)
        if self.graph is None:
            u, attention = vectors, None
        else:
            u, attention = self.graph(vectors, mask, r)  # (B, m, d_v), (B, m, m)
        some: bool | None = len(images.rows) > 0
        full: bool | None = len(images.rows) == mask.numel()
        if r is not None and self.irrelevant == "drop":
            some = full = None
        prefix = Prefix(*self.prefix(u), mask, some, full)
        states = self.dropout(self.text(batch.text, prefix=prefix).words)  # (B, W, d)
        traces: dict[str, Any] = {}
        if trace:
            traces["relevance"] = (torch.ones_like(mask, dtype=states.dtype) if r is None else r) * images.mask
            traces["image_mask"] = images.mask
            if attention is not None:
                traces["image_attention"] = attention
        return WordStates(states.unsqueeze(0), trace=traces)

    def prefix(self, u: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values of each layer, (B, m, d) each."""
        if isinstance(self.prompts, LayerPrompts) and self._shares:
            return self.prompts(u, key_value_maps(self.text))
        return self.prompts(u)


def layers_of(text: TextTower) -> int:
    """Number of layers of a tower that takes a prefix."""
    return pieces_of(text).config.num_hidden_layers


def key_value_maps(text: PieceTower) -> Maps:
    """W_k and W_v of each layer of a tower like BERT or CLIP.

    Raises:
        UsageError: its layers have another structure.
    """
    model: Any = text.model
    try:
        if hasattr(model, "text_model"):
            attentions = [layer.self_attn for layer in model.text_model.encoder.layers]
            return [(attention.k_proj, attention.v_proj) for attention in attentions]
        attentions = [layer.attention.self for layer in model.encoder.layer]
        return [(attention.key, attention.value) for attention in attentions]
    except AttributeError:
        raise UsageError(
            f"tower {text.spec} ({text.config.model_type}) has no key and value maps like BERT's for prompts to share; "
            "give --model.prompt_kv own"
        ) from None
