"""One file of the feature cache: a safetensors file in which every entry carries its SHA-256.

An entry is what a tower returned for one input: a few named arrays of float32, or of half precision. Tensor
`<key>.<part>` is one of them, and the file's metadata hold the digest of each key's entry. Headers are parsed here and
not by the library, so that entries are counted without numpy, ranges are checked before anything is touched, and arrays
are views of the mapped file (format: https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import stat
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mnerkit.atomic_files import draft

if TYPE_CHECKING:
    import numpy as np

# a shard of `feature_store.SHARD_ENTRIES` entries needs a third of it
MAX_HEADER = 32 << 20
MAX_AXES = 4

_SHARD = re.compile(r"shard-[0-9a-f]{32}\.safetensors")
_KEY = re.compile(r"[0-9a-f]{64}")

Arrays = Mapping[str, "np.ndarray"]


class DamagedShard(Exception):
    """A shard whose content is not what a writer put there; the text says why."""


def is_shard(name: str) -> bool:
    """Whether a file is called as shards are."""
    return _SHARD.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class _Range:
    """Where an array lies in its file, and what numbers it holds."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Shard:
    """A shard that is mapped into memory; nothing of it is trusted.

    Args:
        path: the file.

    Raises:
        DamagedShard: it is no safetensors file, is cut off, too large in its header, or holds other numbers.
        OSError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as stream:
            self.bytes = os.fstat(stream.fileno()).st_size
            self._places, self._digests = _read_header(stream, self.bytes)
            # pages are the process's own copies once written to: nothing that is done to a view reaches the file
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)

    @property
    def keys(self) -> list[str]:
        """The inputs that it holds entries of."""
        return list(self._places)

    def shapes(self, key: str) -> dict[str, tuple[int, ...]]:
        """Shape of each array of an entry."""
        return {part: place.shape for part, place in self._places[key].items()}

    def read(self, key: str) -> dict[str, np.ndarray]:
        """The arrays of an entry, views of the file; not verified."""
        import numpy as np

        return {
            part: np.frombuffer(self._map, place.dtype, math.prod(place.shape), place.start).reshape(place.shape)
            for part, place in self._places[key].items()
        }

    def verify(self, key: str) -> None:
        """Compare an entry with its digest.

        Raises:
            DamagedShard: they differ.
        """
        if entry_digest(key, self.read(key)) != self._digests[key]:
            raise DamagedShard("an entry differs from its digest")


def count(path: Path) -> int:
    """How many entries a shard holds; 0 for a damaged one."""
    try:
        with _opened(path) as stream:
            return len(_read_header(stream, os.fstat(stream.fileno()).st_size)[0])
    except (OSError, DamagedShard):
        return 0


def entry_digest(key: str, arrays: Arrays) -> str:
    """SHA-256 over an entry's key, and the names, shapes and bytes of its arrays."""
    import numpy as np

    digest = hashlib.sha256(key.encode())
    for part, array in sorted(arrays.items()):
        digest.update(f"\n{part} {tuple(array.shape)}\n".encode())
        digest.update(np.asarray(array, _dtype(array), order="C").data)
    return digest.hexdigest()


def write_shard(folder: Path, entries: Mapping[str, Arrays]) -> Path:
    """Write entries as a new shard, whole or not at all; any number of processes may do so at once.

    Returns:
        Its path.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    import numpy as np
    from safetensors.numpy import save

    path = folder / f"shard-{uuid.uuid4().hex}.safetensors"
    tensors = {
        f"{key}.{part}": np.asarray(array, _dtype(array), order="C")
        for key, arrays in entries.items()
        for part, array in arrays.items()
    }
    content = save(tensors, {key: entry_digest(key, arrays) for key, arrays in entries.items()})
    with draft(path) as stream:
        stream.write(content)
    return path


def _dtype(array: np.ndarray) -> str:
    return "<f2" if array.dtype == "float16" else "<f4"


def _opened(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise DamagedShard("it is no file")
    return path.open("rb")


def _read_header(stream: BinaryIO, size: int) -> tuple[dict[str, dict[str, _Range]], dict[str, str]]:
    """Ranges of all arrays by key and part, and the digest of each key's entry.

    Raises:
        DamagedShard: see `Shard`.
    """
    first = stream.read(8)
    if len(first) < 8:
        raise DamagedShard("the file is cut off")
    (length,) = struct.unpack("<Q", first)
    if length > MAX_HEADER or 8 + length > size:
        raise DamagedShard("its header is too long")
    try:
        header = json.loads(stream.read(length))
        digests = header.pop("__metadata__", {})
        if not isinstance(digests, dict) or not all(isinstance(each, str) for each in digests.values()):
            raise DamagedShard("its digests can't be read")
        places: dict[str, dict[str, _Range]] = {}
        for name, said in header.items():
            key, _, part = name.partition(".")
            if not _KEY.fullmatch(key) or not part:
                raise DamagedShard("it is no shard of the feature cache")
            places.setdefault(key, {})[part] = _range(said, 8 + length, size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedShard("its header can't be read") from None
    if set(digests) != set(places):
        raise DamagedShard("digests and entries do not belong together")
    return places, digests


def _range(said: Any, begin: int, size: int) -> _Range:
    shape, (start, end) = tuple(said["shape"]), said["data_offsets"]
    numbers = (*shape, start, end)
    width = {"F32": 4, "F16": 2}.get(said["dtype"])
    if width is None or len(shape) > MAX_AXES or not all(type(each) is int and each >= 0 for each in numbers):
        raise DamagedShard("it holds other numbers than float32 and half")
    start, end = begin + start, begin + end
    if end - start != width * math.prod(shape) or end > size:
        raise DamagedShard("the file is cut off")
    return _Range(f"<f{width}", shape, start, end)
