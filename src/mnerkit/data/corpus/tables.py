"""Corpora as tables (CSV, TSV), whose first row names the columns, as records of words and tags.

- **a word a row**: a word, its tag, and a column that numbers the sentences (`Sentence #`, `sentence_id`), or blank
  rows between posts; where that column is empty, the row belongs to the post above
- **a post a row**: lists of words and tags, written as Python or JSON lists or with blanks between them
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mnerkit.data.corpus.record_values import record_of
from mnerkit.data.corpus.records import MOST_SHOWN, RecordNotes
from mnerkit.data.corpus.text_lines import is_blank, lines
from mnerkit.errors import DataError, shown

_WORDS = ("words", "tokens", "word", "token", "text", "sentence")
_TAGS = ("ner_tags", "ner_tag", "ner_labels", "ner", "tags", "tag", "labels", "label", "bio_tags", "bio", "iob")
_POSTS = (
    *("sentence_id", "sentence_idx", "sentence_no", "sentence_number"),
    *("sent_id", "sent", "post_id", "tweet_id", "id"),
)
_PICTURES = ("images", "image")
_DELIMITERS = ",;\t"
_ACCEPTED = (
    "A table names its columns in the first row: words (or word, tokens, text), tags (or tag, label, ner_tags) and, "
    "with a word in each row, a column that numbers the posts (sentence_id)."
)


class _Row(NamedTuple):
    number: int  # of its first line
    cells: list[str]

    @property
    def blank(self) -> bool:
        return all(map(is_blank, self.cells))


class _Head(NamedTuple):
    """The names of a table's columns, and which of them are read."""

    names: list[str]
    words: int
    tags: int
    posts: int | None


def is_table(path: Path) -> bool:
    """Whether a file is a table of posts, by its name or its first line."""
    names = _plain_names(_first(lines(path)).split("\t"))
    return path.suffix == ".csv" or (_place(names, _WORDS) is not None and _place(names, _TAGS) is not None)


def table_records(path: Path, notes: RecordNotes | None) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Place (file and line), number of the line and content of the record of each post.

    Raises:
        DataError: with file and line: columns that are missing, rows of other widths, cells that can't be read, or
            posts whose rows do not stand together.
    """
    notes = RecordNotes() if notes is None else notes
    head_row, *rows = _rows(path)
    where = f"{path}:{head_row.number}"
    head = _head(head_row.cells, where)
    for row in rows:
        if len(row.cells) != len(head.names) and not row.blank:
            raise DataError(
                f"{path}:{row.number}: a row of {len(row.cells)} cells in a table of {len(head.names)} columns."
            )
    word, tag = (shown(head.names[place], 40) for place in (head.words, head.tags))
    if any(_is_list(row.cells[head.tags]) for row in rows if not row.blank):
        notes.take(f"tables with a post in each row: {word!r} was read as its words, {tag!r} as its tags")
        for row in rows:
            if not row.blank:
                where = f"{path}:{row.number}"
                yield where, row.number, _post(head, row.cells, where)
        return
    if head.posts is None and path.suffix == ".csv" and not any(row.blank for row in rows):
        raise DataError(f"{where}: none of the columns numbers the posts.\n{_columns(head.names)}. {_ACCEPTED}")
    parted = "blank rows" if head.posts is None else repr(shown(head.names[head.posts], 40))
    notes.take(
        f"tables with a word in each row: {word!r} was read as the word, {tag!r} as its tag, {parted} part posts"
    )
    for group in _posts(head, rows, path):
        yield f"{path}:{group[0].number}", group[0].number, _post_of_rows(head, group, path)


def _rows(path: Path) -> list[_Row]:
    """All rows, the blank ones before the head left out.

    Raises:
        DataError: with file and line: a quotation mark that is left open, or a cell that is too long.
    """
    numbered = list(lines(path))
    first = _first(numbered)
    delimiter = max(_DELIMITERS, key=first.count) if path.suffix == ".csv" else "\t"
    # a quotation mark that is a word stands alone where nothing is quoted
    plain = delimiter == "\t" and any(text.count('"') % 2 for _, text in numbered)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
    reader = csv.reader((text + "\n" for _, text in numbered), delimiter=delimiter, strict=True, quoting=quoting)
    rows: list[_Row] = []
    number = 1
    try:
        for cells in reader:
            row = _Row(number, cells)
            number = reader.line_num + 1
            if rows or not row.blank:
                rows.append(row)
    except csv.Error as wrong:
        raise DataError(f"{path}:{number}: no row of a table ({wrong}); is a quotation mark left open?") from None
    if not rows:
        raise DataError(f"{path} holds no posts.")
    return rows


def _first(numbered: Iterable[tuple[int, str]]) -> str:
    """The first line that is not blank."""
    return next((text for _, text in numbered if not is_blank(text)), "")


def _plain_names(cells: Sequence[str]) -> list[str]:
    """Names of columns in lower case, `Sentence #` as `sentence_id`."""
    return [re.sub(r"[ -]+", "_", cell.strip().lower().replace(" #", "_id")) for cell in cells]


def _place(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The column of the first of these names that there is."""
    return next((names.index(name) for name in wanted if name in names), None)


