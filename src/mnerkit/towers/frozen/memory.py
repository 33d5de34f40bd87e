"""Frozen towers: fixed weights, their digest, and a cache of their outputs."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import PictureBatch, TextBatch, text_keys
from mnerkit.data.batches.run_inputs import RunInputs
from mnerkit.data.features.table import SETTLED_NS, MainMemory, Table
from mnerkit.data.features.table_files import readings_of
from mnerkit.towers.frozen.filling import Outputs, Shapes, fill
from mnerkit.towers.frozen.reading import Reading, weight_version
from mnerkit.towers.interface import TextStates, Tower

AnyTower = TypeVar("AnyTower", bound=Tower)

MEMORY_BYTES = 512 << 20


def freeze(tower: AnyTower) -> AnyTower:
    """Freeze a tower's weights: no gradients, and eval mode from now on (dropout off, BatchNorm statistics fixed).

    Returns:
        The same tower.

    """
    tower.frozen = True
    tower.requires_grad_(False)
    tower.eval()
    return tower


def weight_digest(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of a module's state dict, as hex.

    It depends neither on the device nor on the order in which weights were created.
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


class FeatureMemory:
    """A cache of a frozen tower's outputs: a table for each reading, on disk or in main memory.

    When an input of a batch is new, the tower computes all inputs of that view in the run's posts (`inputs`), in
    blocks of one length that depend on the posts alone: so a resumed run computes the same numbers. An input that is
    not among them (made by a method) is computed alone. When the disk takes no more and the memory limit is reached,
    the rest is computed batch by batch and not cached. Nothing is evicted: an epoch reads every post once, so an
    evicted row would always be missed later.

    Args:
        limit: maximum number of bytes in main memory.
        folder: folder of the tables of all towers on disk; None caches in memory only.
        about: description of the tower for people who look at that folder.
        kept: type of the cached values, `float32` or `half`.

    Attributes:
        inputs: the inputs in the posts that the run reads; None where nobody knows them.
        main: what may be and is used of main memory.

    """

    def __init__(
        self, limit: int = MEMORY_BYTES, folder: Path | None = None, about: str = "", kept: str = "float32"
    ) -> None:
        self.main, self.folder, self.about, self.kept = MainMemory(limit), folder, about, kept
        self.inputs: RunInputs | None = None
        self._tables: dict[Reading, Table] = {}
        self._reading: tuple[tuple[int, ...], Reading] | None = None
        self._shapes: dict[tuple[Reading, int, int], Shapes] = {}
        self._folder_changed: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    @property
    def off(self) -> bool:
        """Whether the cache is turned off."""
        return self.main.limit <= 0 and self.folder is None

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of a tower (another process, fine-tuning) starts with an empty memory and the same folder
        return (FeatureMemory, (self.main.limit, self.folder, self.about, self.kept))

    def text(
        self, tower: Any, text: TextBatch, compute: Callable[[TextBatch], TextStates], stages: int = 0
    ) -> TextStates:
        """The result of `compute` for a batch, without pieces, cached row by row.

        Args:
            tower: a frozen tower with `reading()`.
            text: the batch.
            compute: runs the tower.
            stages: number of `layers`, (B, W, d) each, to return and cache in addition.

        """
        if self.off or text.input_ids is None:
            return compute(text)
        keys, words = text.keys, [len(each) for each in text.words]
        if keys is None:  # made by a method
            keys, words = text_keys(text), text.word_mask.sum(1).tolist()
        device, width = text.input_ids.device, tower.width
        parts = ["words", *(f"stage{number}" for number in range(1, stages + 1))]

        def shapes(count: int) -> Shapes:
            return {**dict.fromkeys(parts, (max(1, count), width)), "pooled": (width,)}

        def parts_of(rows: Any) -> dict[str, Tensor]:
            states = compute(rows.to(device))
            return dict(zip([*parts, "pooled"], (states.words, *states.layers[:stages], states.pooled), strict=True))

        reading = self.reading(tower)
        if stages:
            reading = replace(reading, pooling=f"{reading.pooling}, {stages} stages")
        padded = shapes(text.word_mask.shape[1])
        found = self._recall(reading, text.view, keys, words, Outputs(shapes, parts_of), padded, text.row, device)
        if found is None:
            return compute(text)
        return TextStates(found["words"], found["pooled"], layers=tuple(found[part] for part in parts[1:]))

    def pictures(
        self,
        tower: Any,
        pictures: PictureBatch,
        kind: str,
        compute: Callable[[Tensor], Mapping[str, Tensor]],
        shapes: Shapes | None = None,
    ) -> Mapping[str, Tensor]:
        """The result of `compute` for pictures, (N, ...) each by name, cached; zeros for masked pictures.

        Args:
            tower: a frozen tower with `reading()` and `picture`.
            pictures: N pictures; cached ones are not decoded.
            kind: what is computed, as part of the reading: empty for pooled vectors with regions.
            compute: runs the tower on pixels.
            shapes: of a picture's tensors by name; None: as those of a picture of zeros.

        """
        if self.off:
            return compute(pictures.pixels())
        if pictures.sources is None:
            keys: list[str | None] = [input_digest(picture) for picture in pictures.pixels().cpu()]
        else:
            keys = [None if source is None else source.digest for source in pictures.sources]
        like, reading = next(tower.parameters()), replace(self.reading(tower), pooling=kind)
        known = self._blank_shapes(reading, tower.size_of(pictures), compute, like) if shapes is None else shapes
        outputs = Outputs(lambda _: known, lambda rows: compute(rows.pixels().to(like.device)))
        words = [0] * len(keys)

        def alone(row: int) -> PictureBatch:
            return PictureBatch(pictures.pixels(row))

        found = self._recall(reading, pictures.view, keys, words, outputs, known, alone, like.device)
        return compute(pictures.pixels()) if found is None else found

    def has(self, reading: Reading, key: str) -> bool:
        """Whether some output of the tower for a picture (given by its digest) is cached.

        Args:
            reading: the tower's; outputs of any kind count. A row on disk may still be damaged.
            key: digest of the picture.
        """
        if self.folder is not None:  # another process may have begun to cache another kind
            for pooling in self._kinds_on_disk(reading):
                self._table(replace(reading, pooling=pooling))
        return any(
            key in table for each, table in self._tables.items() if replace(each, pooling=reading.pooling) == reading
        )

    def _kinds_on_disk(self, reading: Reading) -> list[str]:
        """What is on disk of the outputs for pictures of a tower, as `pooling` says."""
        assert self.folder is not None
        try:
            changed = self.folder.stat().st_mtime_ns
        except OSError:
            return []
        if changed == self._folder_changed:
            return []
        self._folder_changed = changed if time.time_ns() - changed > SETTLED_NS else None
        found = [each | {"pooling": each.get("pooling")} for each in readings_of(self.folder)]
        return [
            str(each["pooling"]) for each in found if asdict(replace(reading, pooling=str(each["pooling"]))) == each
        ]

    def reading(self, tower: Any) -> Reading:
        """The tower's `reading()`, computed again when a weight was replaced, moved or written to."""
        version = weight_version(tower)
        if self._reading is None or self._reading[0] != version:
            self._reading = version, replace(tower.reading(), kept=self.kept)
        for device in ("cuda", "cpu"):
            if torch.is_autocast_enabled(device):
                return replace(self._reading[1], dtype=str(torch.get_autocast_dtype(device)).removeprefix("torch."))
        return self._reading[1]

    def _blank_shapes(
        self, reading: Reading, size: tuple[int, int], compute: Callable[[Tensor], Mapping[str, Tensor]], like: Tensor
    ) -> Shapes:
        """Shapes of a picture's cached tensors, from a picture of zeros."""
        key = (reading, *size)
        if key not in self._shapes:
            with torch.no_grad():
                blank = compute(torch.zeros(1, 3, *size, device=like.device))
            self._shapes[key] = {part: tuple(value.shape[1:]) for part, value in blank.items()}
        return self._shapes[key]

    def _recall(
        self,
        reading: Reading,
        view: str,
        keys: Sequence[str | None],
        words: Sequence[int],
        outputs: Outputs,
        padded: Shapes,
        alone: Callable[[int], Any],
        device: torch.device,
    ) -> dict[str, Tensor] | None:
        """The outputs for N inputs, part by part; new ones are computed and cached. None if there is no room for them.

        Args:
            reading: how the tower reads.
            view: the view of the batch that they come from; empty if a method made them.
            keys: digests of the inputs; None: zeros.
            words: how many each has.
            outputs: what the tower computes.
            padded: shapes of the parts in the batch.
            alone: the batch of one input of these.
            device: where the outputs go.
        """
        table, unit = self._table(reading), outputs.unit
        counts = [[0] * len(padded) if key is None else outputs.counts(n) for key, n in zip(keys, words, strict=True)]

        def find(row: int) -> Any:
            key = keys[row]
            return None if key is None else table.find(key, sum(counts[row]), unit)

        rows = [find(row) for row in range(len(keys))]
        missing = {key for key, row in zip(keys, rows, strict=True) if row is None} - {None}
        if missing and view and self.inputs is not None:
            for inputs in self.inputs.of(view):
                if not missing.isdisjoint(inputs.key_set):
                    fill(table, inputs, self.inputs, outputs, self.about)
        for row, key in enumerate(keys):
            if key is not None and key in missing:
                rows[row] = find(row)
                if rows[row] is None and table.room:
                    (vectors,) = outputs.rows(alone(row), words[row : row + 1], table.half)
                    table.put(key, vectors)
                    table.close()
                    rows[row] = find(row)
                if rows[row] is None:
                    return None
        widths = [math.prod(shape) // unit for shape in padded.values()]
        dtype = torch.float16 if table.half else torch.float32
        flat = torch.empty(len(keys) * sum(widths), unit, dtype=dtype, pin_memory=device.type == "cuda")
        table.gather(rows, np.array(counts, np.int64).T, widths, flat.numpy())
        parts = flat.to(device, non_blocking=True).float().split([len(keys) * width for width in widths])
        return {part: value.view(-1, *padded[part]) for part, value in zip(padded, parts, strict=True)}

    def _table(self, reading: Reading) -> Table:
        if reading not in self._tables:
            half = self.kept == "half"
            self._tables[reading] = Table(self.folder, asdict(reading), self.about, half, self.main)
        return self._tables[reading]
