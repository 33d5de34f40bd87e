"""Resized pictures on disk, so that later epochs and runs decode none. Nothing here imports torch.

`<cache>/pictures/<digest of a reading>/` holds pairs of files, one pair a process that wrote: `<name>.pixels`, rows of
size * size * 3 bytes, and `<name>.keys`, an entry a row: the digest of what is seen (32 bytes) and a checksum.
`pictures.json` says in plain words how the pictures were read. A process writes to files of its own and reads those of
all others, as far as their entries go: nothing is locked for reading, and a kill leaves rows that are whole or have no
entry. Whatever is wrong with the disk costs time and never a run: a damaged picture is decoded again and written once
more, and where nothing can be written, or the limit is reached, pictures are decoded each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mnerkit.atomic_files import existing_above, write_json

if TYPE_CHECKING:
    import numpy as np

    from mnerkit.data.pictures.decoding import PictureFormat

PICTURES = "pictures"
DESCRIPTION = "pictures.json"
# part of a reading: raise it when pictures are decoded, cut or resized in another way
VERSION = 1
RESERVE = 5 << 30  # bytes that stay free on the disk

_PAIR = re.compile(r"[0-9a-f]{32}\.(pixels|keys)")
_ENTRY = 36  # bytes: a digest and a checksum
_MOST_ROWS = 1 << 22  # of a folder
_MOST_OPEN = 64  # files at a time
_PIXELS_BETWEEN = 64 << 20  # bytes that are written between two looks at the space that is left
_MAX_DESCRIPTION = 1 << 16


def reading_of(format: PictureFormat) -> dict[str, Any]:
    """All that decides a resized picture beside its file and the part of it; plain data."""
    from PIL import __version__, features

    libraries = {name: features.version(name) for name in ("libjpeg_turbo", "jpg", "webp")}
    return {"version": VERSION, "size": format.size, "fit": format.fit, "pillow": __version__, **libraries}


def folder_name(reading: dict[str, Any]) -> str:
    """Name of the folder of a reading."""
    return hashlib.sha256(json.dumps(reading, sort_keys=True).encode()).hexdigest()


def read_description(folder: Path) -> dict[str, Any] | None:
    """The reading that a folder says it holds, of whatever version; None where it says none that fits its name."""
    try:
        with (folder / DESCRIPTION).open("rb") as stream:
            found = json.loads(stream.read(_MAX_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and {"size", "fit", "pillow"} <= found.keys()
    return found if whole and folder_name(found) == folder.name else None


def is_pair(name: str) -> bool:
    """Whether a file is called as those of a pair are."""
    return _PAIR.fullmatch(name) is not None


def count(folder: Path) -> int:
    """How many rows the files of a folder list."""
    return sum(size // _ENTRY for name, size in _files(folder) if name.endswith(".keys") and is_pair(name))


@dataclass
class _Pair:
    """A pair of files, as far as this process has read its entries.

    Attributes:
        pixels: the file of rows.
        read: bytes of entries that were read.
    """

    pixels: Path
    read: int = 0


class PictureCache:
    """The resized pictures of one format.

    Args:
        root: folder of all formats' folders; nothing is made before there is something to write.
        format: what a tower reads.
        most_bytes: of all formats together; beyond, nothing is written.

    Attributes:
        problem: why nothing is written any more, in a line; empty while all is well.
    """

    def __init__(self, root: Path, format: PictureFormat, most_bytes: int) -> None:
        self._reading = reading_of(format)
        self.folder, self._format, self._most = root / folder_name(self._reading), format, most_bytes
        self._row = format.size * format.size * 3
        # pair, row and checksum; several where a row is damaged, or two processes wrote one
        self._index: dict[bytes, list[tuple[_Pair, int, int]]] = {}
        self._pairs: dict[str, _Pair] = {}
        self._files: dict[Path, BinaryIO] = {}
        self._writer: tuple[str, BinaryIO, BinaryIO] | None = None
        self._rows, self._until_look = 0, 0
        self._process = os.getpid()
        self.problem = ""
        with suppress(OSError):  # the time of its last use
            os.utime(self.folder / DESCRIPTION)

    def __reduce__(self) -> tuple[Any, ...]:
        # another process opens the folder for itself
        return PictureCache, (self.folder.parent, self._format, self._most)

    def get(self, key: bytes) -> np.ndarray | None:
        """(size, size, 3) uint8, to be read only; None where there is no such picture, or only a damaged one.

        Args:
            key: digest of what is seen, 32 bytes.
        """
        import numpy as np

        self._own()
        if not self._index.get(key):
            self._look()
        places = self._index.get(key, [])
        while places:
            pair, row, checksum = places[-1]
            content = b""
            with suppress(OSError):
                content = self._read(pair, row)
            if len(content) == self._row and zlib.crc32(content, zlib.crc32(key)) == checksum:
                return np.frombuffer(content, np.uint8).reshape(self._format.size, self._format.size, 3)
            places.pop()
        return None

    def put(self, key: bytes, pixels: np.ndarray) -> None:
        """Write a picture, (size, size, 3) uint8, unless it is there already or nothing is written any more."""
        import numpy as np

        self._own()
        if self.problem or self._index.get(key):
            return
        content = np.ascontiguousarray(pixels).tobytes()
        checksum = zlib.crc32(content, zlib.crc32(key))
        try:
            self._check_space()
            if self.problem:
                return
            if self._writer and os.fstat(self._writer[1].fileno()).st_nlink == 0:  # `mnerkit cache clear`
                self._close()
            name, rows, keys = self._writer = self._writer or self._opened()
            # the entry goes last: a kill leaves rows without one
            _write(rows, content)
            _write(keys, key + checksum.to_bytes(4, "little"))
        except OSError as problem:
            self.problem = f"pictures are not kept: {self.folder} can't be written ({problem.strerror})"
            return
        pair = self._pairs[name]
        self._index.setdefault(key, []).append((pair, self._rows, checksum))
        self._until_look -= self._row + _ENTRY
        self._rows, pair.read = self._rows + 1, pair.read + _ENTRY

    def _own(self) -> None:
        """Leave files that were opened before a fork to the parent: their positions are shared."""
        if self._process != os.getpid():
            self._files, self._writer, self._process = {}, None, os.getpid()

    def _close(self) -> None:
        """Write no more to the open pair."""
        assert self._writer is not None
        for file in self._writer[1:]:
            file.close()
        self._writer = None

    def _look(self) -> None:
        """Read the entries that came since the last look."""
        try:
            names = [each.name for each in os.scandir(self.folder) if each.name.endswith(".keys")]
        except OSError:
            return
        for name in sorted(names):
            if not is_pair(name) or (self._writer and name == self._writer[0]):
                continue
            pair = self._pairs.setdefault(name, _Pair(self.folder / f"{name.removesuffix('.keys')}.pixels"))
            with suppress(OSError):
                path = self.folder / name
                if path.stat().st_size - pair.read < _ENTRY or not stat.S_ISREG(path.stat().st_mode):
                    continue
                with path.open("rb") as stream:
                    stream.seek(pair.read)
                    content = stream.read(_ENTRY * max(0, _MOST_ROWS - len(self._index)))
                for start in range(0, len(content) - _ENTRY + 1, _ENTRY):
                    key, checksum = content[start : start + 32], content[start + 32 : start + _ENTRY]
                    row = pair.read // _ENTRY
                    self._index.setdefault(key, []).append((pair, row, int.from_bytes(checksum, "little")))
                    pair.read += _ENTRY

    def _read(self, pair: _Pair, row: int) -> bytes:
        if pair.pixels not in self._files:
            if len(self._files) >= _MOST_OPEN:
                for file in self._files.values():
                    file.close()
                self._files.clear()
            if not stat.S_ISREG(pair.pixels.stat().st_mode):  # a pipe would be waited for
                return b""
            self._files[pair.pixels] = pair.pixels.open("rb", buffering=0)  # type: ignore[assignment]
        file = self._files[pair.pixels]
        file.seek(row * self._row)
        return file.read(self._row)

    def _opened(self) -> tuple[str, BinaryIO, BinaryIO]:
        """A new pair of files."""
        if read_description(self.folder) is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / DESCRIPTION, self._reading)
        stem = uuid.uuid4().hex
        self._pairs[f"{stem}.keys"] = pair = _Pair(self.folder / f"{stem}.pixels")
        self._rows = 0
        rows, keys = pair.pixels.open("xb", buffering=0), (self.folder / f"{stem}.keys").open("xb", buffering=0)
        return f"{stem}.keys", rows, keys  # type: ignore[return-value]

    def _check_space(self) -> None:
        """Look from time to time at what the folder holds and what the disk has left."""
        if self._until_look >= self._row + _ENTRY:
            return
        left = self._most - sum(size for folder in self.folder.parent.glob("*") for _, size in _files(folder))
        self._until_look = min(left, _PIXELS_BETWEEN)
        if left < self._row + _ENTRY:
            limit = f"the limit of {self._most / 1e9:g} GB (--data.picture_cache)"
            self.problem = f"further pictures are not kept: {self.folder.parent} has reached {limit}"
        elif shutil.disk_usage(existing_above(self.folder)).free < RESERVE:
            self.problem = f"further pictures are not kept: the disk of {self.folder.parent} is nearly full"


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each file; none where it is no folder, or is removed meanwhile."""
    with suppress(OSError):
        for file in os.scandir(folder):
            with suppress(OSError):
                yield file.name, file.stat(follow_symlinks=False).st_size


def _write(file: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
