"""Frozen towers: fixed weights, their digest, and a cache of their outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import PictureBatch, TextBatch
from mnerkit.data.features.feature_store import FeatureStore
from mnerkit.towers.interface import ImageStates, TextStates, Tower, VisionTower

AnyTower = TypeVar("AnyTower", bound=Tower)

MEMORY_BYTES = 512 << 20

_Shapes = dict[str, tuple[int, ...]]  # shapes of the cached tensors of an input, by name


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


@dataclass(frozen=True)
class Reading:
    """Settings of a frozen tower that, together with the input, determine its output.

    Attributes:
        weights: digest of the tower's weights.
        view: `text` or `picture`. Whether a picture is a cell of another one is part of the input's digest.
        preprocessing: settings of the reader or the picture format, as text.
        length_limit: maximum number of pieces of a text; 0 for pictures.
        layers: number of last layers that are averaged.
        pooling: how pieces become words (`first`, `mean`); `pooled` if only a picture's pooled vector is cached.
        projection: whether states are in the joint space.
        dtype: type of the tower's computations; cached values are float32.

    """

    weights: str
    view: str
    preprocessing: str
    length_limit: int = 0
    layers: int = 1
    pooling: str = ""
    projection: bool = False
    dtype: str = "float32"


class FeatureMemory:
    """A cache of a frozen tower's outputs: in main memory and, if a folder is given, on disk.

    A new input is computed alone, so that cached values do not depend on batch mates and a resumed run computes the
    same numbers. When the memory limit is reached and the disk takes no more, new inputs are computed together and not
    cached. Nothing is evicted: an epoch reads every post once, so an evicted entry would always be missed later.

    Args:
        limit: maximum number of bytes in main memory.
        folder: folder of the features of all towers on disk (`FeatureStore`); None caches in memory only.
        about: description of the tower for people who look at that folder.

    """

    def __init__(self, limit: int = MEMORY_BYTES, folder: Path | None = None, about: str = "") -> None:
        self.limit, self.folder, self.about, self.used = limit, folder, about, 0
        self._shelves: dict[Reading, _Shelf] = {}
        self._reading: tuple[tuple[int, ...], Reading] | None = None

    def __len__(self) -> int:
        return sum(len(shelf.cached) for shelf in self._shelves.values())

    @property
    def off(self) -> bool:
        """Whether the cache is turned off."""
        return self.limit <= 0 and self.folder is None

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of a tower (another process, fine-tuning) starts with an empty memory and the same folder
        return (FeatureMemory, (self.limit, self.folder, self.about))

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
        ids, mask, owner = text.input_ids, text.attn_mask, text.piece_word
        if self.off or ids is None or mask is None or owner is None:
            return compute(text)
        lengths, counts = mask.sum(1).tolist(), text.word_mask.sum(1).tolist()
        inputs = torch.stack([ids, owner], -1).cpu()  # (B, n, 2)
        # the number of words is part of the input, since posts may differ only in words that were cut off
        sizes = inputs.new_tensor([[count, -1] for count in counts]).unsqueeze(1)  # (B, 1, 2)
        keys = [input_digest(torch.cat((inputs[row, :length], sizes[row]))) for row, length in enumerate(lengths)]
        parts = ["words", *(f"stage{number}" for number in range(1, stages + 1))]
        shapes: list[_Shapes] = [
            {**dict.fromkeys(parts, (max(1, count), tower.width)), "pooled": (tower.width,)} for count in counts
        ]

        def alone(row: int) -> dict[str, Tensor]:
            states = compute(_row(text, row, lengths[row], max(1, counts[row])))
            named = zip(parts, (states.words, *states.layers[:stages]), strict=True)
            return {**{part: value[0] for part, value in named}, "pooled": states.pooled[0]}

        reading = self.reading(tower)
        if stages:
            reading = replace(reading, pooling=f"{reading.pooling}, {stages} stages")
        rows = self._recall(reading, keys, shapes, alone)
        if rows is None:
            return compute(text)
        like = next(tower.parameters())
        words, *layers = (like.new_zeros(*text.word_mask.shape, tower.width) for _ in parts)
        for number, row in enumerate(rows):
            for part, batch in zip(parts, (words, *layers), strict=True):
                batch[number, : len(row[part])] = row[part].to(like.device)
        return TextStates(words, torch.stack([row["pooled"] for row in rows]).to(like.device), layers=tuple(layers))

    def images(self, tower: Any, pictures: PictureBatch, compute: Callable[[Tensor], ImageStates]) -> ImageStates:
        """The result of `compute` for pictures, without tokens and stages, cached; zeros for masked pictures.

        Args:
            tower: a frozen tower with `reading()`, `grid_of` and `picture`.
            pictures: N pictures; cached ones are not decoded.
            compute: runs the tower on pixels.

        """
        if self.off:
            return compute(pictures.pixels())
        side, decoded = tower.picture.size, pictures.decoded
        grid: tuple[int, int] = tower.grid_of(*((side, side) if decoded is None else decoded.shape[-2:]))
        shapes: _Shapes = {"pooled": (tower.pooled_width,), "regions": (grid[0] * grid[1], tower.width)}

        def parts(pixels: Tensor) -> dict[str, Tensor]:
            states = compute(pixels)
            return {"pooled": states.pooled, "regions": states.regions}

        features = self._pictures(tower, pictures, self.reading(tower), shapes, parts)
        if features is None:
            return compute(pictures.pixels())
        return ImageStates(features["pooled"], features["regions"], grid)

    def pooled(self, tower: Any, pictures: PictureBatch, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Like `images`, but only for pooled vectors (N, d), which need a hundredth of the space."""
        if self.off:
            return compute(pictures.pixels())
        shapes: _Shapes = {"pooled": (tower.pooled_width,)}
        reading = pooled_only(self.reading(tower))
        features = self._pictures(tower, pictures, reading, shapes, lambda pixels: {"pooled": compute(pixels)})
        return compute(pictures.pixels()) if features is None else features["pooled"]

    def has(self, reading: Reading, key: str) -> bool:
        """Whether the output for an input (given by its digest) is cached; an entry on disk may still be damaged."""
        shelf = self._shelf(reading)
        return key in shelf.cached or (shelf.store is not None and key in shelf.store)

    def flush(self) -> None:
        """Write new features to disk, for other processes and for the next run."""
        for shelf in self._shelves.values():
            if shelf.store is not None:
                shelf.store.flush()

    def reading(self, tower: Any) -> Reading:
        """The tower's `reading()`, computed again when a weight was replaced, moved or written to."""
        # building a state dict would take as long as running a small batch
        values = chain(tower.parameters(), tower.buffers())
        version = tuple(
            part for value in values for part in (value.data_ptr(), 0 if value.is_inference() else value._version)
        )
        if self._reading is None or self._reading[0] != version:
            self._reading = version, tower.reading()
        for device in ("cuda", "cpu"):
            if torch.is_autocast_enabled(device):
                return replace(self._reading[1], dtype=str(torch.get_autocast_dtype(device)).removeprefix("torch."))
        return self._reading[1]

    def _pictures(
        self,
        tower: Any,
        pictures: PictureBatch,
        reading: Reading,
        shapes: _Shapes,
        compute: Callable[[Tensor], dict[str, Tensor]],
    ) -> dict[str, Tensor] | None:
        """The features of N pictures named in `shapes`, (N, ...) each; None if the cache is full."""
        if pictures.sources is None:
            keys: list[str | None] = [input_digest(picture) for picture in pictures.pixels().cpu()]
        else:
            keys = [None if source is None else source.digest for source in pictures.sources]

        def alone(row: int) -> dict[str, Tensor]:
            return {part: value[0] for part, value in compute(pictures.pixels(row)).items()}

        real = [row for row, key in enumerate(keys) if key is not None]
        rows = self._recall(
            reading, [key for key in keys if key is not None], [shapes] * len(real), lambda at: alone(real[at])
        )
        if rows is None:
            return None
        device, features = next(tower.parameters()).device, {}
        for part, shape in shapes.items():
            features[part] = torch.zeros(len(keys), *shape)
            for row, parts in zip(real, rows, strict=True):
                features[part][row] = parts[part]
        return {part: tensor.to(device) for part, tensor in features.items()}

    def _recall(
        self,
        reading: Reading,
        keys: list[str],
        shapes: Sequence[_Shapes],
        alone: Callable[[int], dict[str, Tensor]],
    ) -> list[dict[str, Tensor]] | None:
        """The tensors of each key; new ones are computed and cached. None if the cache has no room for a new one."""
        shelf, rows = self._shelf(reading), []
        for row, key in enumerate(keys):
            tensors = shelf.cached.get(key)
            if tensors is None and shelf.store is not None:
                arrays = shelf.store.get(key, shapes[row])
                tensors = None if arrays is None else {part: torch.from_numpy(each) for part, each in arrays.items()}
            if tensors is None:
                on_disk = shelf.store is not None and shelf.store.usable
                if self.used >= self.limit and not on_disk:
                    return None
                tensors = {part: tensor.detach().float().cpu().clone() for part, tensor in alone(row).items()}
                if self.used < self.limit:
                    shelf.cached[key] = tensors
                    self.used += sum(tensor.nbytes for tensor in tensors.values())
                if on_disk and shelf.store is not None:
                    shelf.store.put(key, {part: tensor.numpy() for part, tensor in tensors.items()})
            rows.append(tensors)
        return rows

    def _shelf(self, reading: Reading) -> _Shelf:
        if reading not in self._shelves:
            store = None if self.folder is None else FeatureStore(self.folder, asdict(reading), self.about)
            self._shelves[reading] = _Shelf({}, store)
        return self._shelves[reading]


