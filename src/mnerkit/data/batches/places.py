"""Where the masks of a batch are true, known on the host, so that a step need not wait for a device to tell."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import Batch

MASKS = {"query": "query", "image_mask": "images", "crop_mask": "crops", "caption_mask": "captions"}
View = Literal["images", "crops", "captions"]


class Places:
    """Copies of a batch's masks on the host; the places of their true entries as tensors on a device.

    Attributes:
        device: where the tensors are made.
        whole_captions: whether every word of every caption is real: none is missing, and all have one length.
        unpadded: which of `text` and `captions` have pieces in every place.
        lengths: number of words of each post, read by the tower or not.
    """

    def __init__(self, batch: Batch) -> None:
        """Copy the masks; where the batch is on a device already, this waits for it."""
        self.follow(batch)
        masks = {name: getattr(batch, attribute) for attribute, name in MASKS.items()}
        self._masks: dict[str, np.ndarray] = {
            name: np.array(mask.cpu().numpy()) for name, mask in masks.items() if mask is not None
        }
        read = batch.text.read_mask.cpu().numpy()
        play = read if batch.play_mask is None else read & batch.play_mask.cpu().numpy()
        self._masks |= {"words": np.array(read), "play": np.array(play)}
        self.lengths: list[int] = batch.text.word_mask.sum(1).tolist()
        self.whole_captions = batch.captions is not None and bool(batch.captions.read_mask.all())
        pieces = {"text": batch.text, "captions": batch.captions}
        masks = {name: None if text is None else text.attn_mask for name, text in pieces.items()}
        self.unpadded = {name for name, mask in masks.items() if mask is not None and bool(mask.all())}
        self._tensors: dict[tuple[str, bool], Tensor] = {}

    def follow(self, batch: Batch) -> None:
        """Belong to a batch from now on that has the same masks, on another device."""
        self.device, self._source = batch.query.device, _versions(batch)

    def true_of(self, batch: Batch) -> bool:
        """Whether the masks of a batch are still those that were copied."""
        return self._source == _versions(batch)

    def __getstate__(self) -> dict[str, object]:
        """Leave out the tensors: a worker's are made again where they are used."""
        return {**self.__dict__, "_tensors": {}}

    @property
    def query(self) -> Tensor:
        """(Q,) long, rows of the query."""
        return self._tensor("query", self._masks["query"])

    @property
    def support(self) -> Tensor:
        """(S,) long, the other rows."""
        return self._tensor("support", ~self._masks["query"])

    @cached_property
    def queries(self) -> list[int]:
        """Rows of the query."""
        return np.flatnonzero(self._masks["query"]).tolist()

    def of(self, view: View) -> Tensor:
        """(R,) long, the numbers b * k + j of the real pictures, crops or captions among k places a post."""
        return self._tensor(view, self.host(view))

    def posts(self, view: View, with_words: bool = False) -> Tensor:
        """(P,) long, the posts with at least one; `with_words`: and with a word that the tower reads."""
        posts = np.logical_or.reduce(self.host(view), axis=1)
        if with_words:
            posts = posts & np.logical_or.reduce(self._masks["words"], axis=1)
        return self._tensor(f"posts with {view}, {with_words}", posts)

    def query_words(self) -> Tensor:
        """(n,) long, numbers q * W + w of the words of the query that the tower reads."""
        return self._tensor("query words", self._masks["words"][self._masks["query"]])

    def support_words(self) -> Tensor:
        """(n,) long, numbers s * W + w of the words of the support that are read and whose tags count."""
        return self._tensor("support words", self._masks["play"][~self._masks["query"]])

    def words(self) -> Tensor:
        """(n,) long, numbers b * W + w of the words that the tower reads."""
        return self._tensor("words", self._masks["words"])

    def host(self, view: View) -> np.ndarray:
        """(B, k) bool, which pictures, crops or captions are real; on the host, to be read only."""
        if view not in self._masks:
            raise ValueError(f"the batch lacks the view {view!r}")
        return self._masks[view]

    def _tensor(self, name: str, mask: np.ndarray) -> Tensor:
        key = name, torch.is_inference_mode_enabled()
        if key not in self._tensors or self._tensors[key].device != self.device:
            places = torch.from_numpy(np.flatnonzero(mask))
            self._tensors[key] = places.to(self.device, non_blocking=True)
        return self._tensors[key]


def _versions(batch: Batch) -> tuple[tuple[int, int], ...]:
    """Which tensors the masks of a batch are, and how often each was written to."""
    masks = [batch.play_mask, *(getattr(batch, attribute) for attribute in MASKS)]
    for text in (batch.text, batch.captions):
        masks += [] if text is None else [text.word_mask, text.first_piece, text.attn_mask]
    return tuple((id(mask), 0 if mask is None or mask.is_inference() else mask._version) for mask in masks)
