"""Posts to tag: from a file, or as records, with what the user knows of their pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from mnerkit.data.batches.input_reader import Form, InputReader
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.readers import check_tags
from mnerkit.data.corpus.records import RecordNotes, post_of
from mnerkit.errors import DataError, UsageError

_log = logging.getLogger("mnerkit.data")

# of inputs whose content doesn't tell: as `--input_format` names them, and as files end
FORMATS: dict[str, Form] = {"jsonl": "lines", "csv": "csv", "tsv": "tsv", "text": "texts"}
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".txt": "text"}


def read_input(path: Path | str, image_root: Path | str | None = None) -> Iterator[Post]:
    """Posts to tag, read as they are asked for: records as `post_of` takes them, IMGID/BIO, or as `form_of` says.

    A `text` that is one string is split by `mnerkit.data.corpus.tweet_tokenizer.split_text`, and the post keeps it
    with the offsets of its words. Without `id` a post gets its line number.

    Args:
        path: the file.
        image_root: folder of the pictures; the file's own folder where None.

    Raises:
        DataError: with file and line, as the posts are read.
    """
    path = Path(path)
    folders = picture_folder(Path(image_root) if image_root is not None else path.parent)
    notes = RecordNotes()
    try:
        with open(path, "rb") as stream:
            reader = input_reader(stream, str(path), folders, notes=notes, form=form_of(path))
            yield from reader.posts()
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None
    for remark in reader.remarks():
        _log.warning("%s", remark)
    for remark in notes.remarks():
        _log.warning("%s: %s", path, remark)


def form_of(path: Path | str, asked: str | None = None) -> Form:
    """The form of an input whose content doesn't tell it: what was asked for, else by its name, else JSON lines.

    Raises:
        UsageError: no such format.
    """
    name = _SUFFIXES.get(Path(path).suffix.lower(), "jsonl") if asked is None else asked
    if name not in FORMATS:
        raise UsageError(f"input format {name!r}: give one of {', '.join(FORMATS)}")
    return FORMATS[name]


def input_reader(
    stream: BinaryIO,
    name: str,
    folders: ImageFolders,
    check: Callable[[Post], None] | None = None,
    notes: RecordNotes | None = None,
    form: Form = "lines",
    characters: bool = False,
) -> InputReader:
    """A reader of posts to tag.

    Args:
        stream: the input, open in binary mode.
        name: what it is called in messages.
        folders: where its pictures are looked up.
        check: raises a `DataError` about a post that the method can't read.
        notes: counts keys of records that are not read.
        form: the form of an input that neither begins with `IMGID:` nor looks like JSON.
        characters: whether each Chinese character or kana of a text is a word.
    """

    def post(record: Any, where: str, number: str) -> Post:
        if isinstance(record, Post):  # of columns
            found = tuple(replace(ref, path=folders.find(ref.name)) for ref in record.images)
            read = replace(record, images=found)
        else:
            read = post_of(record, where, number, folders, notes, characters)
            check_tags(read.tags or (), where)
        if check is not None:
            check(read)
        return read

    return InputReader(stream, name, post, form)


def picture_folder(folder: Path) -> ImageFolders:
    """The folder in which the pictures of an input are looked up.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder of pictures {folder}.")
    return ImageFolders([folder])
