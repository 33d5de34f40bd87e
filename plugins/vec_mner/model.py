"""VEC-MNER: two towers step side by side, and text reads what an attention over tokens leaves of vision.

B posts, n pieces, m' image tokens (1 + patches of the picture and of its crops, or pieces of a caption), d wide.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.contrast import info_nce
from mnerkit.towers.fusion.dual_stream import Change, DualStream, Stream, noised, patch_sequence, shrunk, text_embedding
from mnerkit.towers.fusion.image_streams import caption_stream
from mnerkit.towers.fusion.prefix import with_unused
from mnerkit.towers.interface import Encoder, WordStates
from mnerkit.towers.text.piece_tower import BertTower, pool_words
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.vec_mner.options import VecMnerOptions

TEMPERATURE = 0.07
RELEASED = 1 / math.log(1 / TEMPERATURE)  # the logarithm of a scale, taken for the scale


class VecMnerEncoder(Encoder):
    """h = Drop(T_L), T and V stepping layer by layer, vision first; and the contrast of both.

    Args:
        text: a BERT-like tower.
        vision: CLIP's vision tower; or a second BERT-like tower, which reads the captions.
        o: the options.
    """

    by_post = True

    def __init__(self, text: BertTower, vision: BertTower | ClipVisionTower, o: VecMnerOptions) -> None:
        super().__init__()
        self.options, self.text, self.vision, self.width = o, text, vision, text.width
        self.tokens = VisualTokens(vision, o) if isinstance(vision, ClipVisionTower) else None
        most = vision.reader.max_tokens if self.tokens is None else self.tokens.length  # type: ignore[union-attr]
        self.ca = TokenAttention(most, o.ca_hidden, o.ca_scale == "mean") if o.ca else None
        self.streams = DualStream(
            text,
            vision,
            "same_layer_vision_first",
            "none",
            alone={1} if o.align_layer else (),
            hand=self.handed,
        )
        self.to_width = nn.Linear(vision.width, text.width, bias=False) if vision.width != text.width else nn.Identity()
        self.log_scale = None
        if o.contrast and o.temperature == "learned":
            self.log_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))
        if not o.contrast:
            self.to_width.requires_grad_(False)
        self.dropout = nn.Dropout(o.dropout)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        text_mask = batch.text.attn_mask
        assert text_mask is not None
        noise = self.noise()
        text = Stream(
            text_embedding(self.text, batch.text, noise),  # T_0 (B, n, d)
            text_mask,
            text_mask,
            some=True,
            full="text" in batch.places.unpadded,
        )
        image = self.image_stream(batch, noise)  # V_0 (B, m', d_v)
        texts, images = self.streams(text, image)
        unused = [images[-1], *(() if self.ca is None else self.ca.parameters())]  # where no post has a picture
        states = with_unused(texts[-1], unused)
        losses = {}
        if self.options.contrast and self.training:
            losses["contrast"] = self.contrasted(states, text_mask, images[-1], image.shared, batch)
        words = pool_words(self.dropout(states), batch.text, self.text.word_pool)
        return WordStates(words.unsqueeze(0), losses)

    def noise(self) -> Change | None:
        """What is done to embeddings before their first layer norm: in training, noise."""
        alpha = self.options.noise
        return (lambda states: noised(states, alpha)) if self.training and alpha else None

    def image_stream(self, batch: Batch, noise: Change | None) -> Stream:
        """The image stream before its first layer."""
        if self.tokens is not None:
            return self.tokens(batch, noise)
        assert isinstance(self.vision, BertTower)
        return caption_stream(self.vision, batch, noise)

    def handed(self, keys: Tensor, values: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """What text gets of vision's keys and values (B, m', d_v), of which some are `real` (B, m')."""
        if self.options.hand == "keys":
            values = keys
        if self.ca is None:
            return keys, values
        weights = self.ca(keys, real).unsqueeze(-1)
        return weights * keys, weights * values

    def contrasted(self, texts: Tensor, text_mask: Tensor, images: Tensor, real: Tensor, batch: Batch) -> Tensor:
        """The contrast of the posts that have a picture: largest values over pieces and over image tokens."""
        a, b = pooled(texts, text_mask), pooled(self.to_width(images), real)  # (B, d)
        temperature: Any = RELEASED if self.log_scale is None else torch.exp(-self.log_scale)
        posts = batch.places.posts("captions" if self.tokens is None else "images")
        return info_nce(a, b, temperature, valid=posts)


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """The largest value of each feature over real tokens, (B, d); zeros without any."""
    largest = states.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
    return torch.where(mask.any(1, keepdim=True), largest, torch.zeros_like(largest))


class TokenAttention(nn.Module):
    """CA: one weight for each token, from three statistics of its features, which a bottleneck over tokens compares.

        f(y) = relu(W_1 y + b_1)                     W_1 (h, M), shared
        w = softmax(W_2 ((f(mean) + f(max)) * f(softpool)) + b_2)

    Args:
        tokens: M, the most there are.
        hidden: h.
        mean: weights have mean 1 over real tokens, not sum 1.
    """

    def __init__(self, tokens: int, hidden: int, mean: bool) -> None:
        super().__init__()
        self.down, self.up, self.mean = nn.Linear(tokens, hidden), nn.Linear(hidden, tokens), mean

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Weights (B, m') of tokens x (B, m', d), m' <= M; 0 where not `real` (B, m')."""
        size = x.shape[1]
        x = x.float()
        statistics = (x.mean(-1), x.amax(-1), softpool(x))  # (B, m') each
        average, largest, soft = (
            functional.relu(functional.linear(each * real, self.down.weight[:, :size], self.down.bias))
            for each in statistics
        )
        scores = functional.linear((average + largest) * soft, self.up.weight[:size], self.up.bias[:size])
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1) * real
        return weights * real.sum(-1, keepdim=True) if self.mean else weights


def softpool(x: Tensor) -> Tensor:
    """sum x e^x / sum e^x over the last axis."""
    return (x * x.softmax(-1)).sum(-1)


class VisualTokens(nn.Module):
    """The class token, and patches of the first picture of a post and of its crops, each set with new positions.

    Args:
        tower: CLIP's vision tower; its own positions are not used.
        o: the options of the crops.

    Raises:
        UsageError: a size is no multiple of the tower's patch.
    """

    def __init__(self, tower: ClipVisionTower, o: VecMnerOptions) -> None:
        super().__init__()
        config: Any = tower.model.vision_model.config
        self._model = (tower.model.vision_model,)  # a tuple, so that it is not registered as a submodule
        self.options = o

        def positions(count: int, side: int, option: str) -> nn.Parameter:
            if side % config.patch_size:
                raise UsageError(
                    f"--model.{option} {side}: tower {tower.spec} has patches of {config.patch_size} pixels; "
                    "give a multiple of that"
                )
            size = count * (side // config.patch_size) ** 2
            return nn.Parameter(torch.randn(size, config.hidden_size) * o.position_std)

        self.whole = positions(1, tower.picture.size, "vision")
        self.crops = positions(o.max_objects, o.crop_size, "crop_size") if o.max_objects else None
        self.small_crops = positions(o.small_objects, o.small_size, "small_size") if o.small_objects else None
        tower.model.vision_model.embeddings.position_embedding.requires_grad_(False)

    @property
    def length(self) -> int:
        """m', the class token and all patches."""
        return 1 + sum(len(each) for each in (self.whole, self.crops, self.small_crops) if each is not None)

    def forward(self, batch: Batch, before_norm: Change | None = None) -> Stream:
        """The image stream of a batch; places of missing crops are masked, all of it where there is no picture."""
        o, whole = self.options, batch.pictures("whole").pixels()
        assert batch.image_mask is not None
        mask, shape = batch.image_mask[:, :1], batch.image_mask.shape
        sets: list[tuple[Tensor, Tensor, Tensor]] = [(whole.unflatten(0, shape)[:, :1], mask, self.whole)]
        if self.crops is not None or self.small_crops is not None:
            sets += self._crops(batch)
        states, shared = patch_sequence(self._model[0], sets, mask, before_norm)
        own = shared.clone()
        own[:, 0] = True  # without a picture, the class token attends to itself
        some = bool(batch.places.host("images")[:, 0].any())
        return replace(Stream(states, own, shared), some=some, full=False if o.max_objects + o.small_objects else None)

    def _crops(self, batch: Batch) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Pixels, mask and positions of the two sets, each with all its places."""
        o = self.options
        if batch.crop_mask is None:
            raise ValueError("the batch lacks the view 'objects'")
        pixels, mask = batch.pictures("objects").pixels().unflatten(0, batch.crop_mask.shape), batch.crop_mask
        missing = o.max_objects + o.small_objects - pixels.shape[1]
        if missing > 0:
            pixels = functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, missing))
            mask = functional.pad(mask, (0, missing))
        middle, end = o.max_objects, o.max_objects + o.small_objects
        sets: list[tuple[Tensor, Tensor, Tensor]] = []
        if self.crops is not None:
            sets.append((shrunk(pixels[:, :middle], o.crop_size), mask[:, :middle], self.crops))
        if self.small_crops is not None:
            sets.append((shrunk(pixels[:, middle:end], o.small_size), mask[:, middle:end], self.small_crops))
        return sets
