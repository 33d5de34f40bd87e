"""The cache of pictures, and what folders of caches say they hold."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import mutated
from fuzzing.reader import VALID, Input, Reader
from fuzzing.weights import READING, no_plain, no_seed
from mnerkit.data.features.table import Table
from mnerkit.data.features.table_files import READING_FILE, folder_digest
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_cache import DESCRIPTION, PictureCache, folder_name, read_description, reading_of

FORMAT = PictureFormat(4)
ROW = FORMAT.size**2 * 3
PIXELS = {bytes([number]) * 32: bytes(range(number, number + ROW)) for number in range(3)}
ROWS = b"".join(PIXELS.values())
ENTRIES = b"".join(key + zlib.crc32(row, zlib.crc32(key)).to_bytes(4, "little") for key, row in PIXELS.items())
FOLDER, STEM = folder_name(reading_of(FORMAT)), "0" * 32
DESCRIBED = json.dumps(reading_of(FORMAT)).encode()
FILES = {f"{FOLDER}/{STEM}.pixels": ROWS, f"{FOLDER}/{STEM}.keys": ENTRIES, f"{FOLDER}/{DESCRIPTION}": DESCRIBED}


def damaged(content: bytes, form: str) -> Any:
    """Makes inputs from a file; whatever is damaged, what is read must be what was written."""

    def make(draw: Random) -> Input:
        if draw.random() < VALID:
            return Input(content, True, PIXELS)
        return Input(mutated(draw, form, content, content), False, PIXELS)

    return make


def read_pictures(path: Path) -> Any:
    """The cached pictures; those that are missing or damaged are written anew, as a run does."""
    import numpy as np

    cache = PictureCache(path.parents[1], FORMAT, 1 << 40)
    found = {key: cache.get(key) for key in PIXELS}
    read_description(path.parent)
    for key, row in PIXELS.items():
        cache.put(key, np.frombuffer(row, np.uint8).reshape(FORMAT.size, FORMAT.size, 3))
    assert cache.problem or all(cache.get(key) is not None for key in PIXELS)
    return {key: pixels.tobytes() for key, pixels in found.items() if pixels is not None}


def subset(read: Any, truth: Any) -> bool:
    return all(truth[key] == value for key, value in read.items())


def reading(draw: Random) -> bytes:
    return json.dumps({"about": draw.choice(("a tower", "")), "reading": READING}).encode()


def read_reading(path: Path) -> Any:
    table = Table(path.parents[1], READING)
    return len(table), table.usable


def always(read: Any, _: Any) -> bool:
    """A folder of another reading is left alone; one without a reading is used."""
    return read[0] == 0


READERS = (
    *(
        Reader(name, file, form, no_seed, read_pictures, no_plain, FILES, subset, damaged(FILES[file], form))
        for name, file, form in (
            ("cached pictures", f"{FOLDER}/{STEM}.pixels", "bytes"),
            ("entries of cached pictures", f"{FOLDER}/{STEM}.keys", "bytes"),
            ("description of cached pictures", f"{FOLDER}/{DESCRIPTION}", "json"),
        )
    ),
    Reader(
        "description of cached features", f"{folder_digest(READING)}/{READING_FILE}", "json", reading, read_reading,
        lambda _: None, agree=always,
    ),
)  # fmt: skip
