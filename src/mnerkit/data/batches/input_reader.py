"""Posts to tag, read in blocks of lines from a file or a pipe: what can be read, and what is wrong with the rest.

After each block the reader knows its place: how many lines and bytes it has read, and their digest. A later reader goes
on from there, if the input still begins with the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import Field

from mnerkit.data.corpus.foreign_columns import is_tag
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.readers import MAX_LIST, bio_posts
from mnerkit.data.corpus.record_values import record_of
from mnerkit.data.corpus.records import KEYS, MOST_SHOWN
from mnerkit.data.corpus.text_lines import MAX_LINE, decoded, is_blank
from mnerkit.errors import DataError, shown
from mnerkit.strict_json import loads
from mnerkit.validation import Content

BLOCK_LINES = 4096  # lines of a block; posts where a post has several lines
BLOCK_BYTES = 16 << 20  # a block ends here at the latest, so that long lines don't fill the memory

Form = Literal["", "lines", "columns", "list", "texts", "csv", "tsv"]
DELIMITERS = {"csv": ",", "tsv": "\t"}
# of a table's columns: names that are read as others, those that hold words or tags, and what separates pictures
_COLUMN_NAMES = {"image": "images", "caption": "captions"}
_OF_WORDS = ("words", "tokens", "tags", "label", "ner_tags")
_BETWEEN_PICTURES = ";"

_MARK = b"\xef\xbb\xbf"  # byte order mark
_POST = b"IMGID:"


class Place(Content):
    """How far an input has been read.

    Attributes:
        lines: number of lines, or of records of a JSON list.
        size: number of bytes.
        digest: SHA-256 of these bytes (of a list: of its records), as hex.
        form: `lines` (a record each), `columns` (IMGID/BIO), `list` (one JSON list), `texts` (a post's text each), or
            `csv` and `tsv` (tables with a head); empty before the first line.
        head: names of a table's columns.
    """

    lines: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=0)] = 0
    digest: str = hashlib.sha256().hexdigest()
    form: Form = ""
    head: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class BadLine:
    """A line, or a post of several lines, that can't be read.

    Attributes:
        line: its number, from 1.
        error: what is wrong, without the place.
        where: the place, file and line.
        id: the record's own id, where it could be read.
    """

    line: int
    error: str
    where: str
    id: str | None = None

    @property
    def message(self) -> str:
        """What is wrong, and where."""
        return f"{self.where}: {self.error}"

    @property
    def row(self) -> dict[str, Any]:
        """The record that stands for it in the output."""
        return {
            **({} if self.id is None else {"id": self.id}),
            "line": self.line,
            "error": " ".join(self.error.split()),
        }


class InputReader:
    """Reads posts to tag from a stream that is open in binary mode.

    Args:
        stream: the input; it need not be seekable.
        name: what it is called in messages.
        post: makes the post of a record (which is given with its place and number), or completes one of columns; it
            raises a `DataError` about what can't be read.
        form: the form of an input that neither begins with `IMGID:` nor looks like JSON.

    Attributes:
        place: how far it has read; complete blocks only.
    """

    def __init__(
        self, stream: BinaryIO, name: str, post: Callable[[Any, str, str], Post], form: Form = "lines"
    ) -> None:
        self.name, self.place, self._form = name, Place(), form
        self._stream, self._post = stream, post
        self._ahead: bytes | None = None  # a line that was read and belongs to what comes next
        self._lines, self._size, self._digest = 0, 0, hashlib.sha256()

    def go_to(self, place: Place) -> None:
        """Pass over what an earlier reader has read.

        Raises:
            DataError: the input begins with other bytes.
        """
        whole = place.form == "list"
        left = 0 if whole else place.size
        while left and (content := self._stream.read(min(left, MAX_LINE))):
            left -= len(content)
            self._count(content, 0)
        if not whole and (self._size, self._digest.hexdigest()) != (place.size, place.digest):
            raise DataError(self._changed(place))
        self.place, self._lines = place, place.lines

    def _changed(self, place: Place) -> str:
        return (
            f"{self.name} has changed within its first {place.lines} lines, of which the output is finished.\n"
            "Give the same input, or --overwrite without --resume to begin anew."
        )

    def blocks(self, lines: int = BLOCK_LINES, size: int = BLOCK_BYTES) -> Iterator[list[Post | BadLine]]:
        """Blocks of at most `lines` lines (posts, where a post has several) and about `size` bytes.

        A block without posts (blank lines) is empty.
        """
        block: list[Post | BadLine] = []
        count, start = 0, self._size
        for item in self._items():
            count += 1
            if item is not None:
                block.append(item)
            if count == lines or (self._size - start >= size and self.place.form != "list"):
                yield self._ended(block)
                block, count, start = [], 0, self._size
        if count:
            yield self._ended(block)

    def _ended(self, block: list[Post | BadLine]) -> list[Post | BadLine]:
        read = {"lines": self._lines, "size": self._size, "digest": self._digest.hexdigest()}
        self.place = self.place.model_copy(update=read)
        return block

    def posts(self) -> Iterator[Post]:
        """The posts.

        Raises:
            DataError: with file and line, as the posts are read.
        """
        for item in self._items():
            if isinstance(item, BadLine):
                raise DataError(item.message)
            if item is not None:
                yield item

    # ------------------------------------------------------------------ lines

    def _items(self) -> Iterator[Post | BadLine | None]:
        """What each line (or post of several lines) holds; None of a blank line."""
        while not self.place.form and (raw := self._next()) is not None:
            text = raw.removeprefix(_MARK) if not self._lines else raw
            if not text.strip(b" \t\r\n"):
                self._count(raw)
                yield None
                continue
            form = self._form_of(text)
            self._ahead, self.place = raw, self.place.model_copy(update={"form": form})
            if form == "list":  # whose records are counted, not its lines
                self._lines, self._size, self._digest = 0, 0, hashlib.sha256()
        readers = {
            **{"": self._none, "lines": self._records, "texts": self._records, "columns": self._columns},
            **{"list": self._list, "csv": self._table, "tsv": self._table},
        }
        yield from readers[self.place.form]()

    def _form_of(self, first: bytes) -> Form:
        """The form of an input, by its first line that is not blank."""
        if first.startswith(_POST):
            return "columns"
        start = first.lstrip()[:1]
        if self._form in DELIMITERS and start != b"{":
            return self._form
        tagged = is_tag(first.decode("utf-8", "replace").split()[-1])
        return "list" if start == b"[" else "lines" if start == b"{" or tagged else self._form

    def remarks(self) -> Iterator[str]:
        """What the input was taken for, where its lines don't say it themselves."""
        if self.place.form == "texts":
            yield f"{self.name}: each line was read as the text of a post"
        elif self.place.form in DELIMITERS:
            yield f"{self.name} was read as a table of the columns {', '.join(map(shown, self.place.head))}"

    def _none(self) -> Iterator[None]:
        yield from ()

    def _next(self) -> bytes | None:
        """The next line, not yet counted; of one that is too long, the first `MAX_LINE` + 1 bytes."""
        raw, self._ahead = self._ahead, None
        try:
            return raw or self._stream.readline(MAX_LINE + 1) or None
        except OSError as problem:
            raise DataError(f"{self.name} can't be read: {problem.strerror}.") from None

    def _count(self, raw: bytes, lines: int = 1) -> None:
        self._digest.update(raw)
        self._size += len(raw)
        self._lines += lines

    def _text(self, raw: bytes) -> str:
        """Count a line, and return its text without the line end."""
        self._count(raw)
        number = self._lines
        if len(raw) > MAX_LINE:
            while not raw.endswith(b"\n") and (raw := self._stream.readline(MAX_LINE)):
                self._count(raw, 0)
            raise DataError(f"{self.name}:{number}: the line is longer than {MAX_LINE} bytes.")
        return decoded(raw, self.name, number).removesuffix("\n").removesuffix("\r")

    def _records(self) -> Iterator[Post | BadLine | None]:
        while (raw := self._next()) is not None:
            record: Any = None
            number = self._lines + 1
            where = f"{self.name}:{number}"
            try:
                text = self._text(raw)
                if is_blank(text):
                    yield None
                    continue
                record = {"text": text} if self.place.form == "texts" else record_of(text, where)
                yield self._post(record, where, str(number))
            except DataError as problem:
                yield self._bad(problem, number, where, record)

    def _columns(self) -> Iterator[Post | BadLine | None]:
        while (raw := self._next()) is not None:
            number, start = self._lines + 1, raw.removeprefix(_MARK)
            id_: str | None = None
            lines: list[tuple[int, str]] = []
            problem: DataError | None = None
            while raw is not None:
                try:
                    lines.append((self._lines + 1, self._text(raw)))
                except DataError as wrong:
                    problem = problem or wrong
                raw = self._next()
                if raw is not None and raw.startswith(_POST) and b"\t" not in raw:
                    self._ahead = raw
                    break
            try:
                if problem is not None:
                    raise problem
                for post in bio_posts(lines, self.name):
                    yield self._post(post, f"{self.name}:{number}", post.id)
            except DataError as wrong:
                if lines and start.startswith(_POST):
                    id_ = lines[0][1].removeprefix("IMGID:").strip(" ")
                yield self._bad(wrong, number, f"{self.name}:{number}", {"id": id_} if id_ else None)

    def _table(self) -> Iterator[Post | BadLine | None]:
        """The posts of a table, whose first row names its columns."""
        rows = csv.reader(iter(self._table_line, None), delimiter=DELIMITERS[self.place.form], strict=True)
        while True:
            number, record = self._lines + 1, None
            where = f"{self.name}:{number}"
            try:
                cells = next(rows, None)
                if cells is None:
                    return
                if not any(map(str.strip, cells)):
                    yield None
                elif not self.place.head:
                    self.place = self.place.model_copy(update={"head": _head(cells, where)})
                    yield None
                else:
                    record = _cells_as_record(self.place.head, cells, where)
                    yield self._post(record, where, str(number))
            except csv.Error as wrong:
                problem = DataError(f"{where}: no row of a table: {wrong}. Is a quotation mark left open?")
                yield self._bad(problem, number, where, None)
            except DataError as wrong:
                if not self.place.head:  # without which no row can be read
                    raise
                yield self._bad(wrong, number, where, record)

    def _table_line(self) -> str | None:
        raw = self._next()
        return None if raw is None else self._text(raw).removeprefix("\ufeff") + "\n"

    def _list(self) -> Iterator[Post | BadLine | None]:
        """The records of a JSON list, which is read whole."""
        content = b""
        while len(content) <= MAX_LIST and (raw := self._ahead or self._stream.read(MAX_LIST + 1 - len(content))):
            content, self._ahead = content + raw, None
        if len(content) > MAX_LIST:
            raise DataError(
                f"{self.name}: a JSON list of more than {MAX_LIST} bytes, which is the limit."
                "\nWrite one record a line instead."
            )
        try:
            records = loads(decoded(content, self.name, 1))
        except (ValueError, RecursionError) as wrong:
            raise DataError(f"{self.name}: not a JSON list: {wrong}.") from None
        done = self._lines
        for number, record in enumerate(records, 1):
            self._count(json.dumps(record).encode(), number - self._lines)
            if number == done and self._digest.hexdigest() != self.place.digest:
                raise DataError(self._changed(self.place))
            if number > done:
                where = f"{self.name}, record {number}"
                try:
                    yield self._post(record, where, str(number))
                except DataError as problem:
                    yield self._bad(problem, number, where, record)

    def _bad(self, problem: DataError, number: int, where: str, record: Any) -> BadLine:
        """The line of an error; the message of the error may name its place itself."""
        text = str(problem).encode("utf-8", "backslashreplace").decode()
        inside = re.match(re.escape(self.name) + r"(:\d+)?: ", text)
        if inside:
            where, text = inside.group().removesuffix(": "), text[inside.end() :]
        id_ = record.get("id") if isinstance(record, dict) else None
        known = isinstance(id_, str | int) and not isinstance(id_, bool) and id_ != ""
        id_text = str(id_).encode("utf-8", "backslashreplace").decode() if known else None
        return BadLine(number, text.removeprefix(f"{where}: "), where, id_text)


def _head(cells: Sequence[str], where: str) -> list[str]:
    """The names of a table's columns.

    Raises:
        DataError: one stands twice, or no column holds texts or words.
    """
    names = [cell.strip() for cell in cells]
    head = [_COLUMN_NAMES.get(name.lower(), name.lower() if name.lower() in KEYS else name) for name in names]
    found = f"Its columns are {', '.join(map(shown, names[:MOST_SHOWN]))}"
    if len(set(head)) < len(head):
        twice = next(name for name in head if head.count(name) > 1)
        raise DataError(f"{where}: a table with the column {shown(twice)} twice.\n{found}.")
    if not {"text", "words", "tokens"} & {*head}:
        raise DataError(
            f"{where}: the first row of a table names its columns, and none is 'text' or 'words'.\n{found}; accepted "
            "are id, text or words, images and captions."
        )
    return head


def _cells_as_record(head: Sequence[str], cells: Sequence[str], where: str) -> dict[str, Any]:
    """A row of a table as a record; empty cells are left out, but for a text's."""
    if len(cells) != len(head):
        raise DataError(f"{where}: a row of {len(cells)} cells in a table of {len(head)} columns.")
    record: dict[str, Any] = {}
    for name, cell in zip(head, cells, strict=True):
        if name in _OF_WORDS:
            record[name] = cell.split()
        elif name == "images":
            record[name] = [each.strip() for each in cell.split(_BETWEEN_PICTURES) if each.strip()]
        elif name == "captions":
            record[name] = [cell] if cell else []
        elif cell or name == "text":
            record[name] = cell
    return record
