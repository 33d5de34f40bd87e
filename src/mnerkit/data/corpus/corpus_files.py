"""Where the files of a corpus lie: annotation files, folders of pictures, and names that may not leave them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnerkit.errors import DataError

SPLITS = ("train", "dev", "test")
SPLIT_WORDS = {"train": ("train",), "dev": ("valid", "val", "dev", "validation"), "test": ("test",)}
SUFFIXES = (".txt", ".json", ".jsonl")
OTHER_SUFFIXES = (
    ".conll",
    ".tsv",
    ".bio",
    ".iob",
    ".iob2",
    ".bioes",
    ".bmes",
    ".conllu",
    ".ndjson",
    ".csv",
)  # of the same contents from other tools
BOX_FORMAT, BOX_VERSION = "mnerkit-boxes", 1  # of a file of objects in the pictures (`pictures.boxes`)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")

# The merged release of MNER-MI-Plus calls the picture O_26.jpg of Twitter-2017 `twitter2017-O_26.jpg`.
_MERGED = re.compile(r"twitter20\d\d-(?=.)")
_MAX_NAME = 255
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}")  # the names of most pictures, and surely harmless


def safe_name(name: str, where: str) -> str:
    """Return the name of a picture from a data file, or raise if it could lead out of its folder.

    Args:
        name: the name, with `/` between folders.
        where: file and line, for the message.

    Raises:
        DataError: the name is empty, absolute, has a `..`, a backslash, control characters or half of a surrogate
            pair, or is too long.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    parts = name.split("/")
    hostile = (
        not name
        or "\\" in name
        or re.match(r"[A-Za-z]:", name) is not None
        or any("\ud800" <= character <= "\udfff" for character in name)  # no file system can encode it
        or any(part in ("", ".", "..") or len(os.fsencode(part)) > _MAX_NAME for part in parts)
        or any(ord(character) < 32 for character in name)
    )
    if hostile:
        raise DataError(
            f"{where}: picture or id {name[:80]!r} is not a plain name.\n"
            "It must be a file name below the folder of pictures: not empty, not absolute, without '..'."
        )
    return name


def merged_mark(name: str) -> str:
    """What a merged release puts before the name of another corpus's picture (`twitter2017-`), or an empty string."""
    mark = _MERGED.match(name)
    return mark.group() if mark else ""


def is_image_name(name: str) -> bool:
    """Whether the name ends like a picture file."""
    return name.lower().endswith(IMAGE_SUFFIXES)


@dataclass
class ImageFolders:
    """The folders in which the pictures of a corpus are looked up, in this order; each is listed once.

    Attributes:
        folders: existing folders.
        files: pictures that lie elsewhere, by their names.
    """

    folders: Sequence[Path]
    files: dict[str, Path] = field(default_factory=dict)
    _listed: dict[Path, dict[str, bool]] = field(default_factory=dict, repr=False)

    def find(self, name: str) -> Path | None:
        """The file of a picture, or None where it is missing.

        The name itself comes first, then the name without the mark of a merged release, then other endings.

        Raises:
            DataError: the file is a link that leads out of its folder.
        """
        if name in self.files:
            return self.files[name]
        listings = {} if "/" in name else {folder: self._listing(folder) for folder in self.folders}
        for candidate in _candidates(name):
            for folder, names in listings.items():
                if candidate in names:
                    path = folder / candidate
                    return _contained(path, folder) if names[candidate] else path
            for folder in self.folders if not listings else ():
                if (path := folder / candidate).is_file():
                    return _contained(path, folder)
        return None

    def _listing(self, folder: Path) -> dict[str, bool]:
        """The names of a folder's files, and whether they are links."""
        if folder not in self._listed:
            with os.scandir(folder) as entries:
                self._listed[folder] = {entry.name: entry.is_symlink() for entry in entries if _is_file(entry)}
        return self._listed[folder]


def _candidates(name: str) -> Iterable[str]:
    names = [name, _MERGED.sub("", name, count=1)] if _MERGED.match(name) else [name]
    yield from names
    for each in names:
        stem = os.path.splitext(each)[0] if is_image_name(each) else each
        for suffix in IMAGE_SUFFIXES:
            if stem + suffix != each:
                yield stem + suffix


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link that goes round in a circle: whoever opens that one counts it as broken."""
    try:
        return entry.is_file()
    except OSError:
        return True


def _contained(path: Path, folder: Path) -> Path:
    try:
        path.stat()
    except OSError:
        return path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"picture {path} leads out of its folder.\nCopy the file into {folder}, or link the folder.")
    return path


def split_files(folder: Path, prefix: str = "", suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The files of a folder by split: `<prefix>train<suffix>` and so on, dev also `val`, `valid`.

    The suffixes are those of annotation files, unless given.

    Raises:
        DataError: two files could be the same split.
    """
    files_by_split: dict[str, Path] = {}
    for split, words in SPLIT_WORDS.items():
        names = [f"{prefix}{word}{suffix}" for word in words for suffix in suffixes]
        files = [folder / name for name in names if (folder / name).is_file()]
        if len(files) > 1:
            names = [file.name for file in files]
            raise DataError(f"{folder}: {' and '.join(names)} are both the {split} split.\nKeep one of them there.")
        if files:
            files_by_split[split] = files[0]
    return files_by_split


def loosely_named_files(folder: Path) -> dict[str, Path]:
    """Files that have their split somewhere in their names: `eng.train`, `train.char.bmes`, `posts_test.jsonl`.

    `testa` and `testb` are dev and test, as in CoNLL 2002 and 2003. A split that several files have is left out.
    """
    words = {word: split for split, names in SPLIT_WORDS.items() for word in names} | {"testa": "dev", "testb": "test"}
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        parts = re.split(r"[._-]", file.name.lower())
        splits = {words[part] for part in parts if part in words}
        ends = (*(suffix[1:] for suffix in (*SUFFIXES, *OTHER_SUFFIXES)), *words)
        if len(splits) == 1 and parts[-1] in ends and not file.name.startswith(".") and file.is_file():
            found.setdefault(splits.pop(), []).append(file)
    return {split: found[split][0] for split in SPLIT_WORDS if len(found.get(split, ())) == 1}


def image_folders(name: str, folder: Path, root: Path, own: bool) -> list[Path]:
    """The existing folders of pictures of a corpus, most specific first.

    Known layouts: `<root>/<name>_images`, `<root>/<name>/images`, `<root>/images` and the same around the annotation
    folder; the layout with grounded crops has `<name>_aux_images` beside `<name>_images` (see `crop_folder`). The
    merged release of MNER-MI-Plus adds `twitter2017_images`.

    Args:
        name: the corpus.
        folder: where its annotation files are.
        root: where the corpora are.
        own: a user's own folder, whose pictures may lie beside the annotation files.
    """
    bases = list(dict.fromkeys([folder, folder.parent, root] if folder != root else [root]))
    inside = [base / f"{name}_images" for base in bases] + [root / name / "images", folder / "images"]
    inside += [base / "images" for base in bases]
    if name == "mner-mi-plus":
        inside += [base / "twitter2017_images" for base in bases]
    if own:
        inside.append(folder)
    return [each for each in dict.fromkeys(inside) if each.is_dir()]


def crop_folder(name: str, folder: Path, root: Path) -> Path | None:
    """The folder of grounded crops (`<name>_aux_images`), where there is one."""
    for base in (folder, folder.parent, root):
        for each in (base / f"{name}_aux_images" / "crops", base / f"{name}_aux_images"):
            if each.is_dir():
                return each
    return None
