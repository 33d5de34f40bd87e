"""How a table of features lies on disk. Nothing here imports numpy or torch.

`<cache>/features/<digest of the reading>/` holds `reading.json`, which says in plain words which tower read its inputs
in which way, and shards. A shard is a file of little-endian numbers:

    head       magic, floats in a vector, bytes of a float, whether others append, number of rows; 64 bytes
    records    `ROWS` of them: key (32 bytes), digest (32 bytes, zeros until the row is computed), number of vectors (8)
    vectors    zeros, which pad; then the vectors of one row after the other

A row is reserved when its record is counted in the head, and its vectors have their place on the disk by then.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

READING_FILE = "reading.json"
# part of every folder's name: raise it when rows are laid out or computed in another way
VERSION = 3
FORMER_VERSIONS = (1, 2)
MAX_DESCRIPTION = 1 << 20

ROWS = 4096
MAGIC = b"mnerkit\x03"
HEAD = struct.Struct("<8sIIQQ32x")
RECORD = struct.Struct("<32s32sQ")
VECTORS = HEAD.size + ROWS * RECORD.size  # where they begin
NOT_DONE = bytes(32)

_SHARD = re.compile(r"shard-[0-9a-f]{32}\.table")
_FORMER_SHARD = re.compile(r"shard-[0-9a-f]{32}\.safetensors")


class DamagedShard(Exception):
    """A shard whose content is not what a writer put there; the text says why."""


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
            content = json.loads(stream.read(MAX_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("reading"), dict) else None


def readings_of(root: Path) -> list[dict[str, Any]]:
    """The readings whose tables lie below `root`, as their folders describe them."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir()]
    except OSError:
        return []
    described = [(path, read_description(path)) for path in folders]
    return [each["reading"] for path, each in described if each and folder_digest(each["reading"]) == path.name]


def is_shard(name: str, former: bool = False) -> bool:
    """Whether a file is named as shards are; with `former`, also as those of earlier versions were."""
    return bool(_SHARD.fullmatch(name) or (former and _FORMER_SHARD.fullmatch(name)))


def open_shard(path: Path) -> BinaryIO:
    """Open a shard for reading.

    Raises:
        DamagedShard: it is no file: a pipe would be waited for.
        OSError: it can't be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamagedShard("it is no file")
    return path.open("rb")


def rows_done(path: Path) -> int:
    """How many rows of a shard are computed; 0 for a damaged one."""
    try:
        with open_shard(path) as stream:
            content = stream.read(VECTORS)
        magic, *_, rows = HEAD.unpack_from(content)
        if magic != MAGIC or rows > ROWS:
            return 0
        places = range(HEAD.size, HEAD.size + rows * RECORD.size, RECORD.size)
        return sum(RECORD.unpack_from(content, place)[1] != NOT_DONE for place in places)
    except (OSError, DamagedShard, struct.error):
        return 0
