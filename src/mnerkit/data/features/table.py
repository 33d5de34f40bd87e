"""The table of one reading: what a frozen tower computed, under the digest of its input; layout in `table_files`.

Shards are mapped into memory and nothing in them is trusted: a row is compared with its digest when this process first
reads it, and a damaged shard is deleted and its rows are computed again. Processes share the shards: they reserve rows
under the lock of the folder, claim what they compute, and see at once what others have written. The disk never stops a
run: where nothing can be written, rows stay in main memory.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import mmap
import os
import struct
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnerkit.atomic_files import draft, lock, remove_leftovers, write_json
from mnerkit.data.features.table_files import (
    HEAD,
    MAGIC,
    NOT_DONE,
    READING_FILE,
    RECORD,
    ROWS,
    VECTORS,
    DamagedShard,
    folder_digest,
    is_shard,
    open_shard,
    read_description,
)

_log = logging.getLogger("mnerkit.data")

# a folder's time stands still for so long where a file system counts coarsely
SETTLED_NS = 2_000_000_000
# another process that reserves rows is waited for as long; then a new shard is made
PATIENCE = 10.0


@dataclass
class MainMemory:
    """The part of main memory that the tables of a tower may fill.

    Attributes:
        limit: its bytes.
        used: of these.
    """

    limit: int
    used: int = 0


class Rows(NamedTuple):
    """Where the vectors of an input lie: in `holder.vectors`, from number `first`."""

    holder: Any
    first: int


class _MemoryRows:
    """Rows in main memory, after a vector of zeros."""

    def __init__(self, unit: int, dtype: str) -> None:
        self.vectors, self._end = np.zeros((1, unit), dtype), 1

    def add(self, vectors: np.ndarray) -> Rows:
        first, self._end = self._end, self._end + len(vectors)
        if self._end > len(self.vectors):
            larger = np.zeros((2 * self._end, self.vectors.shape[1]), self.vectors.dtype)
            larger[:first] = self.vectors[:first]
            self.vectors = larger
        self.vectors[first : self._end] = vectors
        return Rows(self, first)


class _Shard:
    """A shard, mapped into memory.

    Args:
        path: the file.
        dtype: of its numbers, `<f4` or `<f2`.
        process: the process that may append to it without the folder's lock, having made it; 0: none.

    Raises:
        DamagedShard: it is no shard, is cut off, or holds other numbers.
        OSError: it can't be read.
    """

    def __init__(self, path: Path, dtype: str, process: int = 0) -> None:
        self.path, self._dtype, self._process = path, dtype, process
        self.rows, self._stream = 0, -1
        self._verified = [False] * ROWS  # by this process
        self.read()

    def read(self) -> range:
        """Map the file with all rows that are reserved by now; the numbers of the new ones."""
        with open_shard(self.path) as stream:
            head = stream.read(HEAD.size)  # before the size: the file grows before its head says so
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if head else b""
        size, width = len(self._map), np.dtype(self._dtype).itemsize
        if size < VECTORS:
            raise DamagedShard("the file is cut off")
        magic, self.unit, itemsize, self._shared, rows = HEAD.unpack(head)
        if magic != MAGIC or itemsize != width or not self.unit or not self.rows <= rows <= ROWS:
            raise DamagedShard("its head is not that of a shard of this table")
        records = np.frombuffer(self._map, np.dtype("V64,<u8"), rows, HEAD.size)
        self.counts = records["f1"].astype(np.int64)
        if rows and not (1 <= self.counts.min() <= self.counts.max() <= size):
            raise DamagedShard("its records are not those of a shard")
        self.firsts = 1 + np.cumsum(self.counts) - self.counts
        self.end = 1 + int(self.counts.sum())
        if VECTORS + self.end * self.unit * width > size:
            raise DamagedShard("the file is cut off")
        flat = np.frombuffer(self._map, self._dtype, self.end * self.unit, VECTORS)
        self.vectors = flat.reshape(self.end, self.unit)
        if self.vectors[0].any():
            raise DamagedShard("its padding is not zero")
        new, self.rows = range(self.rows, rows), rows
        return new

    @property
    def grown(self) -> bool:
        """Whether rows were reserved since it was mapped."""
        return bool(HEAD.unpack_from(self._map)[-1] != self.rows)

    def appends(self, alone: bool) -> bool:
        """Whether this process may append rows, `alone` telling whether it has the folder's lock."""
        return self.rows < ROWS and ((alone and bool(self._shared)) or self._process == os.getpid())

    def key(self, row: int) -> bytes:
        """Digest of a row's input."""
        return self._map[_place(row) : _place(row) + 32]

    def done(self, row: int) -> bool:
        """Whether a row is computed, as far as the disk says so."""
        return self._map[_place(row) + 32 : _place(row) + 64] != NOT_DONE

    def verify(self, row: int) -> None:
        """Compare a row with its digest, the first time.

        Raises:
            DamagedShard: they differ.
        """
        if not self._verified[row]:
            digest = self._digest(row, self.vectors[self.firsts[row] : self.firsts[row] + self.counts[row]])
            if digest != self._map[_place(row) + 32 : _place(row) + 64]:
                raise DamagedShard("a row differs from its digest")
            self._verified[row] = True

    def append(self, rows: Sequence[tuple[bytes, int]]) -> int:
        """Reserve rows for keys with their numbers of vectors, as many as find room; how many."""
        rows = rows[: ROWS - self.rows]
        width, end = self.unit * np.dtype(self._dtype).itemsize, self.end + sum(count for _, count in rows)
        before = os.fstat(self._writer()).st_size
        try:
            _allocate(self._writer(), VECTORS + end * width)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._writer(), before)
            raise
        self._write(b"".join(RECORD.pack(key, NOT_DONE, count) for key, count in rows), _place(self.rows))
        self._write(struct.pack("<Q", self.rows + len(rows)), 24)  # now they are there
        return len(rows)

    def write(self, row: int, vectors: np.ndarray) -> None:
        """Write the vectors of a row, then its digest."""
        vectors = np.ascontiguousarray(vectors, self._dtype)
        self._write(vectors.data.cast("B"), VECTORS + int(self.firsts[row]) * vectors[0].nbytes)
        self._write(self._digest(row, vectors), _place(row) + 32)

    def claim(self, row: int, ours: bool = True) -> bool:
        """Tell other processes that this one computes a row, or no longer does; False where another one does."""
        try:
            import fcntl

            way = fcntl.LOCK_EX | fcntl.LOCK_NB if ours else fcntl.LOCK_UN
            fcntl.lockf(self._writer(), way, 1, _place(row))
        except BlockingIOError:
            return False
        except (ImportError, OSError):  # no locks: some rows are computed twice
            pass
        return True

    def close(self) -> None:
        """Write no more for the time being; claims end."""
        if self._stream >= 0:
            os.close(self._stream)
            self._stream = -1

    def _digest(self, row: int, vectors: np.ndarray) -> bytes:
        digest = hashlib.sha256(self.key(row) + struct.pack("<QQ", self.unit, self.counts[row]))
        digest.update(vectors.data)
        return digest.digest()

    def _writer(self) -> int:
        if self._stream < 0:
            self._stream = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0))
        return self._stream

    def _write(self, content: bytes | memoryview, place: int) -> None:
        rest = memoryview(content)
        while rest:
            os.lseek(self._writer(), place, os.SEEK_SET)
            written = os.write(self._writer(), rest)
            rest, place = rest[written:], place + written