@dataclass
class _Shelf:
    """The cached outputs of one reading, by the digest of the input."""

    cached: dict[str, dict[str, Tensor]]
    store: FeatureStore | None


def pooled_only(reading: Reading) -> Reading:
    """The same reading for the cache of pooled vectors."""
    return replace(reading, pooling="pooled")


def keep_on_disk(towers: Iterable[Tower], folder: Path | None) -> None:
    """Let frozen towers cache their outputs in the features' folder of a cache; None: in memory only.

    Only pretrained towers use the disk. Tiny and random ones have new weights in each run, so their features would
    never be read again.
    """
    for tower in towers:
        target = folder if tower.external else None
        if tower.memory is not None and tower.memory.folder != target:
            tower.memory = FeatureMemory(tower.memory.limit, target, f"{type(tower).__name__} {tower.spec}")


class KnownPictures:
    """Digests of the pictures that all vision towers of a method have cached, so the collator does not decode them.

    If a tower has cached another output than is needed (the pooled vector, but not the regions), the picture is decoded
    later, when the tower runs.

    Args:
        towers: frozen vision towers with a `memory`; create the object under the precision of the method.

    """

    def __init__(self, towers: Sequence[Any]) -> None:
        readings = [tower.memory.reading(tower) for tower in towers]
        self._caches = [(tower.memory, (each, pooled_only(each))) for tower, each in zip(towers, readings, strict=True)]

    @classmethod
    def of(cls, towers: Iterable[Tower]) -> KnownPictures | None:
        """The pictures that the vision towers among `towers` have cached; None if there is none or one has no cache."""
        visions = [tower for tower in towers if isinstance(tower, VisionTower)]
        if not visions or not all(tower.frozen and tower.memory is not None for tower in visions):
            return None
        return cls(visions)

    def __contains__(self, digest: object) -> bool:
        return all(any(memory.has(reading, str(digest)) for reading in readings) for memory, readings in self._caches)


def _row(text: TextBatch, row: int, pieces: int, words: int) -> TextBatch:
    """One row of a batch of pieces, without padding."""
    at = slice(row, row + 1)
    cut = {name: getattr(text, name)[at, :pieces] for name in ("input_ids", "attn_mask", "type_ids", "piece_word")}
    return TextBatch(text.words[at], text.word_mask[at, :words], first_piece=text.first_piece[at, :words], **cut)  # type: ignore[index]
