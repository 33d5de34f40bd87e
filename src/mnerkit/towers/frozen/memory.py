"""Frozen towers: fixed weights, their digest, and a cache of their outputs."""

from __future__ import annotations

import hashlib
import json
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
from mnerkit.data.features.feature_store import SETTLED_NS, FeatureStore, readings_of
from mnerkit.towers.frozen.filling import Entry, Shapes, Shelf, fill
from mnerkit.towers.frozen.reading import Reading, weight_version
from mnerkit.towers.interface import TextStates, Tower

AnyTower = TypeVar("AnyTower", bound=Tower)

MEMORY_BYTES = 512 << 20
LARGEST_HALF = float(np.finfo(np.float16).max)


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
    """A cache of a frozen tower's outputs: in main memory and, if a folder is given, on disk.

    When an input of a batch is new, the tower computes all inputs of that view in the run's posts (`inputs`), in
    blocks of one length that depend on the posts alone: so a resumed run computes the same numbers. An input that is
    not among them (made by a method) is computed alone. When the memory limit is reached and the disk takes no more,
    the rest is computed batch by batch and not cached. Nothing is evicted: an epoch reads every post once, so an
    evicted entry would always be missed later.

    Args:
        limit: maximum number of bytes in main memory.
        folder: folder of the features of all towers on disk (`FeatureStore`); None caches in memory only.
        about: description of the tower for people who look at that folder.
        kept: type of the cached values, `float32` or `half`.

    Attributes:
        inputs: the inputs in the posts that the run reads; None where nobody knows them.

    """

    def __init__(
        self, limit: int = MEMORY_BYTES, folder: Path | None = None, about: str = "", kept: str = "float32"
    ) -> None:
        self.limit, self.folder, self.about, self.kept, self.used = limit, folder, about, kept, 0
        self.inputs: RunInputs | None = None
        self._shelves: dict[Reading, Shelf] = {}
        self._reading: tuple[tuple[int, ...], Reading] | None = None
        self._shapes: dict[tuple[Reading, int, int], Shapes] = {}
        self._folder_changed: int | None = None

    def __len__(self) -> int:
        return sum(len(shelf.cached) for shelf in self._shelves.values())

    @property
    def off(self) -> bool:
        """Whether the cache is turned off."""
        return self.limit <= 0 and self.folder is None

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of a tower (another process, fine-tuning) starts with an empty memory and the same folder
        return (FeatureMemory, (self.limit, self.folder, self.about, self.kept))

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
        keys, counts = text.keys, [len(words) for words in text.words]
        if keys is None:  # made by a method
            keys, counts = text_keys(text), text.word_mask.sum(1).tolist()
        device, view = text.input_ids.device, text.view
        parts = ["words", *(f"stage{number}" for number in range(1, stages + 1))]
        shapes: list[Shapes] = [
            {**dict.fromkeys(parts, (max(1, count), tower.width)), "pooled": (tower.width,)} for count in counts
        ]

        def run(rows: Any) -> list[Entry]:
            states = compute(rows.to(device))
            values = [_array(value) for value in (states.words, *states.layers[:stages])]
            pooled = _array(states.pooled)
            widths = [max(1, count) for count in rows.word_mask.sum(1).tolist()]
            return [
                {**{part: value[row, :width] for part, value in zip(parts, values, strict=True)}, "pooled": pooled[row]}
                for row, width in enumerate(widths)
            ]

        reading = self.reading(tower)
        if stages:
            reading = replace(reading, pooling=f"{reading.pooling}, {stages} stages")
        rows = self._recall(reading, view, keys, shapes, run, text.row)
        if rows is None:
            return compute(text)
        words = torch.zeros(len(parts), *text.word_mask.shape, tower.width)
        for part, batch in zip(parts, words.numpy(), strict=True):
            for number, row in enumerate(rows):
                batch[number, : len(row[part])] = row[part]
        pooled = torch.from_numpy(np.stack([row["pooled"] for row in rows])).float()
        states, *layers = words.to(device, non_blocking=True)
        return TextStates(states, pooled.to(device, non_blocking=True), layers=tuple(layers))

    def pictures(
        self,
        tower: Any,
        pictures: PictureBatch,
        kind: str,
        compute: Callable[[Tensor], Mapping[str, Tensor]],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> dict[str, Tensor]:
        """The result of `compute` for pictures, (N, ...) each by name, cached; zeros for masked pictures.

        Args:
            tower: a frozen tower with `reading()` and `picture`.
            pictures: N pictures; cached ones are not decoded.
            kind: what is computed, as part of the reading: empty for pooled vectors with regions.
            compute: runs the tower on pixels.
            shapes: of a picture's tensors by name; None: as those of a picture of zeros.

        """
        if self.off:
            return {**compute(pictures.pixels())}
        if pictures.sources is None:
            keys: list[str | None] = [input_digest(picture) for picture in pictures.pixels().cpu()]
        else:
            keys = [None if source is None else source.digest for source in pictures.sources]
        real = [row for row, key in enumerate(keys) if key is not None]
        like, reading = next(tower.parameters()), replace(self.reading(tower), pooling=kind)
        expected = self._blank_shapes(reading, tower.size_of(pictures), compute, like) if shapes is None else {**shapes}

        def run(rows: Any) -> list[Entry]:
            values = {part: _array(value) for part, value in compute(rows.pixels().to(like.device)).items()}
            return [{part: value[row] for part, value in values.items()} for row in range(len(rows))]

        def alone(row: int) -> PictureBatch:
            return PictureBatch(pictures.pixels(real[row]))

        found = [key for key in keys if key is not None]
        rows = self._recall(reading, pictures.view, found, [expected] * len(real), run, alone)
        if rows is None:
            return {**compute(pictures.pixels())}
        features = {}
        for part, shape in expected.items():
            values = torch.zeros(len(keys), *shape)
            array = values.numpy()
            for row, entry in zip(real, rows, strict=True):
                array[row] = entry[part]
            features[part] = values.to(like.device, non_blocking=True)
        return features

    def has(self, reading: Reading, key: str) -> bool:
        """Whether some output of the tower for a picture (given by its digest) is cached.

        Args:
            reading: the tower's; outputs of any kind count. An entry on disk may still be damaged.
            key: digest of the picture.
        """
        if self.folder is not None:  # another process may have begun to cache another kind
            for pooling in self._kinds_on_disk(reading):
                self._shelf(replace(reading, pooling=pooling))
        return any(
            replace(each, pooling=reading.pooling) == reading and key in shelf for each, shelf in self._shelves.items()
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

    def flush(self) -> None:
        """Write new features to disk, for other processes and for the next run."""
        for shelf in self._shelves.values():
            if shelf.store is not None:
                shelf.store.flush()

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
        keys: Sequence[str],
        shapes: Sequence[Shapes],
        run: Callable[[Any], list[Entry]],
        alone: Callable[[int], Any],
    ) -> list[Entry] | None:
        """The arrays of each key; new ones are computed and cached. None if the cache has no room for a new one.

        Args:
            reading: how the tower reads.
            view: the view of the batch that they come from; empty if a method made them.
            keys: digests of the inputs.
            shapes: of the arrays of each.
            run: computes a batch of inputs.
            alone: the batch of one input of these.
        """
        shelf = self._shelf(reading)
        rows = [shelf.get(key, shape) for key, shape in zip(keys, shapes, strict=True)]
        missing = {key for key, entry in zip(keys, rows, strict=True) if entry is None}
        if missing and view and self.inputs is not None:
            for inputs in self.inputs.of(view):
                if not missing.isdisjoint(inputs.key_set):
                    fill(self, shelf, inputs, self.inputs, run)
        for row, key in enumerate(keys):
            if rows[row] is None:
                rows[row] = shelf.get(key, shapes[row])
            if rows[row] is None:
                if not self.room(shelf):
                    return None
                with torch.no_grad():
                    self.put(shelf, key, run(alone(row))[0])
                rows[row] = shelf.get(key, shapes[row])
        return rows  # type: ignore[return-value]

    def room(self, shelf: Shelf) -> bool:
        """Whether a new output is kept, in main memory or on disk."""
        return self.used < self.limit or (shelf.store is not None and shelf.store.usable)

    def put(self, shelf: Shelf, key: str, entry: Entry) -> None:
        """Keep a new output where there is room."""
        if self.kept == "half":
            entry = {part: array.clip(-LARGEST_HALF, LARGEST_HALF).astype(np.float16) for part, array in entry.items()}
        if self.used < self.limit:
            shelf.cached[key] = entry
            self.used += sum(array.nbytes for array in entry.values())
        if shelf.store is not None and shelf.store.usable:
            shelf.store.put(key, entry)

    def _shelf(self, reading: Reading) -> Shelf:
        if reading not in self._shelves:
            store = None if self.folder is None else FeatureStore(self.folder, asdict(reading), self.about)
            self._shelves[reading] = Shelf({}, store)
        return self._shelves[reading]


def _array(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().numpy()
