"""MGIPS-CL: two streams that exchange keys and values, an interweave of extractors, a gate, implicit positives.

B posts, n pieces, m' = 1 + patches image tokens (or n' pieces of a caption), d wide. Equation numbers are the paper's.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.contrast import TopK
from mnerkit.nn.gates import Gate
from mnerkit.towers.fusion.dual_stream import CropEmbedding, DualStream, FirstLayer, Source, Stream, text_embedding
from mnerkit.towers.fusion.prefix import with_unused
from mnerkit.towers.interface import Encoder, WordStates
from mnerkit.towers.text.piece_tower import BertTower, pool_words
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.mgips_cl.contrastive import Direction, ImplicitContrast, Pool, Variant
from mnerkit_plugins.mgips_cl.mge import Align, ColumnReading, Mge, Residual, ValueSide

Features = Literal["fused", "gated", "encoder", "unimodal"]


class MgipsEncoder(Encoder):
    """H^t, H^v = DualStream; T, X = interweave(H^t, H^v); z = I * H^t + (1 - I) * T.

    Args:
        text: a BERT-like tower.
        vision: CLIP's vision tower; or a second BERT-like tower, which reads the captions.

    The other options are told in `MgipsTagger`.
    """

    by_post = True

    def __init__(
        self,
        text: BertTower,
        vision: BertTower | ClipVisionTower,
        *,
        max_objects: int = 3,
        crop_size: int = 128,
        kv_source: Source = "previous",
        first_layer: FirstLayer = "raw",
        mask_missing_crops: bool = True,
        embed_noise_alpha: float = 0.0,
        use_mgi: bool = True,
        n_interweave: int = 1,
        final_image_mge: bool = True,
        length_align: Align = "linear",
        mge_heads: int = 12,
        mge_value: ValueSide = "source",
        mge_ffn: bool = True,
        column_reading: ColumnReading = "transpose",
        column_bias: float = 0.0,
        interweave_residual: Residual = "inside",
        use_row: bool = True,
        use_col: bool = True,
        gate: Literal["feature", "token"] = "feature",
        ips_k: int = 3,
        tau: float = 0.5,
        ips_clamp_k: bool = True,
        ips_exclude_own: bool = False,
        detach_topk_index: bool = True,
        ips_variant: Variant = "paper",
        cl_pool: Pool = "mean_mlp",
        cl_features: Features = "fused",
        cl_direction: Direction = "t2v",
        use_ips: bool = True,
        use_cl: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text, self.vision = text, vision
        self.width = d = text.width
        self.mask_missing_crops, self.embed_noise_alpha = mask_missing_crops, embed_noise_alpha
        self.n_interweave, self.final_image_mge, self.cl_features = n_interweave, final_image_mge, cl_features
        self.streams = DualStream(text, vision, kv_source, first_layer)  #                              Eq. 2-4
        self.max_objects = max_objects
        self.crops = CropEmbedding(vision, max_objects, crop_size) if isinstance(vision, ClipVisionTower) else None
        texts = text.reader.max_tokens
        images = self.crops.length if self.crops is not None else vision.reader.max_tokens
        self.to_width = nn.Linear(vision.width, d) if vision.width != d else None
        self.mge_image = self.mge_text = self.gate = None
        if use_mgi:
            if d % mge_heads:
                raise UsageError(f"--model.mge_heads {mge_heads} must divide the text tower's width {d}")
            options: dict[str, Any] = {
                "heads": mge_heads,
                "align": length_align,
                "value": mge_value,
                "column_reading": column_reading,
                "column_bias": column_bias,
                "use_row": use_row,
                "use_column": use_col,
                "ffn": mge_ffn,
                "residual": interweave_residual,
                "dropout": dropout,
            }
            # all image-guided steps share one set of weights, all text-guided steps another
            self.mge_image, self.mge_text = (Mge(d, texts, images, side, **options) for side in ("image", "text"))
            self.gate = Gate(d, "feature" if gate == "feature" else "scalar", bias=True)
        self.contrast = None
        if use_ips or use_cl:
            self.contrast = ImplicitContrast(
                d,
                texts,
                images,
                pool=cl_pool,
                tau=tau,
                direction=cl_direction,
                variant=ips_variant,
                positives=TopK(ips_k, ips_clamp_k, ips_exclude_own, detach_topk_index, ips_variant == "merged"),
                use_ips=use_ips,
                use_cl=use_cl,
            )
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        text_mask = batch.text.attn_mask
        assert text_mask is not None
        text = Stream(self.noised(text_embedding(self.text, batch.text)), text_mask, text_mask)  # (B, n, d)  Eq. 1
        image = self.seen(batch)  # (B, m', d_v)
        present, real = image.given.any(1), image.given  # (B,), (B, m')
        texts, images = self.streams(text, image)
        h, v = texts[-1], self.widened(images[-1])  # H^t, H^v: (B, n, d), (B, m', d)
        t, x, z = h, v, h
        seen: dict[str, Tensor] = {}
        if self.mge_image is not None and self.mge_text is not None and self.gate is not None:
            for _ in range(self.n_interweave):  #                                                       Eq. 9-11
                x, image_weights = self.mge_image(x, t, real, text_mask)  # (B, m', d)
                t, text_weights = self.mge_text(t, x, text_mask, real)  # (B, n, d)
            # the last step feeds the losses alone
            if self.final_image_mge and self.contrast is not None and (self.training or trace):
                x, image_weights = self.mge_image(x, t, real, text_mask)
            # a post without pictures stays as the text stream has it
            t = torch.where(present[:, None, None], t, h)
            mixed, share = self.gate(h, t)  # I, the share of the text before the fusion               Eq. 12-13
            z = torch.where(present[:, None, None], mixed, h)
            if trace:
                seen = self.told(batch, share, text_weights, image_weights)
        losses = {}
        if self.contrast is not None and (self.training or trace):
            ours, theirs = self.pairs(text, image, h, v, t, x, z)
            if self.training:
                losses = self.contrast(ours, text_mask, theirs, real, present)
            if trace:
                seen["similarity"] = self.contrast.similarity(ours, text_mask, theirs, real)
        # what no loss read (the last image layer, all of it on a rank without pictures) gets gradients of zeros
        z = with_unused(self.dropout(z), [v, x, t])
        return WordStates(pool_words(z, batch.text, self.text.word_pool).unsqueeze(0), losses, trace=seen)

    def seen(self, batch: Batch) -> Stream:
        """The image stream before its first layer: patches of the crops, or pieces of the caption."""
        if self.crops is None:
            captions, told = batch.captions, batch.caption_mask
            if captions is None or told is None or captions.attn_mask is None:
                raise ValueError("the batch lacks the view 'captions'")
            assert isinstance(self.vision, BertTower)
            states = text_embedding(self.vision, captions)
            return Stream(self.noised(states), captions.attn_mask, captions.attn_mask & told)
        if batch.crop_mask is None:
            raise ValueError("the batch lacks the view 'objects'")
        pixels = batch.pictures("objects").pixels().unflatten(0, batch.crop_mask.shape)  # (B, o, 3, s, s)
        mask = batch.crop_mask
        if not self.mask_missing_crops:
            # grey crops in every free place, so that a post does not depend on how many crops its batch mates have
            pixels = functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, self.max_objects - pixels.shape[1]))
            mask = torch.ones(pixels.shape[:2], dtype=torch.bool, device=pixels.device)
        states, given = self.crops(pixels, mask)
        own = given.clone()
        own[:, 0] = True  # the class token sees itself where there is nothing else
        return Stream(self.noised(states), own, given)

    def noised(self, states: Tensor) -> Tensor:
        """Uniform noise on embeddings in training, of magnitude alpha / sqrt(n d) (NEFTune)."""
        if not self.training or not self.embed_noise_alpha:
            return states
        bound = self.embed_noise_alpha / (states.shape[1] * states.shape[2]) ** 0.5
        return states + torch.empty_like(states).uniform_(-bound, bound)

    def widened(self, images: Tensor) -> Tensor:
        """Image states in the text's width."""
        return images if self.to_width is None else self.to_width(images)

    def pairs(
        self, text: Stream, image: Stream, h: Tensor, v: Tensor, t: Tensor, x: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The text and the image sequence that enter Eq. 14."""
        if self.cl_features == "unimodal":
            nothing = [Stream(each.states, each.mask, torch.zeros_like(each.given)) for each in (text, image)]
            texts, images = self.streams(*nothing)
            return texts[-1], self.widened(images[-1])
        if self.cl_features == "encoder" or self.mge_image is None:
            return h, v
        return (z if self.cl_features == "gated" else t), x

    def told(self, batch: Batch, share: Tensor, text: dict[str, Tensor], image: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is drawn: gate and row weights of words, column weights of features, means over heads."""

        def of_words(pieces: Tensor) -> Tensor:
            return pool_words(pieces.unsqueeze(-1), batch.text, "first").squeeze(-1)  # (B, W)

        return {
            "gate": of_words(share.mean(-1)),
            "text_rows": of_words(text["row"].mean(1)),
            "image_rows": of_words(image["row"].mean(1)),
            "text_columns": text["column"].flatten(1),
            "image_columns": image["column"].flatten(1),
        }
