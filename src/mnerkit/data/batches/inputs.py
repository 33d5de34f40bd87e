"""Posts to tag: from a file, or as records, with what the user knows of their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from mnerkit.data.batches.input_reader import InputReader
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.readers import check_tags, post_of
from mnerkit.data.pictures.boxes import PictureBoxes, Score, placed
from mnerkit.data.pictures.objects import surest
from mnerkit.errors import DataError
from mnerkit.validation import Line, ListOf, validated


def read_input(path: Path | str, image_root: Path | str | None = None) -> Iterator[Post]:
    """Posts to tag, read as they are asked for: records as `input_post` takes them, or IMGID/BIO.

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
    try:
        with open(path, "rb") as stream:
            yield from input_reader(stream, str(path), folders).posts()
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None


def input_reader(
    stream: BinaryIO, name: str, folders: ImageFolders, check: Callable[[Post], None] | None = None
) -> InputReader:
    """A reader of posts to tag.

    Args:
        stream: the input, open in binary mode.
        name: what it is called in messages.
        folders: where its pictures are looked up.
        check: raises a `DataError` about a post that the method can't read.
    """

    def post(record: Any, where: str, number: str) -> Post:
        if isinstance(record, Post):  # of columns
            found = tuple(replace(ref, path=folders.find(ref.name)) for ref in record.images)
            read = replace(record, images=found)
        else:
            read = input_post(record, where, number, folders)
            check_tags(read.tags or (), where)
        if check is not None:
            check(read)
        return read

    return InputReader(stream, name, post)


def picture_folder(folder: Path) -> ImageFolders:
    """The folder in which the pictures of an input are looked up.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder of pictures {folder}.")
    return ImageFolders([folder])


class _Relevance(Line):
    """A record's relevance scores, one a picture."""

    relevance: ListOf[Score] | None = None


def input_post(record: Any, where: str, default_id: str, folders: ImageFolders) -> Post:
    """The post of one record, with the objects in its pictures and their relevance where it says them.

    Args:
        record: as `post_of` takes it. Besides, all optional: `boxes`, for each image a list of objects, or an object
            with `objects`, `unit` and `size` as a line of a box file has them, or None; `unit` of these boxes, pixels
            where there is none; `relevance`, for each image a score from 0 to 1.
        where: file and line, for messages.
        default_id: the id where the record has none.
        folders: where its pictures are looked up.

    Raises:
        DataError: a value is not what it should be, or a box lies outside its picture.
    """
    post = post_of(record, where, default_id, folders)
    _one_each(record, "relevance", post, where)
    scores = validated(_Relevance, record, where).relevance or ()
    images = list(post.images)
    for place, given in enumerate(_one_each(record, "boxes", post, where)):
        row = given if isinstance(given, dict) else {"objects": [] if given is None else given}
        row = {"unit": record.get("unit", "pixels"), **row, "where": where}
        boxes = validated(PictureBoxes, row, f"{where}: boxes of {images[place].name}")
        known = placed(boxes, images[place], Counter())
        images[place] = replace(images[place], objects=surest([each for each in known if each is not None]))
    for place, score in enumerate(scores):
        images[place] = replace(images[place], relevance=score)
    return replace(post, images=tuple(images))


def _one_each(record: dict[str, Any], key: str, post: Post, where: str) -> Sequence[Any]:
    """The list under `key`, one value an image; empty where there is none."""
    given = record.get(key)
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise DataError(f"{where}: {key!r} must be a list, one value for each image, found {type(given).__name__}.")
    if len(given) != len(post.images):
        raise DataError(
            f"{where}: {len(post.images)} images but {len(given)} values of {key!r}; give one for each, in order."
        )
    return given