def _head(cells: Sequence[str], where: str) -> _Head:
    names = _plain_names(cells)
    words, tags = _place(names, _WORDS), _place(names, _TAGS)
    if words is None or tags is None:
        lacking = "holds words" if words is None else "holds tags"
        raise DataError(f"{where}: no column of the table {lacking}.\n{_columns(cells)}. {_ACCEPTED}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: a table with the column {shown(twice, 40)!r} twice.\n{_columns(cells)}.")
    return _Head([cell.strip() for cell in cells], words, tags, _place(names, _POSTS))


def _columns(names: Sequence[str]) -> str:
    more = " ..." if len(names) > MOST_SHOWN else ""
    return f"Its columns are {', '.join(shown(name, 40) or '(empty)' for name in names[:MOST_SHOWN])}{more}"


def _is_list(cell: str) -> bool:
    return cell.strip().startswith("[") or len(re.split(r"[\s,]+", cell.strip())) > 1


def _posts(head: _Head, rows: Sequence[_Row], path: Path) -> Iterator[list[_Row]]:
    """The rows of each post.

    Raises:
        DataError: a post goes on after another one.
    """
    group: list[_Row] = []
    ended: set[str] = set()
    name = ""
    for row in rows:
        if row.blank:
            this, begins = "", bool(group)
        else:
            this = row.cells[head.posts].strip() if head.posts is not None else ""
            begins = bool(this) and this != name and bool(group)
        if begins:
            yield group
            group = []
            ended.add(name)
        if this and this in ended:
            raise DataError(
                f"{path}:{row.number}: post {shown(this, 40)!r} goes on after another one.\nSort the rows by posts."
            )
        name = this or ("" if row.blank else name)
        if not row.blank:
            group.append(row)
    if group:
        yield group


def _post_of_rows(head: _Head, rows: Sequence[_Row], path: Path) -> dict[str, Any]:
    """The record of a post with a word in each row; what else stands in them is not read, but for its pictures."""
    for row in rows:
        if empty := [place for place in (head.words, head.tags) if is_blank(row.cells[place])]:
            what = "word" if empty[0] == head.words else "tag"
            raise DataError(f"{path}:{row.number}: the cell of the {what} is empty.")
    record: dict[str, Any] = {
        "words": [row.cells[head.words] for row in rows],
        "tags": [row.cells[head.tags].strip() for row in rows],
    }
    return {**record, **_pictures(head, rows[0].cells, f"{path}:{rows[0].number}")}


def _post(head: _Head, cells: Sequence[str], where: str) -> dict[str, Any]:
    """The record of a post that is one row."""
    record = {
        name: cell
        for place, (name, cell) in enumerate(zip(head.names, cells, strict=True))
        if place not in (head.words, head.tags, head.posts) and name.lower() not in _PICTURES and cell
    }
    # a number that parts the posts of one split names those of another one, too
    if head.posts is not None and head.names[head.posts].lower() == "id":
        record["id"] = cells[head.posts].strip()
    words, tags = _listed(cells[head.words], where), _listed(cells[head.tags], where, tags=True)
    return {**record, "words": words, "tags": tags, **_pictures(head, cells, where)}


def _pictures(head: _Head, cells: Sequence[str], where: str) -> dict[str, Any]:
    place = _place([name.lower() for name in head.names], _PICTURES)
    if place is None:
        return {}
    cell = cells[place].strip()
    names = _listed(cell, where) if cell.startswith("[") else [name.strip() for name in cell.split(";")]
    return {"images": [name for name in names if name]}


def _listed(cell: str, where: str, tags: bool = False) -> Any:
    """What a cell holds: a list of Python's or of JSON, else texts with blanks (tags: or commas) between them."""
    text = cell.strip()
    if text.startswith("[") and text.endswith("]") and text[1:2] in ("'", '"', "]", *"0123456789"):
        return record_of(text, where)
    return [part for part in re.split(r"[\s,]+" if tags else r"\s+", text) if part]
