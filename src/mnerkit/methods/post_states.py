"""Posts of episodes that are scored: one comes back in the support of many, and is encoded once."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.interface import Encoder, WordStates

MEMORY_BYTES = 512 << 20


class PostStates:
    """An encoder in evaluation, called as heads call it, that encodes each post once.

    `batch.notes["rows"]` says which posts the rows are. Those that are new are encoded together; states are as if the
    whole batch had been, up to rounding, which what was met before has a say in. To be used as long as the encoder's
    weights stay as they are, with an encoder whose states are `by_post`. Auxiliary losses and figures are not asked for
    in evaluation, and not kept; where traces are asked for, whole batches are encoded.

    Args:
        encoder: in evaluation mode.
        limit: from this many bytes on no more posts are kept, and a batch with a new one is encoded whole. What is kept
            stays on the encoder's device.
    """

    def __init__(self, encoder: Encoder, limit: int = MEMORY_BYTES) -> None:
        self.encoder, self.limit, self.used = encoder, limit, 0
        self._kept: dict[Hashable, tuple[Tensor, Tensor | None]] = {}

    def __call__(self, batch: Batch, trace: bool = False) -> WordStates:
        """(E, B, W, d) states, zeros behind a post's words."""
        keys = batch.notes.get("rows")
        if trace or keys is None:
            return self.encoder(batch, trace=trace)
        new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._kept}
        if new and self.used >= self.limit:
            return self.encoder(batch)
        if new:
            rows = sorted(new.values())
            encoded = self.encoder(batch.select(torch.tensor(rows, device=batch.query.device)))
            for place, row in enumerate(rows):
                self._keep(keys[row], encoded, place, len(batch.posts[row].words))
        found = [self._kept[key] for key in keys]
        first, edge = found[0]
        count = batch.text.word_mask.shape[1]
        states = first.new_zeros(first.shape[0], len(keys), count, first.shape[-1])
        boundary = None if edge is None else edge.new_zeros(len(keys), count, edge.shape[-1])
        for row, (own, own_edge) in enumerate(found):
            states[:, row, : own.shape[1]] = own
            if boundary is not None and own_edge is not None:
                boundary[row, : len(own_edge)] = own_edge
        return WordStates(states, boundary=boundary)

    def _keep(self, key: Hashable, encoded: WordStates, place: int, count: int) -> None:
        states = encoded.states[:, place, :count].clone()  # (E, w, d)
        boundary = None if encoded.boundary is None else encoded.boundary[place, :count].clone()
        self._kept[key] = states, boundary
        self.used += sum(each.nbytes for each in (states, boundary) if each is not None)
