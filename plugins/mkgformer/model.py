"""MKGformer: vision attends to text, and text takes vision into its feed-forward networks (Chen et al. 2022).

B posts, n pieces, m' = 1 + patches image tokens (or pieces of a caption), d wide.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.nn.attention import attend
from mnerkit.towers.fusion.dual_stream import CropEmbedding, DualStream, Stream, text_embedding
from mnerkit.towers.fusion.image_streams import caption_stream, crop_stream
from mnerkit.towers.fusion.prefix import with_unused
from mnerkit.towers.interface import Encoder, WordStates
from mnerkit.towers.text.piece_tower import BertTower, pool_words
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.mkgformer.options import MkgformerOptions


class MkgformerEncoder(Encoder):
    """h = Drop(T_L), T and V stepping layer by layer.

    Args:
        text: a BERT-like tower.
        vision: CLIP's vision tower; or a second BERT-like tower, which reads the captions.
        o: the options.
    """

    def __init__(self, text: BertTower, vision: BertTower | ClipVisionTower, o: MkgformerOptions) -> None:
        super().__init__()
        self.options, self.text, self.vision, self.width = o, text, vision, text.width
        self.by_post = o.mask_text_for_vision  # else by the padding of its batch, too
        receivers: Any = {"text_to_vision": "vision", "both": "both"}[o.exchange] if o.guide else "none"
        self.streams = DualStream(text, vision, "previous", "none", o.exchange_layers, receivers)
        self.crops = crop_embedding(vision, o) if isinstance(vision, ClipVisionTower) else None
        layers, hidden = range(self.streams.begin, text.config.num_hidden_layers), text.config.intermediate_size
        self.fusions = nn.ModuleDict(
            {str(number): Fusion(vision.width, text.width, hidden, o) for number in layers if o.fuse}
        )
        self.dropout = nn.Dropout(o.dropout)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        text_mask = batch.text.attn_mask
        assert text_mask is not None
        shared = text_mask if self.options.mask_text_for_vision else torch.ones_like(text_mask)
        full = not self.options.mask_text_for_vision or "text" in batch.places.unpadded
        text = Stream(text_embedding(self.text, batch.text), text_mask, shared, some=True, full=full)  # T_0 (B, n, d)
        image = self.image_stream(batch)  # V_0 (B, m', d_v)
        weights: dict[str, Tensor] = {}

        def text_layer(number: int, layer: Any, states: Tensor, mask: Any, vision: Tensor, **options: Any) -> Tensor:
            if str(number) not in self.fusions:
                return layer(states, mask, **options)
            fusion: Any = self.fusions[str(number)]
            states, weights[str(number)] = fusion(layer, states, mask, vision, image.shared, **options)
            return states

        texts, images = self.streams(text, image, text_layer)
        states = with_unused(self.dropout(texts[-1]), [images[-1]])  # which no text layer reads without fusions
        words = pool_words(states, batch.text, self.text.word_pool)
        traces = {f"fusion_{number}": self.of_words(each, batch) for number, each in weights.items()} if trace else {}
        return WordStates(words.unsqueeze(0), trace=traces)

    def image_stream(self, batch: Batch) -> Stream:
        """The image stream before its first layer: patches of the crops, or pieces of the caption."""
        if self.crops is None:
            assert isinstance(self.vision, BertTower)
            return caption_stream(self.vision, batch)
        o = self.options
        places = None if o.mask_missing_crops else self.crops.crops + self.crops.small[0]
        return crop_stream(self.crops, batch, o.max_objects if o.crop_sets == "small" else 0, places)

    def of_words(self, pieces: Tensor, batch: Batch) -> Tensor:
        """(B, n, m') to (B, W, m'): the first piece of each word."""
        return pool_words(pieces, batch.text, "first")


class Fusion(nn.Module):
    """Correlation-aware fusion in a layer of BERT, whose own maps are W_1 and W_2.

        S = softmax(C V^T),  G = S V
        T = LN(A + W_2 gelu(W_1 A + b_1 + W_3 G + b_3) + b_2)

    C are the joined heads of the attention, A the states after it.

    Args:
        source: width of V; where it is not that of C, a linear map leads from one to the other.
        width: d of C and A.
        hidden: width of the feed-forward network.
        o: the options.
    """

    def __init__(self, source: int, width: int, hidden: int, o: MkgformerOptions) -> None:
        super().__init__()
        self.options = o
        self.to_width = nn.Linear(source, width) if source != width else nn.Identity()
        self.map = nn.Linear(width, hidden)  # W_3

    def forward(
        self, layer: Any, states: Tensor, mask: Any, vision: Tensor, real: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Args:
            layer: a layer of BERT.
            states: (B, n, d), its input.
            mask: its attention mask.
            vision: V (B, m', d_v).
            real: (B, m') bool; a post without any is computed as by the layer alone.
            options: keyword arguments of its attention.

        Returns:
            T (B, n, d), and S (B, n, m').
        """
        context = layer.attention.self(states, attention_mask=mask, **options)[0]  # C
        attended = layer.attention.output(context, states)  # A
        query, values = context if self.options.fusion_query == "heads" else attended, self.to_width(vision)
        if self.options.fusion_scale == "none":
            query = query * math.sqrt(query.shape[-1])  # `attend` divides by it
        gathered, weights = attend(query, values, values, real.unsqueeze(1))  # G (B, n, d)
        seen = self.map(gathered) * real.any(1).view(-1, 1, 1)
        hidden = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(attended) + seen)
        return layer.output(hidden, attended), weights


def crop_embedding(vision: ClipVisionTower, o: MkgformerOptions) -> CropEmbedding:
    """The patches of both sets of crops, or of one."""
    if o.crop_sets == "small":
        return CropEmbedding(vision, o.small_objects, o.small_size, deviation=o.position_std)
    small = (o.small_objects, o.small_size) if o.crop_sets == "both" else (0, 0)
    return CropEmbedding(vision, o.max_objects, o.crop_size, small, o.position_std)
