"""What the image stream of two is made of: patches of crops, or pieces of a caption."""

from __future__ import annotations

import torch
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.fusion.dual_stream import Change, CropEmbedding, Stream, text_embedding
from mnerkit.towers.text.piece_tower import BertTower


def crop_stream(embedding: CropEmbedding, batch: Batch, first: int = 0, places: int | None = None) -> Stream:
    """The image stream before its first layer: patches of the crops of the view `objects`.

    Args:
        embedding: of the crops.
        batch: the posts.
        first: number of crops to leave out, from the first one on.
        places: read so many crops, those that a post lacks as pictures of zeros; None: mask these.
    """
    if batch.crop_mask is None:
        raise ValueError("the batch lacks the view 'objects'")
    pixels = batch.pictures("objects").pixels().unflatten(0, batch.crop_mask.shape)[:, first:]  # (B, o, 3, s, s)
    mask, real = batch.crop_mask[:, first:], batch.places.host("crops")[:, first:]
    missing = max(1, places or 0) - pixels.shape[1]  # one place at least, that all weights are used
    if missing > 0:
        pixels = functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, missing))
        mask = functional.pad(mask, (0, missing))
    if places is not None:
        mask = torch.ones_like(mask)
    states, shared = embedding(pixels, mask)
    own = shared.clone()
    own[:, 0] = True  # without crops, the class token attends to itself
    some, full = (True, True) if places is not None else (bool(real.any()), missing <= 0 and bool(real.all()))
    return Stream(states, own, shared, some, full)


def caption_stream(tower: BertTower, batch: Batch, before_norm: Change | None = None) -> Stream:
    """The image stream before its first layer, where a second text tower reads captions in place of pictures.

    `before_norm` changes the embeddings before their LayerNorm.
    """
    captions, caption_mask = batch.captions, batch.caption_mask
    if captions is None or caption_mask is None or captions.attn_mask is None:
        raise ValueError("the batch lacks the view 'captions'")
    real, mask = batch.places.host("captions"), captions.attn_mask
    some, full = bool(real.any()), bool(real.all()) and "captions" in batch.places.unpadded
    return Stream(text_embedding(tower, captions, before_norm), mask, mask & caption_mask, some, full)
