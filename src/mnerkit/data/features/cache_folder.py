"""The cache folder: what mnerkit keeps between runs and can make again. Nothing here imports torch or numpy.

features/<digest of a reading>/   outputs of one frozen tower, read in one way (`mnerkit.data.features.table_files`)
pictures/<digest of a reading>/   resized pictures of one size (`mnerkit.data.pictures.picture_cache`)
towers/<digest>.safetensors       tiny towers as they came out of their training (`mnerkit.methods.warm_start`)
hub/<name>/                       data sets of the hub (`mnerkit.data.corpus.dataset_folders`)
dataset_pictures/<digest>.<type>  pictures of data sets (`mnerkit.data.corpus.dataset_folders`), which are never removed
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnerkit.atomic_files import draft_of
from mnerkit.data.features.table_files import (
    READING_FILE,
    folder_digest,
    is_former,
    is_shard,
    read_description,
    rows_done,
)
from mnerkit.data.pictures import picture_cache
from mnerkit.data.pictures.picture_cache import PICTURES

FEATURES, TOWERS, HUB = "features", "towers", "hub"

_FOLDER = re.compile(r"[0-9a-f]{64}")
_TOWER = re.compile(r"[0-9a-f]{24}\.safetensors")
# what the library `datasets` saves
_DATA_SET = re.compile(r"data-\d+-of-\d+\.arrow|dataset_dict\.json|dataset_info\.json|state\.json")
# of earlier releases
_FORMER_DRAFT = re.compile(rf"\.{re.escape(READING_FILE)}\.\w+|\.shard-[0-9a-f]{{32}}\.part")


def cache_folder() -> Path:
    """`MNERKIT_CACHE`, else `mnerkit` in the user's cache folder."""
    named = os.environ.get("MNERKIT_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnerkit"


@dataclass(frozen=True)
class Kept:
    """One thing in the cache folder: a tower's features, resized pictures, trained tiny towers, or a hub's data set.

    Attributes:
        kind: what it is.
        path: its folder, or file.
        about: in plain words, where it says so itself.
        entries: how many inputs it holds; None for towers and data sets, and what an earlier version left.
        files: its files, all of them the cache's own.
        bytes: their size.
        used: when it was last used, in seconds since the epoch.
        problem: why it is not touched (files of others, another tower's folder), or empty.
    """

    kind: Literal["features", "pictures", "tower", "data set"]
    path: Path
    about: str
    entries: int | None
    files: tuple[Path, ...]
    bytes: int
    used: float
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """The same as plain data; `files` is their number."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "about": self.about,
            "entries": self.entries,
            "files": len(self.files),
            "bytes": self.bytes,
            "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.used)),
            "problem": self.problem or None,
        }


def kept(root: Path) -> list[Kept]:
    """All that lies in a cache folder, features first; links are never followed."""
    return [*_features(root / FEATURES), *_pictures(root / PICTURES), *_towers(root / TOWERS), *_data_sets(root / HUB)]


def clear(things: list[Kept]) -> tuple[int, int]:
    """Delete the files of `things`, and folders that are empty then.

    A run that reads them goes on: an open file lives until it is closed.

    Returns:
        How many files were deleted, and their bytes.

    """
    files = freed = 0
    for each in things:
        if each.problem:
            continue
        # the description goes last: what a kill leaves is still known for what it is
        for file in sorted(each.files, key=lambda file: file.suffix == ".json"):
            with suppress(FileNotFoundError):
                size = file.lstat().st_size
                file.unlink()
                files, freed = files + 1, freed + size
        if each.kind != "tower":
            for folder in sorted({each.path, *_folders_below(each.path)}, reverse=True):  # inner ones first
                with suppress(OSError):
                    folder.rmdir()
    return files, freed


def _features(folder: Path) -> Iterator[Kept]:
    for path in _inside(folder):
        if not path.is_dir() or path.is_symlink():
            continue
        files = _inside(path)
        own = [file for file in files if _is_own(file)]
        description = read_description(path)
        former = description is not None and is_former(path, description["reading"])
        about, problem = "", ""
        if not _FOLDER.fullmatch(path.name):
            problem = "is no folder of the cache"
        elif foreign := [file for file in files if file not in own]:
            problem = f"holds a file that is not the cache's: {foreign[0].name}"
        elif description is None:
            # a kill between the folder and its first file leaves it empty: that is ours, a stranger's shards are not
            problem = f"has no {READING_FILE} that can be read" if own else ""
        elif folder_digest(description["reading"]) != path.name and not former:
            problem = f"is a cache of another tower: its {READING_FILE} does not fit its name"
        if description is not None:
            reading = description["reading"]
            about = ", ".join([str(description.get("about") or "a tower"), *_said(reading)])
            about += ", of an earlier version: no run reads it" * former
        entries = None if former else sum(rows_done(file) for file in own if is_shard(file.name))
        yield Kept("features", path, about, entries, tuple(own), *_size_and_age([path, *own]), problem)


def _said(reading: dict[str, object]) -> list[str]:
    """What tells two readings of one tower apart, for people."""
    texts = [str(reading.get("view", ""))]
    texts += [f"{name} {reading[name]}" for name in ("pooling", "layers", "length_limit", "dtype") if reading.get(name)]
    return [text for text in texts if text]


def _pictures(folder: Path) -> Iterator[Kept]:
    for path in _inside(folder):
        if not path.is_dir() or path.is_symlink():
            continue
        files, reading, problem = _inside(path), picture_cache.read_description(path), ""
        own = [file for file in files if _is_picture_file(file)]
        if foreign := [file for file in files if file not in own]:
            problem = f"holds a file that is not the cache's: {foreign[0].name}"
        elif reading is None and (own or not _FOLDER.fullmatch(path.name)):
            problem = f"has no {picture_cache.DESCRIPTION} that can be read"
        about = (
            "" if reading is None else "pictures of {size} x {size} pixels, {fit}, Pillow {pillow}".format(**reading)
        )
        yield Kept(
            "pictures", path, about, picture_cache.count(path), tuple(own), *_size_and_age([path, *own]), problem
        )


def _is_picture_file(file: Path) -> bool:
    name = draft_of(file.name) or file.name
    own = name == picture_cache.DESCRIPTION or picture_cache.is_pair(name)
    return own and file.is_file() and not file.is_symlink()


def _towers(folder: Path) -> Iterator[Kept]:
    for path in _inside(folder):
        if _TOWER.fullmatch(draft_of(path.name) or path.name) and path.is_file() and not path.is_symlink():
            yield Kept("tower", path, "tiny towers, trained", None, (path,), *_size_and_age([path]))


def _data_sets(folder: Path) -> Iterator[Kept]:
    for path in _inside(folder):
        if not path.is_dir() or path.is_symlink():
            continue
        files = [each for each in sorted(path.rglob("*")) if each.is_symlink() or not each.is_dir()]
        foreign = [file for file in files if file.is_symlink() or not _DATA_SET.fullmatch(file.name)]
        # a killed download leaves .OWNER--NAME.<letters>.part
        name = path.name.lstrip(".").split(".")[0] if path.name.endswith(".part") else path.name
        problem = f"holds a file that is not the cache's: {foreign[0].relative_to(path)}" if foreign else ""
        about = f"hf:{name.replace('--', '/')}"
        own = [file for file in files if file not in foreign]
        yield Kept("data set", path, about, None, tuple(own), *_size_and_age([path, *own]), problem)


def _folders_below(path: Path) -> Iterator[Path]:
    return (each for each in path.rglob("*") if each.is_dir() and not each.is_symlink())


def _is_own(file: Path) -> bool:
    name = draft_of(file.name) or file.name
    known = name == READING_FILE or is_shard(name, former=True) or _FORMER_DRAFT.fullmatch(file.name)
    return bool(known) and file.is_file() and not file.is_symlink()


def _inside(folder: Path) -> list[Path]:
    """What a folder holds, in order; nothing where it is absent, a link, or can't be read."""
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except OSError:
        return []


def _size_and_age(paths: list[Path]) -> tuple[int, float]:
    """Bytes of the files and the latest time among all paths."""
    size, used = 0, 0.0
    for path in paths:
        with suppress(OSError):
            about = path.lstat()
            size += about.st_size if path.is_file() else 0
            used = max(used, about.st_mtime)
    return size, used
