"""A cache of encoder states for evaluation: a post that appears in many episodes is encoded once."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.interface import Encoder, WordStates

MEMORY_BYTES = 512 << 20


class PostStates:
    """Wraps an encoder in evaluation mode and encodes each post once; heads call it like the encoder.

    `batch.notes["rows"]` identifies the post of each row. New posts are encoded together; the states equal those of the
    whole batch up to rounding, which depends on what is cached. The encoder's weights must not change, and its states
    must be `by_post`. Auxiliary losses and logged figures are not returned; if a trace is requested, the whole batch is
    encoded.

    Args:
        encoder: in evaluation mode.
        limit: size of the cache in bytes, on the encoder's device; once it is reached, a batch with a new post is
            encoded as a whole.
    """

    def __init__(self, encoder: Encoder, limit: int = MEMORY_BYTES) -> None:
        self.encoder, self.limit, self.used = encoder, limit, 0
        self._cached: dict[Hashable, tuple[Tensor, Tensor | None, float]] = {}

    def __call__(self, batch: Batch, trace: bool = False) -> WordStates:
        """(E, B, W, d) states, zeros where a word is padding."""
        keys = batch.notes.get("rows")
        if trace or keys is None:
            return self.encoder(batch, trace=trace)
        new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._cached}
        if new and self.used >= self.limit:
            return self.encoder(batch)
        if new:
            rows = sorted(new.values())
            encoded = self.encoder(batch.select(torch.tensor(rows, device=batch.query.device)))
            for place, row in enumerate(rows):
                self._store(keys[row], encoded, place, len(batch.posts[row].words))
        posts = [self._cached[key] for key in keys]
        first, first_boundary, share = posts[0]
        count = batch.text.word_mask.shape[1]
        states = first.new_zeros(first.shape[0], len(keys), count, first.shape[-1])
        boundary = None
        if first_boundary is not None:
            boundary = first_boundary.new_zeros(len(keys), count, first_boundary.shape[-1])
        for row, (post_states, post_boundary, _) in enumerate(posts):
            states[:, row, : post_states.shape[1]] = post_states
            if boundary is not None and post_boundary is not None:
                boundary[row, : len(post_boundary)] = post_boundary
        return WordStates(states, boundary=boundary, head_share=share)

    def _store(self, key: Hashable, encoded: WordStates, place: int, count: int) -> None:
        states = encoded.states[:, place, :count].clone()  # (E, w, d)
        boundary = None if encoded.boundary is None else encoded.boundary[place, :count].clone()
        self._cached[key] = states, boundary, encoded.head_share
        self.used += sum(tensor.nbytes for tensor in (states, boundary) if tensor is not None)
