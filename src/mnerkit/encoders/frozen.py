"""Frozen towers: fixed weights, their digest, and outputs that are computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mnerkit.data.batch import TextBatch
from mnerkit.encoders.base import ImageStates, TextStates, Tower

AnyTower = TypeVar("AnyTower", bound=Tower)

MEMORY_BYTES = 512 << 20


def freeze(tower: AnyTower) -> AnyTower:
    """Fix a tower's weights: no gradient, and eval mode from now on (dropout off, BatchNorm statistics fixed).

    Returns:
        The same tower.

    """
    tower.frozen = True
    tower.requires_grad_(False)
    tower.eval()
    return tower


def weight_digest(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of a module's state dict, as hex.

    It does not depend on the device, nor on the order in which weights were created.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(memoryview(_bytes(value)))
    return digest.hexdigest()


def input_digest(value: Tensor | tuple[str, ...]) -> str:
    """Digest of one input: a picture's pixels, or the words of a text."""
    if isinstance(value, Tensor):
        digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(memoryview(_bytes(value)))
        return digest.hexdigest()
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _bytes(value: Tensor) -> Any:
    return value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()


@dataclass(frozen=True)
class Reading:
    """How a frozen tower reads: all that, beside the input, decides its output.

    Attributes:
        weights: digest of the tower's weights.
        view: what is read (`text`, `whole`, `grid`, `captions` ...).
        preprocessing: the reader's or the picture format's settings, as text.
        length_limit: most pieces of a text; 0 for pictures.
        layers: how many last layers are averaged.
        pooling: how pieces become words (`first`, `mean`), or empty.
        projection: whether states lie in the joint space.
        dtype: type of the numbers.

    """

    weights: str
    view: str
    preprocessing: str
    length_limit: int = 0
    layers: int = 1
    pooling: str = ""
    projection: bool = False
    dtype: str = "float32"


def feature_key(reading: Reading, source: str) -> str:
    """Address of a frozen tower's output: a digest of how it reads and of its input's digest `source`."""
    return hashlib.sha256(json.dumps([asdict(reading), source], sort_keys=True).encode()).hexdigest()


class FeatureMemory:
    """What a frozen tower returned, kept in memory by `feature_key`, so that the next epoch need not compute it.

    An input that is met for the first time is computed alone: what is kept does not depend on its batch mates, and a
    resumed run computes the same numbers. Once the limit is reached nothing more is kept, and new inputs are computed
    together: an epoch meets every post once, so giving up the oldest would lose each before it comes again.

    Args:
        limit: most bytes that are kept, in main memory.

    """

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self.limit, self.used = limit, 0
        self._kept: dict[str, tuple[Tensor, ...]] = {}
        self._reading: tuple[tuple[int, ...], Reading] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of a tower (another process, fine-tuning) starts with nothing
        return (FeatureMemory, (self.limit,))

    def text(self, tower: Any, text: TextBatch, compute: Callable[[TextBatch], TextStates]) -> TextStates:
        """What `compute` returns for a batch, without pieces and layers.

        Args:
            tower: a frozen tower with `reading()`.
            text: the batch.
            compute: runs the tower.

        """
        ids, mask, owner = text.input_ids, text.attn_mask, text.piece_word
        if ids is None or mask is None or owner is None:
            return compute(text)
        used, counts = mask.sum(1).tolist(), text.word_mask.sum(1).tolist()
        inputs = torch.stack([ids, owner], -1).cpu()  # (B, n, 2)
        reading = self._current(tower)
        keys = [feature_key(reading, input_digest(inputs[row, :length])) for row, length in enumerate(used)]

        def alone(row: int) -> tuple[Tensor, ...]:
            states = compute(_row(text, row, used[row], max(1, counts[row])))
            return states.words[0], states.pooled[0]

        rows = self._recall(keys, alone)
        if rows is None:
            return compute(text)
        like = next(tower.parameters())
        words = like.new_zeros(*text.word_mask.shape, rows[0][0].shape[-1])
        for row, (states, _) in enumerate(rows):
            words[row, : len(states)] = states.to(like.device)
        return TextStates(words, torch.stack([pooled for _, pooled in rows]).to(like.device))

    def images(self, tower: Any, pixels: Tensor, compute: Callable[[Tensor], ImageStates]) -> ImageStates:
        """What `compute` returns for pictures, without tokens and stages.

        Args:
            tower: a frozen tower with `reading()` and a fixed `grid`.
            pixels: (N, 3, H, W).
            compute: runs the tower.

        """
        reading, values = self._current(tower), pixels.cpu()
        keys = [feature_key(reading, input_digest(picture)) for picture in values]

        def alone(row: int) -> tuple[Tensor, ...]:
            states = compute(pixels[row : row + 1])
            return states.pooled[0], states.regions[0]

        rows = self._recall(keys, alone)
        if not rows:
            return compute(pixels)
        pooled, regions = (torch.stack(parts).to(pixels.device) for parts in zip(*rows, strict=True))
        return ImageStates(pooled, regions, tower.grid)

    def _recall(self, keys: list[str], alone: Callable[[int], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]] | None:
        """The tensors of each key, computed and kept where they are new; None where there is no room for new ones."""
        for row, key in enumerate(keys):
            if key not in self._kept:
                if self.used >= self.limit:
                    return None
                tensors = tuple(tensor.detach().float().cpu().clone() for tensor in alone(row))
                self._kept[key] = tensors
                self.used += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return [self._kept[key] for key in keys]

    def _current(self, tower: Any) -> Reading:
        """The tower's `reading()`, taken again when a weight was replaced, moved or written to."""
        values = list(tower.state_dict().values())
        version = tuple(
            each for value in values for each in (value.data_ptr(), 0 if value.is_inference() else value._version)
        )
        if self._reading is None or self._reading[0] != version:
            self._reading = version, tower.reading()
        device = values[0].device.type
        if torch.is_autocast_enabled(device):
            return replace(self._reading[1], dtype=str(torch.get_autocast_dtype(device)))
        return self._reading[1]


def _row(text: TextBatch, row: int, pieces: int, words: int) -> TextBatch:
    """One row of a batch of pieces, without padding."""
    at = slice(row, row + 1)
    cut = {name: getattr(text, name)[at, :pieces] for name in ("input_ids", "attn_mask", "type_ids", "piece_word")}
    return TextBatch(text.words[at], text.word_mask[at, :words], first_piece=text.first_piece[at, :words], **cut)  # type: ignore[index]