class Table:
    """The rows of one reading. A row is some vectors of `unit` floats, which are the same for one input every time.

    Args:
        root: folder of all tables; nothing is made before there is something to write. None: main memory alone.
        reading: all that, beside the input, decides a row; plain data.
        about: the tower, in words for people.
        half: whether numbers are stored in half precision.
        main: main memory for what the disk does not take.
    """

    def __init__(
        self, root: Path | None, reading: Mapping[str, Any], about: str = "", half: bool = False,
        main: MainMemory | None = None,
    ) -> None:  # fmt: skip
        self.folder = None if root is None else root / folder_digest(reading)
        self.main = main or MainMemory(1 << 60)
        self.half, self.dtype = half, "<f2" if half else "<f4"
        self.usable, self._foreign = self.folder is not None, False
        self._description = {"about": about, "reading": dict(reading)}
        self._shards: list[_Shard] = []
        self._index: dict[bytes, tuple[_Shard, int]] = {}
        self._dropped: set[str] = set()
        self._seen: int | None = None
        self._memory: dict[int, _MemoryRows] = {}
        self._remembered: dict[bytes, Rows] = {}
        if self.folder is not None and self.folder.is_dir():
            self._open(self.folder)

    def __len__(self) -> int:
        self._look()
        return len(self._remembered) + sum(shard.done(row) for shard, row in self._index.values())

    def __contains__(self, key: str) -> bool:
        """Whether there is a row for an input; it is not read, so it may still prove damaged."""
        place = self._reserved(bytes.fromhex(key))
        return bytes.fromhex(key) in self._remembered or (place is not None and place[0].done(place[1]))

    @property
    def room(self) -> bool:
        """Whether a new row is kept."""
        return self.usable or self.main.used < self.main.limit

    def reserved(self, key: str) -> bool:
        """Whether the row of an input has its place on the disk."""
        return self._reserved(bytes.fromhex(key)) is not None

    def find(self, key: str, count: int, unit: int) -> Rows | None:
        """The row of an input, verified; None where there is none, or only a damaged one.

        Args:
            key: digest of the input, 64 hexadecimal digits.
            count: how many vectors it must have.
            unit: floats of a vector.
        """
        name = bytes.fromhex(key)
        while (place := self._reserved(name)) is not None and place[0].done(place[1]):
            shard, row = place
            try:
                if shard.unit != unit or shard.counts[row] != count:
                    raise DamagedShard("a row has not the tower's shape")
                shard.verify(row)
                return Rows(shard, int(shard.firsts[row]))
            except DamagedShard as problem:
                self._drop(shard.path, str(problem))
        return self._remembered.get(name)

    def reserve(self, keys: Sequence[str], counts: Sequence[int], unit: int) -> None:
        """Make room on disk for the rows of inputs, where there is none yet.

        Args:
            keys: digests of the inputs.
            counts: how many vectors each has.
            unit: floats of a vector.
        """
        wanted = {bytes.fromhex(key): count for key, count in zip(keys, counts, strict=True)}
        if self.usable:
            try:
                self._reserve(wanted, unit)
            except OSError as problem:
                self._give_up(problem)

    def put(self, key: str, vectors: np.ndarray) -> bool:
        """Keep the row of an input, on disk or in main memory; whether there was room.

        Args:
            key: digest of the input.
            vectors: (count, unit).
        """
        if self._write(bytes.fromhex(key), vectors):
            return True
        if self.main.used >= self.main.limit:
            return False
        if bytes.fromhex(key) not in self._remembered:
            unit = vectors.shape[1]
            holder = self._memory.setdefault(unit, _MemoryRows(unit, self.dtype))
            self._remembered[bytes.fromhex(key)] = holder.add(vectors.astype(self.dtype))
            self.main.used += vectors.size * np.dtype(self.dtype).itemsize
        return True

    def _write(self, name: bytes, vectors: np.ndarray) -> bool:
        """Write a row to disk, reserving it where it is not; whether that was possible."""
        count, unit = vectors.shape
        try:
            while self.usable:
                self._reserve({name: count}, unit)
                shard, row = self._index[name]
                if shard.unit == unit and shard.counts[row] == count:
                    try:
                        shard.write(row, vectors)
                        return True
                    except FileNotFoundError:  # `mnerkit cache clear`
                        self._forget(shard)
                else:
                    self._drop(shard.path, "a row has not the tower's shape")
        except OSError as problem:
            self._give_up(problem)
        return False

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may compute an input in the block, no other one being at it; others are told so."""
        place = self._index.get(bytes.fromhex(key)) if self.usable else None
        ours = place is None or place[0].claim(place[1])
        try:
            yield ours
        finally:
            if place is not None and ours:
                place[0].claim(place[1], ours=False)

    def close(self) -> None:
        """Write no more for the time being."""
        for shard in self._shards:
            shard.close()

    def gather(self, rows: Sequence[Rows | None], counts: np.ndarray, widths: Sequence[int], out: np.ndarray) -> None:
        """Copy rows part by part, padded with zeros: one copy from each shard.

        Args:
            rows: N rows; None: zeros.
            counts: (P, N), how many vectors each part of a row has, one part after the other; 0 where it is None.
            widths: of each part, the number of vectors that it is padded to.
            out: (N * sum(widths), unit), all rows of the first part, then those of the second, ...
        """
        firsts = np.array([0 if row is None else row.first for row in rows], np.int64)
        starts = firsts + counts.cumsum(0) - counts  # (P, N)
        parts = []
        for start, count, width in zip(starts, counts, widths, strict=True):
            places = np.arange(width)
            parts.append(np.where(places < count[:, None], start[:, None] + places, 0).ravel())
        index = np.concatenate(parts)
        holders = list({id(row.holder): row.holder for row in rows if row is not None}.values())
        if not holders:
            out[:] = 0
        elif len(holders) == 1:
            np.take(holders[0].vectors, index, 0, out=out, mode="clip")  # other modes copy twice
        else:
            numbers = {id(holder): number for number, holder in enumerate(holders)}
            owners = np.array([0 if row is None else numbers[id(row.holder)] for row in rows])
            owner = np.concatenate([owners.repeat(width) for width in widths])
            for number, holder in enumerate(holders):
                here = owner == number
                out[here] = holder.vectors[index[here]]

    # ------------------------------------------------------------------ the folder

    def _open(self, folder: Path) -> None:
        """Note the use, and clear away what killed writers left; a folder of another reading is not touched."""
        description = read_description(folder)
        if description is not None and folder_digest(description["reading"]) != folder.name:
            _log.warning("%s is a cache of another tower and is left alone; features stay in memory", folder)
            self._foreign, self.usable = True, False
            return
        with suppress(OSError):
            os.utime(folder / READING_FILE)
        remove_leftovers(folder)
        self._look()

    def _look(self) -> None:
        """Find the rows and shards that came since the last look."""
        if self.folder is None or self._foreign:
            return
        for shard in list(self._shards):
            if shard.grown:
                self._take(shard)
        try:
            changed = self.folder.stat().st_mtime_ns
            if changed == self._seen:
                return
            self._seen = changed if time.time_ns() - changed > SETTLED_NS else None
            present = {shard.path.name for shard in self._shards} | self._dropped
            for name in sorted(name for name in os.listdir(self.folder) if is_shard(name) and name not in present):
                self._take(self.folder / name)
        except OSError:
            return

    def _take(self, shard: _Shard | Path, process: int = 0) -> _Shard | None:
        """Index the new rows of a shard."""
        path = shard if isinstance(shard, Path) else shard.path
        try:
            if isinstance(shard, Path):
                shard = _Shard(path, self.dtype, process)
                self._shards.append(shard)
                new = range(shard.rows)
            else:
                new = shard.read()
        except FileNotFoundError:  # cleared
            return None
        except DamagedShard as problem:
            self._drop(path, str(problem))
            return None
        except OSError as problem:
            self._drop(path, problem.strerror or "it can't be read", delete=False)
            return None
        for row in new:
            self._index.setdefault(shard.key(row), (shard, row))
        return shard

    def _reserved(self, name: bytes) -> tuple[_Shard, int] | None:
        if name not in self._index:
            self._look()
        return self._index.get(name)

    def _reserve(self, wanted: dict[bytes, int], unit: int) -> None:
        if all(name in self._index for name in wanted):
            return
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        if read_description(self.folder) is None:
            write_json(self.folder / READING_FILE, self._description)
        with _alone(self.folder) as alone:
            self._look()
            rows = [(name, count) for name, count in wanted.items() if name not in self._index]
            while rows:
                open_ones = (shard for shard in self._shards if shard.unit == unit and shard.appends(alone))
                shard = next(open_ones, None) or self._new_shard(self.folder, unit, alone)
                try:
                    reserved = shard.append(rows)
                except FileNotFoundError:  # `mnerkit cache clear`
                    self._forget(shard)
                    continue
                if self._take(shard) is None:
                    raise _gone(shard.path)
                rows = rows[reserved:]

    def _new_shard(self, folder: Path, unit: int, shared: bool) -> _Shard:
        path, width = folder / f"shard-{uuid.uuid4().hex}.table", np.dtype(self.dtype).itemsize
        with draft(path) as stream:
            _allocate(stream.fileno(), VECTORS + unit * width)
            stream.write(HEAD.pack(MAGIC, unit, width, shared, 0))
        shard = self._take(path, 0 if shared else os.getpid())
        if shard is None:
            raise _gone(path)
        return shard

    def _give_up(self, problem: OSError) -> None:
        self.usable = False
        _log.warning("feature cache %s can't be written (%s); features stay in memory", self.folder, problem.strerror)

    def _drop(self, path: Path, why: str, delete: bool = True) -> None:
        """Do without a shard from now on; the first one is reported."""
        if not self._dropped:
            _log.warning("feature cache: %s is not usable (%s); its features are computed again", path, why)
        self._dropped.add(path.name)
        if delete:
            with suppress(OSError):
                path.unlink()
        for shard in [shard for shard in self._shards if shard.path == path]:
            self._forget(shard)

    def _forget(self, shard: _Shard) -> None:
        shard.close()
        self._shards.remove(shard)
        self._index = {}
        for each in self._shards:
            for row in range(each.rows):
                self._index.setdefault(each.key(row), (each, row))


def _gone(path: Path) -> OSError:
    """Of a shard that was deleted or damaged while this process wrote to it."""
    return FileNotFoundError(errno.ENOENT, "a new shard is gone or damaged", str(path))


def _place(row: int) -> int:
    """Where the record of a row begins."""
    return HEAD.size + row * RECORD.size


def _allocate(descriptor: int, size: int) -> None:
    """Let a file have so many bytes, which the disk has room for.

    Raises:
        OSError: it has not.
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        if os.fstat(descriptor).st_size < size:  # this system can't promise: writing finds out
            os.ftruncate(descriptor, size)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process alone reserves rows in a folder; the right ends with the block, or with the process."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folder
        yield False
        return
    try:
        ours: bool | None = False
        end = time.monotonic() + PATIENCE
        with suppress(OSError):  # a file system refuses it in its own way
            while (ours := lock(handle)) is False and time.monotonic() < end:
                time.sleep(0.01)
        yield ours is True
    finally:
        os.close(handle)
