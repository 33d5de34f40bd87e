"""Outputs of frozen towers on disk: arrays under the digest of their input, in one folder a reading.

`<cache>/features/<digest of the reading>/` holds shards (`mnerkit.data.features.shards`) and `reading.json`, which says
in plain words what tower read its inputs in what way. Every process writes shards of its own and finds those of the
others: nothing is locked, and an entry that two of them computed is merely there twice. Whatever is wrong with the
disk costs time and never a run: a damaged shard is dropped and its features are computed again, and where nothing can
be written they stay in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.atomic_files import lock, remove_leftovers, write_json
from mnerkit.data.features.shards import (
    Arrays,
    DamagedShard,
    Shard,
    is_shard,
    write_shard,
)

if TYPE_CHECKING:
    import numpy as np

_log = logging.getLogger("mnerkit.data")

READING_FILE = "reading.json"
# part of every folder's name: raise it when entries are laid out or computed in another way
VERSION = 2
FORMER_VERSIONS = (1,)
# so much is gathered before it is written: many small batches make few files
SHARD_BYTES = 64 << 20
SHARD_ENTRIES = 20_000
# shards below this size, once there are more than so many, become one when a store is opened
SMALL_BYTES, MANY_SMALL = 8 << 20, 8
# a folder's time stands still for so long where a file system counts coarsely
SETTLED_NS = 2_000_000_000
MAX_DESCRIPTION = 1 << 20


def folder_digest(reading: Mapping[str, Any], version: int = VERSION) -> str:
    """Name of the folder for a reading (plain data): a digest of all that it says, and of the layout's version."""
    return hashlib.sha256(json.dumps([version, dict(reading)], sort_keys=True).encode()).hexdigest()


def is_former(folder: Path, reading: Mapping[str, Any]) -> bool:
    """Whether a folder is that of a reading in an earlier version, which no run reads any more."""
    return folder.name in [folder_digest(reading, version) for version in FORMER_VERSIONS]


