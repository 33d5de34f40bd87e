"""MGIPS-CL: two streams that exchange keys and values, an interweave of extractors, a gate, implicit positives.

B posts, n pieces, m' = 1 + patches image tokens (or n' pieces of a caption), d wide. Equation numbers are the paper's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.gates import Gate
from mnerkit.towers.fusion.dual_stream import Change, CropEmbedding, DualStream, Stream, noised, text_embedding
from mnerkit.towers.fusion.image_streams import caption_stream
from mnerkit.towers.fusion.prefix import with_unused
from mnerkit.towers.interface import Encoder, WordStates
from mnerkit.towers.text.piece_tower import BertTower, pool_words
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.mgips_cl.contrastive import ImplicitContrast
from mnerkit_plugins.mgips_cl.mge import Mge
from mnerkit_plugins.mgips_cl.options import MgipsOptions


class MgipsEncoder(Encoder):
    """H^t, H^v = DualStream; T, X = interweave(H^t, H^v); z = I * H^t + (1 - I) * T.

    Args:
        text: a BERT-like tower.
        vision: CLIP's vision tower; or a second BERT-like tower, which reads the captions.
        o: the options.

    Raises:
        UsageError: `mge_heads` does not divide the text tower's width.
    """

    def __init__(self, text: BertTower, vision: BertTower | ClipVisionTower, o: MgipsOptions) -> None:
        super().__init__()
        self.options, self.text, self.vision = o, text, vision
        self.width = d = text.width
        self.streams = DualStream(text, vision, o.kv_source, o.first_layer)  #                          Eq. 2-4
        # else by the padding of its batch, too
        self.by_post = o.mask_text_for_vision and o.cl_pool_mask and o.mge_pad == "hidden"
        self.crops = None
        if isinstance(vision, ClipVisionTower):
            self.crops = CropEmbedding(vision, o.max_objects, o.crop_size, deviation=o.position_std)
        texts = text.reader.max_tokens
        images = self.crops.length if self.crops is not None else vision.reader.max_tokens
        self.to_width = nn.Linear(vision.width, d) if vision.width != d else None
        self.mge_image = self.mge_text = self.gate = self.image_gate = None
        if o.use_mgi:
            if d % o.mge_heads:
                raise UsageError(f"--model.mge_heads {o.mge_heads} must divide the text tower's width {d}")
            # all image-guided steps share weights, and so do all text-guided steps
            self.mge_image = Mge(d, texts, images, "image", o, hidden(vision, o))
            self.mge_text = Mge(d, texts, images, "text", o, hidden(text, o), text.config.layer_norm_eps)
            self.gate = Gate(d, "feature" if o.gate == "feature" else "scalar", bias=True)
            self.image_gate = Gate(d, "scalar", bias=True) if o.image_gate else None
            for gate in (self.gate, self.image_gate):
                if gate is not None:
                    gate.requires_grad_(o.train_gates)
        self.contrast = ImplicitContrast(d, texts, images, o) if o.use_ips or o.use_cl else None
        self.dropout = nn.Dropout(o.dropout)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        text_mask = batch.text.attn_mask
        assert text_mask is not None
        o, before, after = self.options, *self.noises()
        shared = text_mask if o.mask_text_for_vision else torch.ones_like(text_mask)
        full = not o.mask_text_for_vision or "text" in batch.places.unpadded
        states = after(text_embedding(self.text, batch.text, before))  # (B, n, d)                     Eq. 1
        text = Stream(states, text_mask, shared, some=True, full=full)
        image = self.image_stream(batch)  # (B, m', d_v)
        present, real = image.shared.any(1), image.shared  # (B,), (B, m')
        texts, images = self.streams(text, image)
        h, v = texts[-1], self.widened(images[-1])  # H^t, H^v: (B, n, d), (B, m', d)
        t, x, z = h, v, h
        traces: dict[str, Tensor] = {}
        if self.mge_image is not None and self.mge_text is not None and self.gate is not None:
            for _ in range(o.n_interweave):  #                                                       Eq. 9-11
                x, image_weights = self.mge_image(x, t, real, text_mask)  # (B, m', d)
                t, text_weights = self.mge_text(t, x, text_mask, real)  # (B, n, d)
            # only the losses use this last step
            if o.final_image_mge and self.contrast is not None and (self.training or trace):
                first = x
                x, image_weights = self.mge_image(x, t, real, text_mask)
                if self.image_gate is not None:
                    x, _ = self.image_gate(first, x)
            # posts without pictures keep the states of the text stream
            t = torch.where(present[:, None, None], t, h)
            mixed, share = self.gate(h, t)  # I, the share of the text before the fusion               Eq. 12-13
            z = torch.where(present[:, None, None], mixed, h)
            if trace:
                traces = self.weight_traces(batch, share, text_weights, image_weights)
        losses = {}
        if self.contrast is not None and (self.training or trace):
            sequences = self.pairs(text, image, h, v, t, x, z)
            if self.training:
                losses = self.contrast(sequences[0], text_mask, sequences[1], real, self.posts(batch))
            if trace:
                traces["similarity"] = self.contrast.similarity(sequences[0], text_mask, sequences[1], real)
        # states that no loss uses (the last image layer, everything on a rank without pictures) get zero gradients
        z = with_unused(self.dropout(z), [v, x, t])
        return WordStates(pool_words(z, batch.text, self.text.word_pool).unsqueeze(0), losses, trace=traces)

    def image_stream(self, batch: Batch) -> Stream:
        """The image stream before its first layer: patches of the crops, or pieces of the caption."""
        before, after = self.noises()
        if self.crops is None:
            assert isinstance(self.vision, BertTower)
            stream = caption_stream(self.vision, batch, before)
            return replace(stream, states=after(stream.states))
        if batch.crop_mask is None:
            raise ValueError("the batch lacks the view 'objects'")
        pixels = batch.pictures("objects").pixels().unflatten(0, batch.crop_mask.shape)  # (B, o, 3, s, s)
        mask, host = batch.crop_mask, batch.places.host("crops")
        some, full = bool(host.any()), bool(host.all())
        if not self.options.mask_missing_crops:
            # fill all free places with grey crops, so that a post does not depend on the crops of its batch mates
            pixels = functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, self.options.max_objects - pixels.shape[1]))
            mask, some, full = torch.ones(pixels.shape[:2], dtype=torch.bool, device=pixels.device), True, True
        states, shared = self.crops(pixels, mask, before)
        own_mask = shared.clone()
        own_mask[:, 0] = True  # without crops, the class token attends to itself
        return Stream(after(states), own_mask, shared, some, full)

    def posts(self, batch: Batch) -> Tensor:
        """(P,) long, the posts of which the image stream reads a picture."""
        if self.crops is not None and not self.options.mask_missing_crops:
            return torch.arange(len(batch), device=batch.query.device)
        return batch.places.posts("captions" if self.crops is None else "crops")

    def noises(self) -> tuple[Change | None, Change]:
        """What is done to embeddings before and behind their layer norm: noise in training, in one of the places."""
        if not self.training or not self.options.embed_noise_alpha:
            return None, unchanged
        return (None, self.noised) if self.options.embed_noise_place == "after_norm" else (self.noised, unchanged)

    def noised(self, states: Tensor) -> Tensor:
        """Embeddings with noise."""
        return noised(states, self.options.embed_noise_alpha)

    def widened(self, images: Tensor) -> Tensor:
        """Image states in the text's width."""
        return images if self.to_width is None else self.to_width(images)

    def pairs(
        self, text: Stream, image: Stream, h: Tensor, v: Tensor, t: Tensor, x: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The text and the image sequence that enter Eq. 14."""
        if self.options.cl_features == "unimodal":
            separate = [
                replace(each, shared=torch.zeros_like(each.shared), some=False, full=False) for each in (text, image)
            ]
            texts, images = self.streams(*separate)
            return texts[-1], self.widened(images[-1])
        if self.options.cl_features == "encoder" or self.mge_image is None:
            return h, v
        return (z if self.options.cl_features == "gated" else t), x

    def weight_traces(
        self, batch: Batch, share: Tensor, text: dict[str, Tensor], image: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Traces for figures: gate and row weights of words (means over heads), column weights of features."""

        def of_words(pieces: Tensor) -> Tensor:
            return pool_words(pieces.unsqueeze(-1), batch.text, "first").squeeze(-1)  # (B, W)

        return {
            "gate": of_words(share.mean(-1)),
            "text_rows": of_words(text["row"].mean(1)),
            "image_rows": of_words(image["row"].mean(1)),
            "text_columns": text["column"].flatten(1),
            "image_columns": image["column"].flatten(1),
        }


def unchanged(states: Tensor) -> Tensor:
    """The states themselves."""
    return states


def hidden(tower: BertTower | ClipVisionTower, o: MgipsOptions) -> int | None:
    """Width of the feed-forward network of the extractor on a tower's side; None: the extractor's own."""
    if o.mge_hidden == "fourfold":
        return None
    config: Any = tower.config if isinstance(tower, BertTower) else tower.model.vision_model.config
    return config.intermediate_size  # type: ignore[no-any-return]
