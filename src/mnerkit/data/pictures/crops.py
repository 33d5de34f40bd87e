"""Crops that were cut by others: the released layout of grounded objects.

`<corpus>_aux_images/<split>/crops/` (or `crops/`, or the folder itself) holds pictures of objects, and
`<corpus>_<split>_dict.pth` says which of them belong to a picture: `{picture: [crop, ...]}`, the surest first.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.corpus_files import SPLIT_WORDS, ImageFolders, safe_name, split_files
from mnerkit.errors import DataError, first_line
from mnerkit.torch_archive import read_plain

MAX_BYTES = 64 << 20
# what torch makes of files that are damaged or cut off
_BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, OSError),
    *(ValueError, TypeError, AttributeError, LookupError, AssertionError, MemoryError),
)


@dataclass(frozen=True)
class CropDict:
    """The crops of one split.

    Attributes:
        path: the dict's file.
        crops: names of crops, by the name of the picture.
        files: existing folders where crops are looked up, in this order.
        unsure: names that the dict of another split gives to another picture, where crops are looked up in a folder
            that is not the split's own: nobody knows whose they are.
    """

    path: Path
    crops: dict[str, tuple[str, ...]]
    files: ImageFolders = field(default_factory=lambda: ImageFolders(()))
    unsure: frozenset[str] = frozenset()


def find_dicts(folders: Iterable[Path], name: str) -> dict[str, Path]:
    """The dict of each split in the first folder that has any: `<name>_train_dict.pth`, or `train_dict.pth`.

    Raises:
        DataError: two files could be the dict of one split.
    """
    for folder in folders:
        for prefix in (f"{name}_", ""):
            if dicts := split_files(folder, prefix, ("_dict.pth",)):
                return dicts
    return {}


def read_dicts(dicts: Mapping[str, Path], crops: Path | None) -> dict[str, CropDict]:
    """Read the dicts of the splits, and find out where the crops of each one lie.

    Args:
        dicts: file of each split's dict.
        crops: the folder of all crops, or `crops` in it; None where there is none.

    Raises:
        DataError: as `read_dict`; or the folder is that of one split, and there are dicts of others.
    """
    read = {split: read_dict(path) for split, path in dicts.items()}
    if crops is None:
        return read
    base = crops.parent if crops.name == "crops" else crops
    listed: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for split, each in read.items():
        for picture, names in each.crops.items():
            for name in names:
                listed[name].add((split, picture))
    unsure = frozenset(
        name for name, by in listed.items() if all(len(set(those)) > 1 for those in zip(*by, strict=True))
    )
    for split, each in read.items():
        if own := _existing(base / word / part for word in SPLIT_WORDS[split] for part in ("crops", "")):
            read[split] = replace(each, files=ImageFolders(own))
            continue
        other = next((name for name, words in SPLIT_WORDS.items() if base.name in words and name != split), None)
        if other is not None:
            raise DataError(
                f"{crops}: the crops of the {other} split, and {each.path.name} is of {split}.\n"
                f"Give {base.parent}, the folder of all splits' crops."
            )
        read[split] = replace(each, files=ImageFolders(_existing([base / "crops", base])), unsure=unsure)
    return read


def _existing(folders: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(each for each in dict.fromkeys(folders) if each.is_dir())


def read_dict(path: Path) -> CropDict:
    """Read the dict of a split; nothing but plain data is unpickled.

    Raises:
        DataError: too large, not a dict of lists of names, or a name that leads out of its folder.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} has {size} bytes; the limit is {MAX_BYTES}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol
            content: Any = read_plain(path)
    except _BROKEN as problem:
        reason = str(problem).rpartition("WeightsUnpickler error: ")[2].strip() or type(problem).__name__
        raise DataError(f"{path}: not a dict of plain data: {first_line(reason)[:120]}") from None
    if not isinstance(content, dict) or not all(isinstance(each, list | tuple) for each in content.values()):
        raise DataError(f"{path}: expected a dict of picture -> list of crops, found {type(content).__name__}.")
    crops: dict[str, tuple[str, ...]] = {}
    for image, names in content.items():
        if not isinstance(image, str) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path}: expected names, found {str(image)[:40]!r}: {str(names)[:60]}.")
        crops[safe_name(image, str(path))] = tuple(safe_name(name, str(path)) for name in names)
    return CropDict(path, crops)
