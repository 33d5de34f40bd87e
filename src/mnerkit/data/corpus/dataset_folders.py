"""Data sets of the Hugging Face library `datasets`: folders on the disk, and names of the hub. It is imported late.

A folder holds what `DatasetDict.save_to_disk` or `Dataset.save_to_disk` writes, or Parquet files, as the hub has them:
`train.parquet`, `train-00000-of-00002.parquet`, also below `data/` or `train/`.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from mnerkit.atomic_files import write_bytes
from mnerkit.data.corpus.corpus_files import SPLIT_WORDS, ImageFolders
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.errors import DataError, UsageError, first_line, shown

HUB = "hf:"  # what a name of the hub begins with
_BEGINNINGS = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
_SHARD = re.compile(r"-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*){0,2}")


def dataset_files(folder: Path) -> dict[str, Path]:
    """A folder of each split, or its first Parquet file; empty where the folder is no data set.

    Raises:
        DataError: two of them could be the same split.
    """
    if (folder / "state.json").is_file():
        return {"train": folder}
    files: dict[str, Path] = {}
    for split, words in SPLIT_WORDS.items():
        found = [place for word in words for place in _of_split(folder, word)]
        if len(found) > 1:
            names = " and ".join(str(place.relative_to(folder)) for place in found)
            raise DataError(f"{folder}: {names} are both the {split} split.\nKeep one of them there.")
        if found:
            files[split] = found[0]
    return files


def _of_split(folder: Path, word: str) -> Iterator[Path]:
    if (folder / word / "state.json").is_file() or any((folder / word).glob("*.parquet")):
        yield folder / word
    for base in (folder, folder / "data"):
        shards = [file for file in sorted(base.glob(f"{word}*.parquet")) if stem(file) == word]
        yield from shards[:1]


def is_dataset(path: Path) -> bool:
    """Whether a split is one that `rows` reads."""
    return path.suffix == ".parquet" or path.is_dir()


def stem(path: Path) -> str:
    """The name of a split's file or folder, without the number of a shard."""
    return _SHARD.sub("", path.stem)


