"""Frozen towers: fixed weights, their digest, and outputs that are computed once."""

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

_Shapes = dict[str, tuple[int, ...]]  # of the parts of what is kept of an input


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
        view: what is read: `text` or `picture`. That a picture is a cell of another one is part of its digest.
        preprocessing: the reader's or the picture format's settings, as text.
        length_limit: most pieces of a text; 0 for pictures.
        layers: how many last layers are averaged.
        pooling: how pieces become words (`first`, `mean`); `pooled` where only a picture's pooled vector is kept.
        projection: whether states lie in the joint space.
        dtype: type of the numbers that it computes with; what is kept is float32.

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
    """What a frozen tower returned, so that no input is computed twice: in memory, and on disk where there is a folder.

    An input that is met for the first time is computed alone: what is kept does not depend on its batch mates, and a
    resumed run computes the same numbers. Once the limit is reached, and where the disk takes nothing, nothing more is
    kept, and new inputs are computed together: an epoch meets every post once, so giving up the oldest would lose each
    before it comes again.

    Args:
        limit: most bytes that are kept in main memory.
        folder: where the features of all towers are kept on disk (`FeatureStore`); None keeps them in memory alone.
        about: the tower, in words for people who look at that folder.

    """

    def __init__(self, limit: int = MEMORY_BYTES, folder: Path | None = None, about: str = "") -> None:
        self.limit, self.folder, self.about, self.used = limit, folder, about, 0
        self._shelves: dict[Reading, _Shelf] = {}
        self._reading: tuple[tuple[int, ...], Reading] | None = None

    def __len__(self) -> int:
        return sum(len(shelf.kept) for shelf in self._shelves.values())

    @property
    def off(self) -> bool:
        """Whether nothing is ever kept."""
        return self.limit <= 0 and self.folder is None

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of a tower (another process, fine-tuning) starts with nothing but the disk
        return (FeatureMemory, (self.limit, self.folder, self.about))

    def text(
        self, tower: Any, text: TextBatch, compute: Callable[[TextBatch], TextStates], stages: int = 0
    ) -> TextStates:
        """What `compute` returns for a batch, without pieces.

        Args:
            tower: a frozen tower with `reading()`.
            text: the batch.
            compute: runs the tower.
            stages: how many `layers`, (B, W, d) each, it returns and are kept besides.

        """
        ids, mask, owner = text.input_ids, text.attn_mask, text.piece_word
        if self.off or ids is None or mask is None or owner is None:
            return compute(text)
        used, counts = mask.sum(1).tolist(), text.word_mask.sum(1).tolist()
        inputs = torch.stack([ids, owner], -1).cpu()  # (B, n, 2)
        # the number of words is part of the input: posts that differ only in words that were cut off are not the same
        sizes = inputs.new_tensor([[count, -1] for count in counts]).unsqueeze(1)  # (B, 1, 2)
        keys = [input_digest(torch.cat((inputs[row, :length], sizes[row]))) for row, length in enumerate(used)]
        parts = ["words", *(f"stage{number}" for number in range(1, stages + 1))]
        shapes: list[_Shapes] = [
            {**dict.fromkeys(parts, (max(1, count), tower.width)), "pooled": (tower.width,)} for count in counts
        ]

        def alone(row: int) -> dict[str, Tensor]:
            states = compute(_row(text, row, used[row], max(1, counts[row])))
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
        for row, found in enumerate(rows):
            for part, whole in zip(parts, (words, *layers), strict=True):
                whole[row, : len(found[part])] = found[part].to(like.device)
        return TextStates(words, torch.stack([found["pooled"] for found in rows]).to(like.device), layers=tuple(layers))

    def images(self, tower: Any, pictures: PictureBatch, compute: Callable[[Tensor], ImageStates]) -> ImageStates:
        """What `compute` returns for pictures, without tokens and stages; zeros for places that are masked.

        Args:
            tower: a frozen tower with `reading()`, `grid_of` and `picture`.
            pictures: N of them; those that are known are not decoded.
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

        found = self._pictures(tower, pictures, self.reading(tower), shapes, parts)
        if found is None:
            return compute(pictures.pixels())
        return ImageStates(found["pooled"], found["regions"], grid)

    def pooled(self, tower: Any, pictures: PictureBatch, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The pooled vectors (N, d) that `compute` returns, a hundredth of what `images` keeps; else as there."""
        if self.off:
            return compute(pictures.pixels())
        shapes: _Shapes = {"pooled": (tower.pooled_width,)}
        reading = pooled_only(self.reading(tower))
        found = self._pictures(tower, pictures, reading, shapes, lambda pixels: {"pooled": compute(pixels)})
        return compute(pictures.pixels()) if found is None else found["pooled"]

    def knows(self, reading: Reading, key: str) -> bool:
        """Whether what the tower returned for an input (its digest) is kept; on disk it may yet prove damaged."""
        shelf = self._shelf(reading)
        return key in shelf.kept or (shelf.store is not None and key in shelf.store)

    def flush(self) -> None:
        """Write what is not on disk yet, for other processes and for the next run."""
        for shelf in self._shelves.values():
            if shelf.store is not None:
                shelf.store.flush()

    def reading(self, tower: Any) -> Reading:
        """The tower's `reading()`, taken again when a weight was replaced, moved or written to."""
        # a state dict would take as long to make as a small batch to read
        values = chain(tower.parameters(), tower.buffers())
        version = tuple(
            each for value in values for each in (value.data_ptr(), 0 if value.is_inference() else value._version)
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
        """The parts of N pictures' states that `shapes` names, (N, ...) each; None where there is no room to keep."""
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
        device, found = next(tower.parameters()).device, {}
        for part, shape in shapes.items():
            found[part] = torch.zeros(len(keys), *shape)
            for row, parts in zip(real, rows, strict=True):
                found[part][row] = parts[part]
        return {part: tensor.to(device) for part, tensor in found.items()}

    def _recall(
        self,
        reading: Reading,
        keys: list[str],
        shapes: Sequence[_Shapes],
        alone: Callable[[int], dict[str, Tensor]],
    ) -> list[dict[str, Tensor]] | None:
        """The tensors of each key, computed and kept where they are new; None where there is no room for new ones."""
        shelf, found = self._shelf(reading), []
        for row, key in enumerate(keys):
            tensors = shelf.kept.get(key)
            if tensors is None and shelf.store is not None:
                arrays = shelf.store.get(key, shapes[row])
                tensors = None if arrays is None else {part: torch.from_numpy(each) for part, each in arrays.items()}
            if tensors is None:
                taken = shelf.store is not None and shelf.store.usable
                if self.used >= self.limit and not taken:
                    return None
                tensors = {part: tensor.detach().float().cpu().clone() for part, tensor in alone(row).items()}
                if self.used < self.limit:
                    shelf.kept[key] = tensors
                    self.used += sum(tensor.nbytes for tensor in tensors.values())
                if taken and shelf.store is not None:
                    shelf.store.put(key, {part: tensor.numpy() for part, tensor in tensors.items()})
            found.append(tensors)
        return found

    def _shelf(self, reading: Reading) -> _Shelf:
        if reading not in self._shelves:
            store = None if self.folder is None else FeatureStore(self.folder, asdict(reading), self.about)
            self._shelves[reading] = _Shelf({}, store)
        return self._shelves[reading]


@dataclass
class _Shelf:
    """What is kept of one reading, by the digest of the input."""

    kept: dict[str, dict[str, Tensor]]
    store: FeatureStore | None


def pooled_only(reading: Reading) -> Reading:
    """The reading of which nothing but pooled vectors is kept."""
    return replace(reading, pooling="pooled")


def keep_on_disk(towers: Iterable[Tower], folder: Path | None) -> None:
    """Let frozen towers keep their outputs in the features' folder of a cache; None: in memory alone.

    Only those whose weights came from a hub or folder. Tiny and random ones have other weights in each run, so nothing
    would be found again.
    """
    for tower in towers:
        place = folder if tower.external else None
        if tower.memory is not None and tower.memory.folder != place:
            tower.memory = FeatureMemory(tower.memory.limit, place, f"{type(tower).__name__} {tower.spec}")


class KnownPictures:
    """Digests of the pictures that all vision towers of a method know, so that the collator need not decode them.

    A picture that one of them does know in another way than it will be asked (its pooled vector, but not its regions)
    is decoded later, by the process that asks.

    Args:
        towers: frozen vision towers with a `memory`; asked under the precision that the method will run in.

    """

    def __init__(self, towers: Sequence[Any]) -> None:
        readings = [tower.memory.reading(tower) for tower in towers]
        self._known = [(tower.memory, (each, pooled_only(each))) for tower, each in zip(towers, readings, strict=True)]

    @classmethod
    def of(cls, towers: Iterable[Tower]) -> KnownPictures | None:
        """What the vision towers among `towers` know; None where one of them remembers nothing, or there is none."""
        visions = [tower for tower in towers if isinstance(tower, VisionTower)]
        if not visions or not all(tower.frozen and tower.memory is not None for tower in visions):
            return None
        return cls(visions)

    def __contains__(self, digest: object) -> bool:
        return all(any(memory.knows(reading, str(digest)) for reading in readings) for memory, readings in self._known)


def _row(text: TextBatch, row: int, pieces: int, words: int) -> TextBatch:
    """One row of a batch of pieces, without padding."""
    at = slice(row, row + 1)
    cut = {name: getattr(text, name)[at, :pieces] for name in ("input_ids", "attn_mask", "type_ids", "piece_word")}
    return TextBatch(text.words[at], text.word_mask[at, :words], first_piece=text.first_piece[at, :words], **cut)  # type: ignore[index]
