"""The images of a post as a prefix of its text tower: each image is one position that words attend to in each layer."""

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

# an image is relevant if it is ranked above the blank one (GIFR, Eq. 2)
RELEVANT = 0.5


class ImagePrefixEncoder(Encoder):
    """Pooled image vectors V -> U (they look at each other) -> keys and values of each layer -> word states.

    TPM-MI and GIFR are this; they differ in how the images look at each other and in the prompts.

    Args:
        text: the text tower; its words attend to the prefix in all its layers.
        sight: sees the images.
        graph: V to U; None: U = V.
        prompts: U to keys and values.
        relevance: R of each image from the batch (`given`), or 1.
        irrelevant: images with R <= 0.5 are weighted like the others, or dropped: not seen by the other images, and no
            part of the prefix.
        dropout: on word states.

    Raises:
        UsageError: the text tower takes no prefix, or has no maps that prompts could share.
    """

    by_post = True

    def __init__(
        self,
        text: TextTower,
        sight: Sight,
        graph: ImageSetEncoder | None,
        prompts: LayerPrompts | MlpPrompts,
        relevance: Relevance = "ones",
        irrelevant: Irrelevant = "weight",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text, self.sight, self.graph, self.prompts = pieces_of(text), sight, graph, prompts
        self.width, self.relevance, self.irrelevant = text.width, relevance, irrelevant
        self.dropout = nn.Dropout(dropout)
        if self._shares:
            key_value_maps(self.text)  # complains now if it has none

    @property
    def _shares(self) -> bool:
        """Whether the prompts pass through the text tower's own W_k and W_v."""
        return isinstance(self.prompts, LayerPrompts) and self.prompts.keys is None

    def weights(self, batch: Batch, seen: Seen) -> tuple[Tensor | None, Tensor]:
        """R of the images (B, m), None where all are 1, and which of them take part, (B, m) bool.

        Raises:
            ValueError: the batch was collated without relevance.
        """
        if self.relevance == "ones":
            return None, seen.mask
        if batch.relevance is None:
            raise ValueError("the batch lacks the relevance of its images (`Needs.relevance`)")
        # it was judged before and is not trained here
        r = batch.relevance.detach()
        taking = seen.mask & (r > RELEVANT) if self.irrelevant == "drop" else seen.mask
        return r.to(seen.pooled.dtype), taking

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        seen = self.sight.whole(batch, regions=False)
        vectors, (r, taking) = seen.pooled, self.weights(batch, seen)  # (B, m, d_v)
        if self.graph is None:
            u, attention = vectors, None
        else:
            u, attention = self.graph(vectors, taking, r)  # (B, m, d_v), (B, m, m)
        prefix = Prefix(*self.prefix(u), taking)
        states = self.dropout(self.text(batch.text, prefix=prefix).words)  # (B, W, d)
        kept: dict[str, Any] = {}
        if trace:
            kept["relevance"] = (torch.ones_like(taking, dtype=states.dtype) if r is None else r) * seen.mask
            kept["image_mask"] = seen.mask
            if attention is not None:
                kept["image_attention"] = attention
        return WordStates(states.unsqueeze(0), trace=kept)

    def prefix(self, u: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values of each layer, (B, m, d) each."""
        if isinstance(self.prompts, LayerPrompts) and self._shares:
            return self.prompts(u, key_value_maps(self.text))
        return self.prompts(u)


def layers_of(text: TextTower) -> int:
    """How many layers a tower has that takes a prefix."""
    return pieces_of(text).config.num_hidden_layers


def key_value_maps(text: PieceTower) -> Maps:
    """W_k and W_v of each layer of a tower like BERT or CLIP.

    Raises:
        UsageError: its layers are built in another way.
    """
    model: Any = text.model
    try:
        if hasattr(model, "text_model"):
            attentions = [layer.self_attn for layer in model.text_model.encoder.layers]
            return [(each.k_proj, each.v_proj) for each in attentions]
        inner = [layer.attention.self for layer in model.encoder.layer]
        return [(each.key, each.value) for each in inner]
    except AttributeError:
        raise UsageError(
            f"tower {text.spec} ({text.config.model_type}) has no layers like BERT's whose keys and values prompts "
            "could share; give --model.prompt_kv own"
        ) from None