def read_description(folder: Path) -> dict[str, Any] | None:
    """What `reading.json` says, its `reading` being a mapping; None where there is none that can be read."""
    try:
        with (folder / READING_FILE).open("rb") as stream:
            found = json.loads(stream.read(MAX_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("reading"), dict) else None


def readings_of(root: Path) -> list[dict[str, Any]]:
    """The readings that the folders below `root` say they hold entries of."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir()]
    except OSError:
        return []
    found = [(path, read_description(path)) for path in folders]
    return [each["reading"] for path, each in found if each is not None and folder_digest(each["reading"]) == path.name]


class FeatureStore:
    """The entries of one reading.

    Args:
        root: folder of all readings' folders; nothing is made before there is something to write.
        reading: all that, beside the input, decides an entry; plain data.
        about: the tower, in words for people.
    """

    def __init__(self, root: Path, reading: Mapping[str, Any], about: str = "") -> None:
        self.folder = root / folder_digest(reading)
        self._reading, self._about = dict(reading), about
        self._shards: dict[str, Shard] = {}
        self._index: dict[str, Shard] = {}
        self._verified: set[str] = set()
        self._dropped: set[str] = set()
        self._seen: int | None = None
        self._writer = _Writer(self.folder, {"about": about, "reading": self._reading})
        # what is gathered is written when the store is let go, at the latest when the process ends
        weakref.finalize(self, self._writer.flush)
        self._foreign = self._is_foreign()
        if self._foreign:
            self._writer.usable = False
        elif self.folder.is_dir():
            self._tidy()

    def __reduce__(self) -> tuple[Any, ...]:
        # another process opens the folder for itself
        return (FeatureStore, (self.folder.parent, self._reading, self._about))

    def __len__(self) -> int:
        self._look()
        return len(self._index.keys() | self._writer.entries.keys())

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry; it is not read, so it may still prove damaged."""
        if key in self._writer.entries or key in self._index:
            return True
        self._look()
        return key in self._index

    @property
    def usable(self) -> bool:
        """Whether entries are still taken: no once writing has failed."""
        return self._writer.usable

    def get(self, key: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray] | None:
        """The arrays of an entry, verified when this process first reads it.

        Args:
            key: digest of the input, 64 hexadecimal digits.
            shapes: name and shape of each array that the entry must consist of.

        Returns:
            Arrays of float32 or half precision, or None where there is no such entry, or only a damaged one.
        """
        if key in self._writer.entries:
            return dict(self._writer.entries[key])
        while key in self:
            shard = self._index[key]
            try:
                if shard.shapes(key) != dict(shapes):
                    raise DamagedShard("an entry has not the tower's shape")
                if key not in self._verified:
                    shard.verify(key)
                    self._verified.add(key)
                return shard.read(key)
            except DamagedShard as problem:
                self._drop(shard.path, str(problem))
        return None

    def put(self, key: str, arrays: Arrays) -> None:
        """Take an entry, to be written with others; float32 or half precision, which nobody changes any more."""
        self._writer.add(key, arrays)

    def flush(self) -> None:
        """Write what was gathered; a failure is told once, and from then on nothing is taken any more."""
        self._writer.flush()

    def _is_foreign(self) -> bool:
        """Whether the folder is that of another reading by its own account; said in one line."""
        description = read_description(self.folder)
        if description is None or folder_digest(description["reading"]) == self.folder.name:
            return False
        _log.warning("%s is a cache of another tower and is left alone; features stay in memory", self.folder)
        return True

    def _look(self) -> None:
        """Find the shards that came since the last look."""
        if self._foreign:
            return
        try:
            changed = self.folder.stat().st_mtime_ns
            if changed == self._seen:
                return
            self._seen = changed if time.time_ns() - changed > SETTLED_NS else None
            names = sorted(name for name in os.listdir(self.folder) if is_shard(name))
        except OSError:
            return
        for name in names:
            if name in self._shards or name in self._dropped:
                continue
            try:
                shard = Shard(self.folder / name)
            except FileNotFoundError:  # others made one shard of several
                continue
            except DamagedShard as problem:
                self._drop(self.folder / name, str(problem))
                continue
            except OSError as problem:
                self._drop(self.folder / name, problem.strerror or "it can't be read", delete=False)
                continue
            self._shards[name] = shard
            for key in shard.keys:
                self._index.setdefault(key, shard)

    def _drop(self, path: Path, why: str, delete: bool = True) -> None:
        """Do without a shard from now on; the first one is told."""
        if not self._dropped:
            _log.warning("feature cache: %s is not usable (%s); its features are computed again", path, why)
        self._dropped.add(path.name)
        if delete:
            with suppress(OSError):
                path.unlink()
        if self._shards.pop(path.name, None) is not None:
            self._index = {}
            for shard in self._shards.values():
                for key in shard.keys:
                    self._index.setdefault(key, shard)

    # ------------------------------------------------------------------ when opened

    def _tidy(self) -> None:
        """Note the use, clear away what killed writers left, and make one shard of many small ones."""
        with suppress(OSError):
            os.utime(self.folder / READING_FILE)
        with _alone(self.folder) as alone:
            if alone:
                remove_leftovers(self.folder)
                self._look()
                small = [shard for shard in self._shards.values() if shard.bytes < SMALL_BYTES]
                if len(small) > MANY_SMALL:
                    self._merge(small)

    def _merge(self, small: list[Shard]) -> None:
        """Write the entries of small shards as large ones, then delete the small ones; a kill leaves some twice."""
        group: list[Shard] = []
        entries: dict[str, Arrays] = {}
        for place, shard in enumerate(small):
            try:
                for key in shard.keys:
                    shard.verify(key)
            except DamagedShard as problem:
                self._drop(shard.path, str(problem))
            else:
                group.append(shard)
                entries |= {key: shard.read(key) for key in shard.keys}
            if place + 1 < len(small) and sum(each.bytes for each in (*group, small[place + 1])) <= SHARD_BYTES:
                continue
            with suppress(OSError):  # a disk that can't be written leaves them as they are
                write_shard(self.folder, entries)
                for each in group:
                    each.path.unlink()
            group, entries = [], {}


class _Writer:
    """Entries that wait to be written; a part of the store that outlives it at the end of the process."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder, self.description = folder, description
        self.entries: dict[str, Arrays] = {}
        self.bytes = 0
        self.usable = True
        self._process = os.getpid()

    def add(self, key: str, arrays: Arrays) -> None:
        if not self.usable or key in self.entries:
            return
        self.entries[key] = dict(arrays)
        self.bytes += sum(array.nbytes for array in arrays.values())
        if self.bytes >= SHARD_BYTES or len(self.entries) >= SHARD_ENTRIES:
            self.flush()

    def flush(self) -> None:
        # a forked worker holds a copy of what its parent will write
        if not self.entries or not self.usable or os.getpid() != self._process:
            return
        try:
            try:
                self._write()
            except FileNotFoundError:  # `mnerkit cache clear` took the folder away in between
                self._write()
        except OSError as problem:
            self.usable = False
            _log.warning(
                "feature cache %s can't be written (%s); features stay in memory", self.folder, problem.strerror
            )
        self.entries, self.bytes = {}, 0

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if read_description(self.folder) is None:
            write_json(self.folder / READING_FILE, self.description)
        write_shard(self.folder, self.entries)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process alone may tidy a folder; the right ends with the block, or with the process."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folder: there small shards stay small
        yield False
        return
    try:
        try:
            ours = lock(handle) is True
        except OSError:  # a file system that refuses it in its own way: small shards stay small there, too
            ours = False
        yield ours
    finally:
        os.close(handle)
