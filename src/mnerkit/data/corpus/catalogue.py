"""The corpora that are known by name, and where their annotation files are found.

A corpus is looked up below a root folder as

- `<root>/<name>/`, `<root>/variants/<name>-<variant>/`, `<root>/variants/<variant>/` with `train`, `valid` (or `val`,
  `dev`) and `test` as `.txt`, `.json` or `.jsonl`;
- `MNER-MI_*.txt` and `MNER-UNI_*.txt` (MNER-MI-Plus) in `<root>`, `<root>/text`, or the corpus's own folder;
- the root itself, where it bears the corpus's name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mnerkit.data.corpus.corpus_files import OTHER_SUFFIXES, SUFFIXES, loosely_named_files, split_files
from mnerkit.data.corpus.dataset_folders import HUB, dataset_files, hub_folder
from mnerkit.errors import DataError, UsageError, did_you_mean, shown


@dataclass(frozen=True)
class Entry:
    """A corpus that is known by name.

    Attributes:
        about: one line for a list of corpora.
        prefix: what its file names begin with in its own release.
    """

    about: str
    prefix: str = ""


CORPORA = {
    "probe": Entry("generated posts and pictures; needs no files"),
    "twitter2015": Entry("8,257 tweets with one picture each (Zhang et al. 2018)"),
    "twitter2017": Entry("4,819 tweets with one picture each (Lu et al. 2018, Yu et al. 2020)"),
    "mner-mi": Entry("8,576 tweets with several pictures (Huang et al. 2024)", "MNER-MI_"),
    "mner-mi-plus": Entry("MNER-MI and Twitter-2017 together (Huang et al. 2024)", "MNER-UNI_"),
}


@dataclass(frozen=True)
class Place:
    """Where a corpus was found: its folder, the root, its annotation files, and whether it is a user's own folder."""

    name: str
    folder: Path
    root: Path
    files: dict[str, Path]
    own: bool


def find_corpus(name: str, root: str | Path | None = None, variant: str | None = None) -> Place:
    """Find the annotation files of a corpus.

    Raises:
        UsageError: no such corpus or variant.
        DataError: no such folder, no annotation files in it, or two files for one split.
    """
    base = Path(root) if root is not None else Path(os.environ.get("MNERKIT_DATA") or "data")
    if name not in CORPORA:
        return _own(name, base if root is not None else None, variant)
    if root is not None and not base.is_dir():
        raise DataError(f"there is no folder {base}.\nGive the folder that holds {name} (--root, --data.root).")
    prefix = CORPORA[name].prefix
    if variant is not None:
        tried = [base / "variants" / f"{name}-{variant}", base / "variants" / variant]
        _check_variant(name, variant, base, tried)
    else:
        tried = [base / name]
        if prefix:
            tried += [base / name / "text", base / "text", base]
        if base.name == name and base not in tried:
            tried.append(base)
    named = base.name == name
    for folder in tried:
        # A folder that serves several corpora says by the prefix which one a file belongs to.
        common = prefix and (folder == base / "text" or (folder == base and not named))
        for each in [prefix] if common or not prefix else [prefix, ""]:
            files = split_files(folder, each)
            if files:
                return Place(name, folder, base.parent if folder == base and named else base, files, False)
    where = ", ".join(str(folder) for folder in tried)
    raise DataError(
        f"no annotation files of {name} in {where}.\n"
        "Give the folder that holds them (--root, --data.root, or MNERKIT_DATA), or use the corpus probe,"
        " which needs no files."
    )


def _own(name: str, base: Path | None, variant: str | None) -> Place:
    """A user's own folder: a path, or a folder below the root."""
    if not name:
        raise UsageError(f"no corpus is named: {', '.join(CORPORA)}, or the path of a folder.")
    if name.startswith(HUB):
        fetched = hub_folder(name)
        if files := dataset_files(fetched):
            return Place(name.rpartition("/")[2], fetched, base or fetched.parent, files, True)
        raise DataError(f"{name} has no train, validation or test split; it holds {_content(fetched)}.")
    paths = [Path(name)] if base is None else [base / name, Path(name)]
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is None:
        if any(path.is_file() for path in paths):
            raise UsageError(f"{name} is a file.\nGive the folder that holds train, valid and test.")
        if len(Path(name).parts) > 1:
            raise DataError(
                f"there is no folder {name}.\nGive a corpus ({', '.join(CORPORA)}) or an existing folder; "
                f"a data set of the Hugging Face hub is {HUB}{name}."
            )
        raise UsageError(
            f"no corpus {name!r}: {', '.join(CORPORA)}, or the path of a folder.{did_you_mean(name, CORPORA)}"
        )
    if variant is not None:
        raise UsageError(
            f"a folder has no variants, but variant {variant!r} was given.\nGive the variant's own folder."
        )
    for prefix in ("", *(entry.prefix for entry in CORPORA.values() if entry.prefix)):
        # files of the usual names first, so that others beside them change nothing
        files = split_files(folder, prefix, OTHER_SUFFIXES) | split_files(folder, prefix)
        if files:
            name = folder.resolve().name
            return Place(name, folder, base if base is not None else folder.parent, files, True)
    if files := dataset_files(folder) or loosely_named_files(folder):
        return Place(folder.resolve().name, folder, base if base is not None else folder.parent, files, True)
    suffixes = ", ".join(SUFFIXES + OTHER_SUFFIXES)
    raise DataError(
        f"no annotation files in {folder}; it holds {_content(folder)}.\n{_way_out(folder)}"
        f"They are to be called train, valid (or validation, dev) and test, with {suffixes}, "
        "or the folder is a data set of the library `datasets`."
    )


# files that are not read, and what to do with them
_UNREAD = {
    **dict.fromkeys((".gz", ".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z"), "Unpack {} first. "),
    ".spacy": "{} is spaCy's DocBin: write its documents as JSON lines, doc.to_json(), or as columns. ",
    ".ann": "{} is brat's: write the posts as JSON lines with 'text' and 'label', [[start, end, type]]. ",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "Save {} as CSV. "),
    ".xml": "{} is XML: write its posts as records or columns. ",
}


def _way_out(folder: Path) -> str:
    """What to do with the first file of a folder, or of one below it, that another tool has written."""
    files = [
        *folder.iterdir(),
        *(file for each in sorted(folder.iterdir()) if each.is_dir() for file in each.iterdir()),
    ]
    found = next((file for file in sorted(files) if file.suffix in _UNREAD), None)
    return _UNREAD[found.suffix].format(shown(found.name, 40)) if found else ""


def _content(folder: Path) -> str:
    """The first names of a folder."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(shown(name, 40) for name in names[:8]) + (" ..." if len(names) > 8 else "") if names else "nothing"


def _check_variant(name: str, variant: str, base: Path, tried: list[Path]) -> None:
    if Path(variant).name != variant or variant in (".", ".."):
        raise UsageError(f"variant {variant!r} is not a name.\nIt is a folder below {base / 'variants'}.")
    if not any(folder.is_dir() for folder in tried):
        inside = base / "variants"
        there = sorted(path.name for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []
        names = [each.removeprefix(f"{name}-") for each in there if each.startswith(f"{name}-")]
        existing = f"there are {', '.join(names)}" if names else f"{inside} holds none of {name}"
        raise UsageError(f"no variant {variant!r} of {name}: {existing}.{did_you_mean(variant, names)}")
