"""Crops that were cut by others: the released layout of grounded objects.

`<corpus>_aux_images/<split>/crops/` (or `crops/`, or the folder itself) holds pictures of objects, and
`<corpus>_<split>_dict.pth` says which of them belong to a picture: `{picture: [crop, ...]}`, the surest first.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.data.layout import SPLIT_WORDS, safe_name
from mnerkit.errors import DataError

MAX_BYTES = 64 << 20
# what torch makes of files that are damaged or cut off
_BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, OSError),
    *(ValueError, TypeError, AttributeError, LookupError),
)


@dataclass(frozen=True)
class CropDict:
    """The crops of one split.

    Attributes:
        path: the dict's file.
        crops: names of crops, by the name of the picture.
        folders: existing folders where crops are looked up, in this order.
    """

    path: Path
    crops: dict[str, tuple[str, ...]]
    folders: tuple[Path, ...]


def find_dicts(folders: Iterable[Path], name: str) -> dict[str, Path]:
    """The dict of each split in the first folder that has any: `<name>_train_dict.pth`, or `train_dict.pth`.

    Raises:
        DataError: two files could be the dict of one split.
    """
    for folder in folders:
        for prefix in (f"{name}_", ""):
            found: dict[str, Path] = {}
            for split, words in SPLIT_WORDS.items():
                files = [each for word in words if (each := folder / f"{prefix}{word}_dict.pth").is_file()]
                if len(files) > 1:
                    raise DataError(f"{folder}: {files[0].name} and {files[1].name} are both of {split}; keep one.")
                if files:
                    found[split] = files[0]
            if found:
                return found
    return {}


def crop_places(crops: Path, split: str) -> tuple[Path, ...]:
    """Folders that may hold the crops of a split, the most specific first."""
    base = crops.parent if crops.name == "crops" else crops
    inside = [base / word / part for word in SPLIT_WORDS[split] for part in ("crops", "")]
    return tuple(each for each in dict.fromkeys([*inside, base / "crops", base]) if each.is_dir())


def read_dict(path: Path, folders: tuple[Path, ...]) -> CropDict:
    """Read the dict of a split; nothing but plain data is unpickled.

    Raises:
        DataError: too large, not a dict of lists of names, or a name that leads out of its folder.
    """
    import torch  # here: verbs that look at no crops do not wait for it

    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} has {size} bytes; the limit is {MAX_BYTES}.")
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as problem:
        said = str(problem).splitlines()[0][:120] if str(problem) else type(problem).__name__
        raise DataError(f"{path}: not a dict of plain data: {said}") from None
    if not isinstance(content, dict) or not all(isinstance(each, list | tuple) for each in content.values()):
        raise DataError(f"{path}: expected a dict of picture -> list of crops, found {type(content).__name__}.")
    crops: dict[str, tuple[str, ...]] = {}
    for image, names in content.items():
        if not isinstance(image, str) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path}: expected names, found {str(image)[:40]!r}: {str(names)[:60]}.")
        crops[safe_name(image, str(path))] = tuple(safe_name(name, str(path)) for name in names)
    return CropDict(path, crops, folders)