def rows(
    path: Path, notes: RecordNotes | None, folders: ImageFolders | None = None
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Place, number from 1 and content of each row; numbers of a column of class labels as their names.

    Args:
        path: a folder or Parquet file that `dataset_files` found.
        notes: takes what was done.
        folders: where pictures are looked up; those that only the data set has are added. None adds none.

    Raises:
        DataError: it can't be read.
        UsageError: `datasets` is not installed.
    """
    library = _library(str(path))
    try:
        data = _opened(library, path)
        data.data.validate(full=True)  # offsets of a damaged file would lead out of its memory
        names = {key: labels for key, feature in data.features.items() if (labels := _names(feature))}
        pictures = [key for key, feature in data.features.items() if _is_picture(library, feature)]
        for key in pictures:
            if not _is_plain(data.features[key]):
                data = data.cast_column(key, _undecoded(library, data.features[key]))
        number = 0
        before = len(folders.files) if folders else 0
        for number, row in enumerate(data, 1):
            where = f"{path}, row {number}"
            for key, labels in names.items():
                row[key] = _named(row[key], labels, f"{where}, {key!r}")
            yield where, number, _with_names_of_pictures(row, pictures, folders)
    except DataError:
        raise
    except Exception as problem:  # of a file that is damaged, whatever the libraries make of it
        raise DataError(f"{path}: no data set that can be read ({first_line(problem)[:120]}).") from None
    if notes is not None:
        for key in names:
            notes.take(f"class labels of {key!r} are read by their names")
        if pictures and number:
            columns = ", ".join(map(repr, pictures))
            if folders and len(folders.files) > before:
                kept = {"pictures": len(folders.files) - before}
                notes.take(f"pictures inside the data set ({columns}) are kept as files in the cache folder", **kept)
            else:
                notes.take(f"pictures inside the data set ({columns}) are looked up as files, under their names")


def _opened(library: Any, path: Path) -> Any:
    if (path / "state.json").is_file():
        return library.load_from_disk(str(path))
    import pyarrow.parquet

    base, word = (path, "") if path.is_dir() else (path.parent, stem(path))
    shards = [file for file in sorted(base.glob("*.parquet")) if not word or stem(file) == word]
    parts = [library.Dataset(library.table.InMemoryTable(pyarrow.parquet.read_table(file))) for file in shards]
    return library.concatenate_datasets(parts)


def _names(feature: Any) -> Sequence[str]:
    """Names of the class labels of a column; empty where it has none."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return getattr(feature, "names", None) or ()


def _named(value: Any, names: Sequence[str], where: str) -> Any:
    if isinstance(value, list):
        return [_named(each, names, where) for each in value]
    if type(value) is not int:
        return value
    if not 0 <= value < len(names):
        raise DataError(f"{where}: {value} is none of the {len(names)} class labels.")
    return names[value]


def _is_picture(library: Any, feature: Any) -> bool:
    while hasattr(feature, "feature"):
        feature = feature.feature
    return isinstance(feature, library.Image) or _is_plain(feature)


def _is_plain(feature: Any) -> bool:
    """Whether a column holds pictures, though nothing says so: as Parquet files of other libraries do."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return isinstance(feature, dict) and feature.keys() == {"bytes", "path"}


def _undecoded(library: Any, feature: Any) -> Any:
    plain = library.Image(decode=False)
    return library.List(plain) if hasattr(feature, "feature") else plain


def _with_names_of_pictures(
    row: dict[str, Any], columns: Sequence[str], folders: ImageFolders | None
) -> dict[str, Any]:
    """The row with names of files under `images` in place of columns of pictures."""
    if not columns:
        return row
    row = dict(row)
    names: list[str] = []
    for key in columns:
        value = row.pop(key)
        for picture in (value if isinstance(value, list) else [value]) if value else ():
            content, name = picture.get("bytes"), PurePath(picture.get("path") or "").name
            if content and folders is not None and (not name or folders.find(name) is None):
                name = _kept(content, folders)
            names += [name] if name else []
    return {"images": names, **row}


def _kept(content: bytes, folders: ImageFolders) -> str:
    """The name of a picture that only the data set has: after its content, since others may bear its own name.

    Its file is in the cache folder, where a corpus finds it under this name.
    """
    from mnerkit.data.features.cache_folder import cache_folder

    suffix = next((suffix for beginning, suffix in _BEGINNINGS.items() if content.startswith(beginning)), ".jpg")
    name = hashlib.sha256(content).hexdigest()[:32] + suffix
    file = cache_folder() / "dataset_pictures" / name
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content)
    folders.files[name] = file
    return name


def hub_folder(name: str) -> Path:
    """The folder of a data set of the hub, `hf:OWNER/NAME` or `hf:OWNER/NAME/CONFIGURATION`; fetched the first time.

    Raises:
        UsageError: no such name; `datasets` is not installed.
        DataError: it can't be fetched.
    """
    from mnerkit.data.features import cache_folder

    given = name.removeprefix(HUB)
    if not _HUB_NAME.fullmatch(given):
        raise UsageError(f"{shown(name)} is no name of the hub: {HUB}OWNER/NAME, or {HUB}OWNER/NAME/CONFIGURATION.")
    folder = cache_folder.cache_folder() / cache_folder.HUB / given.replace("/", "--")
    if not folder.is_dir():
        library = _library(name)
        owner, configuration = "/".join(given.split("/")[:2]), given.split("/")[2:]
        try:
            data = library.load_dataset(owner, *configuration)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as draft:
                data.save_to_disk(draft + "/whole")
                try:
                    os.rename(draft + "/whole", folder)
                except OSError:
                    if not folder.is_dir():  # else another process has fetched it meanwhile
                        raise
        except Exception as problem:  # of the network, the hub, the disk
            raise DataError(
                f"{name} can't be fetched ({first_line(problem)[:200]}).\nWith a network, save it as a folder:"
                " load_dataset(...).save_to_disk(FOLDER)."
            ) from None
    return folder


def _library(what: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{what} needs datasets: pip install 'mnerkit[datasets]', or pip install datasets") from None
    datasets.disable_progress_bars()
    return datasets
