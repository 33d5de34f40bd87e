"""The padded tensors of some posts. Every axis of variable length has a boolean mask, true = real."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from mnerkit.data.post import Post
from mnerkit.data.tagset import TagSet

Moved = TypeVar("Moved", bound="_Movable")


class _Movable:
    """Tensors of a dataclass, moved together (Lightning looks for `to` and `pin_memory`)."""

    def _each(self: Moved, change: Any) -> Moved:
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if isinstance(value, Tensor | _Movable):
                setattr(self, each.name, change(value))
        return self

    def to(self: Moved, device: torch.device | str, non_blocking: bool = False) -> Moved:
        """Move every tensor, in place."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self: Moved) -> Moved:
        """Pin every tensor, in place."""
        return self._each(lambda value: value.pin_memory())


@dataclass
class TextBatch(_Movable):
    """Word sequences, as a text tower reads them: B rows, W words, n pieces, C characters.

    A tower that reads pieces gets the first block, one that reads whole words the second; the other is None.

    Attributes:
        words: the words of each row.
        word_mask: (B, W) bool.
        input_ids: (B, n) long, piece ids with the tokenizer's special pieces.
        attn_mask: (B, n) bool.
        type_ids: (B, n) long, 1 in the second segment.
        piece_word: (B, n) long, the word of each piece; -1 for special pieces, padding and the second segment.
        first_piece: (B, W) long, the first piece of each word; -1 where the length limit cut the word off.
        word_ids: (B, V) long, numbers in the vocabulary; 0 pads, 1 is unknown. V = W; a second segment stands behind
            a row's words, and V grows by it.
        shapes: (B, V) long, number of the word's shape (capitals, digits, hashtag ...); 0 pads.
        chars: (B, V, C) long, character numbers; 0 pads, 1 is unknown.
    """

    words: list[tuple[str, ...]]
    word_mask: Tensor
    input_ids: Tensor | None = None
    attn_mask: Tensor | None = None
    type_ids: Tensor | None = None
    piece_word: Tensor | None = None
    first_piece: Tensor | None = None
    word_ids: Tensor | None = None
    shapes: Tensor | None = None
    chars: Tensor | None = None

    @property
    def read_mask(self) -> Tensor:
        """(B, W) bool: words that the tower sees. A word that was cut off is predicted O and stays gold."""
        if self.first_piece is None:
            return self.word_mask
        return self.word_mask & (self.first_piece >= 0)


@dataclass
class Batch(_Movable):
    """The padded tensors of B posts with up to m images each; what a method did not ask for is None.

    In an episode the rows are the support posts and then the query posts; `query` marks those that are scored.

    Attributes:
        posts: the posts, one a row.
        text: their words.
        tagset: meaning of the numbers in `tags`: the corpus's types, or those in play in this episode.
        query: (B,) bool, rows that are decoded and scored (all of them outside episodes).
        tags: (B, W) long, 0 where padded; None where the posts carry no tags.
        play_mask: (B, W) bool, words whose tag counts; None: all.
        images: (B, m, 3, H, W) float, normalised for the vision tower; zeros where missing.
        image_mask: (B, m) bool.
        crops: (B, o, 3, h, w) float: k x k grid cells (row-major) of each image, or crops of detected boxes.
        crop_mask: (B, o) bool.
        crop_image: (B, o) long, the image each crop was cut from.
        boxes: (B, o, 4) float, x0 y0 x1 y1 as shares of the image's width and height.
        captions: words of the captions, B * m rows: row b * m + j is image j of post b; a row without words has none.
        caption_mask: (B, m) bool.
        episode: number of the episode within its split, or None.
    """

    posts: list[Post]
    text: TextBatch
    tagset: TagSet
    query: Tensor
    tags: Tensor | None = None
    play_mask: Tensor | None = None
    images: Tensor | None = None
    image_mask: Tensor | None = None
    crops: Tensor | None = None
    crop_mask: Tensor | None = None
    crop_image: Tensor | None = None
    boxes: Tensor | None = None
    captions: TextBatch | None = None
    caption_mask: Tensor | None = None
    episode: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.posts)
