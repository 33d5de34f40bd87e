"""Annotation files and records to posts.

Two formats, told apart by content:

- **IMGID/BIO** (Twitter-2015, Twitter-2017): `IMGID:<id>`, then `word<TAB>tag` lines, then a blank line. The picture
  is `<id>.jpg`.
- **records** (MNER-MI, MNER-MI-Plus): one object a line, `{"id", "text": [words], "label": [tags], "images": [names]}`,
  as JSON or, in the merged release, as a Python literal. A file that is one JSON list of such objects is read too. A
  record without `id` is called after its file and line (`train-7`). In a user's own corpus, spans of characters
  (`mnerkit.data.corpus.character_spans`) are read, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.annotation_tools import unwrapped
from mnerkit.data.corpus.character_spans import in_words
from mnerkit.data.corpus.corpus_files import ImageFolders, is_image_name, safe_name
from mnerkit.data.corpus.dataset_folders import is_dataset, rows, stem
from mnerkit.data.corpus.foreign_columns import Columns, chosen_columns, in_bio, is_plain, is_tag, spelled
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.record_values import MAX_LITERAL, record_of
from mnerkit.data.corpus.records import RecordNotes, keys_of, post_of
from mnerkit.data.corpus.tables import is_table, table_records
from mnerkit.data.corpus.tag_names import TagNames
from mnerkit.data.corpus.text_lines import beginning, decoded, is_blank, lines
from mnerkit.errors import DataError
from mnerkit.strict_json import loads

MAX_LIST = 64 << 20  # bytes of a file that is one JSON list

_TAG = re.compile(r"O|[BI]-\S+")


def read_posts(path: Path, *how: Any, **more: Any) -> list[Post]:
    """All posts of an annotation file; see `stream_posts`."""
    return list(stream_posts(path, *how, **more))


def stream_posts(
    path: Path,
    types: Collection[str] | None = None,
    folders: ImageFolders | None = None,
    notes: RecordNotes | None = None,
    columns: Columns | None = None,
) -> Iterator[Post]:
    """Posts of an annotation file in either format; pictures are named, not yet looked up, unless they have boxes.

    Args:
        path: the file.
        types: entity types that the tags may have; any where None.
        folders: where pictures with boxes are looked up.
        notes: what is noticed in records and is no fault.
        columns: which columns of a user's own file are read; recognised where None.

    Raises:
        DataError: with file and line, where the file is not what the format asks, or holds no post.
    """
    first = "{" if is_dataset(path) else beginning(path).lstrip()
    own = types is None and notes is not None  # a user's own corpus, perhaps of another layout
    records_in = first[:1] in ("{", "[")
    if records_in or (own and is_table(path)):
        if columns is not None:
            what = "records, which have no columns" if records_in else "a table, which names its columns"
            raise DataError(f"{path} holds {what}.\nLeave out --data.columns.")
        posts = read_records(path, types, folders, notes, table=not records_in)
    elif own and notes is not None and (columns is not None or not is_plain(lines(path))):
        body, named = chosen_columns(list(lines(path)), path, notes, columns)
        posts = bio_posts(body, str(path), any_scheme=True)
        posts = in_bio(posts if named else (replace(post, images=()) for post in posts), notes)
    else:
        posts = read_bio(path, types)
    empty = True
    for post in posts:
        empty = False
        yield post
    if empty:
        raise DataError(f"{path} holds no posts.")


def read_records(
    path: Path,
    types: Collection[str] | None = None,
    folders: ImageFolders | None = None,
    notes: RecordNotes | None = None,
    table: bool = False,
) -> Iterator[Post]:
    """Posts of a file of records or of a table, each with its tags; pictures are looked up where boxes need their size.

    Raises:
        DataError: with file and line: neither JSON nor a Python literal, a missing or malformed value or tag.
    """
    own = types is None and notes is not None  # a user's own corpus, perhaps of another tool's making
    names = TagNames(path, notes)
    kinds: set[str] = set()  # of tags, as `spelled` counts them
    checked: set[str] = set()  # tags

    def posts() -> Iterator[Post]:
        given = (
            rows(path, notes, folders) if is_dataset(path) else table_records(path, notes) if table else records(path)
        )
        for where, number, record in given:
            parts = unwrapped(record, where, notes) if own and notes is not None else (record,)
            for part, plain in enumerate(parts, 1):
                if own and notes is not None:
                    plain = in_words(plain, where, notes)
                plain = names.named(plain, where)
                if own and notes is not None:
                    plain = spelled(plain, where, notes, kinds)
                # an id unlike that of any record of another split
                default = f"{stem(path)}-{number}" + (f".{part}" if part > 1 else "")
                post = post_of(plain, where, default, folders if _has_boxes(plain) else None, notes)
                if post.tags is None:
                    raise DataError(f"{where}: no tags.\n{keys_of(plain)}; a corpus needs 'tags', one BIO tag a word.")
                if not checked.issuperset(post.tags):
                    check_tags([tag for tag in post.tags if not (own and is_tag(tag))], where, types)
                    checked.update(post.tags)
                yield post

    yield from in_bio(posts(), notes) if own and notes is not None else posts()


def _has_boxes(record: Any) -> bool:
    return isinstance(record, dict) and record.get("boxes") is not None


def read_bio(path: Path, types: Collection[str] | None = None) -> Iterator[Post]:
    """Posts of an IMGID/BIO file. A last post without the final blank line counts, extra blank lines do not matter.

    Raises:
        DataError: with file and line: a word before an `IMGID:` line, another number of columns, a malformed tag.
    """
    yield from bio_posts(lines(path), str(path), types)


def bio_posts(
    numbered: Iterable[tuple[int, str]], path: str, types: Collection[str] | None = None, any_scheme: bool = False
) -> Iterator[Post]:
    """Posts of the numbered lines of an IMGID/BIO file, as `read_bio` returns them.

    `any_scheme`: whether the tags may be those of BIOES and the like, which stay as they are.
    """
    words: list[str] = []
    tags: list[str] = []
    checked: set[str] = set()  # tags
    id_, closed = "", True
    for number, text in numbered:
        word, _, tag = text.partition("\t")
        if tag in checked and word and not closed:
            words.append(word)
            tags.append(tag)
        elif text.startswith("IMGID:") and "\t" not in text:
            if words:
                yield _bio_post(id_, words, tags)
            elif not closed:
                raise DataError(f"{path}:{number}: the post before this line, IMGID:{id_}, has no words.")
            id_, words, tags, closed = text[len("IMGID:") :].strip(" "), [], [], False
            safe_name(id_, f"{path}:{number}")
        elif is_blank(text):
            closed = closed or bool(words)
        else:
            word, *columns = text.split("\t")
            if len(columns) != 1 or not word:
                raise DataError(
                    f"{path}:{number}: expected word<TAB>tag, found {len(columns) + 1} columns in {text[:60]!r}."
                )
            if closed:
                raise DataError(
                    f"{path}:{number}: the word {word[:40]!r} belongs to no post.\nAn IMGID: line is missing."
                )
            if not (any_scheme and is_tag(columns[0])):
                check_tags(columns, f"{path}:{number}", types)
            checked.update(columns)
            words.append(word)
            tags.append(columns[0])
    if words:
        yield _bio_post(id_, words, tags)
    elif not closed:
        raise DataError(f"{path}: a post, IMGID:{id_}, has no words.")


def _bio_post(id_: str, words: list[str], tags: list[str]) -> Post:
    name = id_ if is_image_name(id_) else f"{id_}.jpg"
    return Post(id_, tuple(words), tuple(tags), (ImageRef(name),))


def check_tags(tags: Collection[str], where: str, types: Collection[str] | None = None) -> None:
    """Refuse what is no BIO tag.

    Args:
        tags: those of a post.
        where: file and line, for messages.
        types: entity types that they may have; any where None.

    Raises:
        DataError: naming the first such tag.
    """
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise DataError(f"{where}: {tag[:40]!r} is not a tag.\nTags are O, B-<type> and I-<type>.")
        if types is not None and tag != "O" and tag[2:] not in types:
            raise DataError(f"{where}: tag {tag[:40]!r} has none of the types {', '.join(types)}.")


def records(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Place (file and line), number and value of each record: one a line, or a JSON list over the whole file.

    Raises:
        DataError: with file and line, as the records are read; a list of more than `MAX_LIST` bytes.
    """
    first = beginning(path).strip()
    # an object that goes on in the next line
    if (first[:1] == "{" and first[-1] in "{[,") or (first.startswith("[") and not _is_pair(first)):
        yield from ((f"{path}, record {n}", n, record) for n, record in enumerate(_whole(path), 1))
        return
    for number, text in lines(path):
        if not is_blank(text):
            yield f"{path}:{number}", number, record_of(text, f"{path}:{number}")


def _whole(path: Path) -> list[Any]:
    try:
        size = path.stat().st_size
        if size > MAX_LIST:
            raise DataError(
                f"{path}: a JSON list of {size} bytes; the limit is {MAX_LIST}.\nWrite one record a line instead."
            )
        text = decoded(path.read_bytes(), path, 1)
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None
    try:
        content = loads(text)
    except (ValueError, RecursionError) as wrong:
        if not text.lstrip().startswith("[(") or len(text) > MAX_LITERAL:
            raise DataError(f"{path}: not a JSON list: {wrong}.") from None
        content = record_of(text, str(path))  # pairs of Python's
    return content if isinstance(content, list) else [content]


def _is_pair(line: str) -> bool:
    """Whether a line is a record of its own, a pair of a text and an object, as spaCy has them."""
    try:
        content = loads(line)
    except (ValueError, RecursionError):
        return False
    return len(content) == 2 and isinstance(content[0], str) and isinstance(content[1], dict)
