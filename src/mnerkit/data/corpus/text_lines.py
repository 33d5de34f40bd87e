"""Lines of UTF-8 files that people write: numbered, checked, and of limited length.

Lines end at a line feed and nowhere else: the tweets hold C1 control characters, no-break spaces and zero-width
characters that `str.splitlines` and `str.split` would cut at.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError
from mnerkit.strict_json import loads

MAX_LINE = 1 << 20  # bytes of one line: thousands of times a tweet
_BEGINNING = 4096
_BLOCK = 1 << 16  # bytes that are decoded at once


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file, without their line end; a byte order mark is dropped.

    Raises:
        DataError: the file can't be read, a line is not UTF-8, has a NUL, or is longer than `MAX_LINE` bytes.
    """
    try:
        with open(path, "rb") as handle:
            number = 1
            # a block of whole lines, of which the last may be a long one
            while block := handle.read(_BLOCK) + handle.readline(MAX_LINE + 1):
                yield from _decoded_lines(block, path, number)
                number += block.count(b"\n")
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None


def _decoded_lines(block: bytes, path: Path, first: int) -> Iterator[tuple[int, str]]:
    """Numbered lines of a block; one by one only where one of them is faulty, so that those before it are read."""
    try:
        text = block.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text and len(block) <= MAX_LINE:
        rows = text.removesuffix("\n").split("\n")
        yield from enumerate((row.removesuffix("\r") for row in rows) if "\r" in text else rows, first)
        return
    for number, raw in enumerate(BytesIO(block), first):
        if len(raw) > MAX_LINE:
            raise DataError(f"{path}:{number}: the line is longer than {MAX_LINE} bytes.")
        yield number, decoded(raw, path, number).removesuffix("\n").removesuffix("\r")


def decoded(raw: bytes, path: Path | str, number: int) -> str:
    """The text of a line, or of a whole file as its first line.

    Raises:
        DataError: it is not UTF-8, or has a NUL.
    """
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as wrong:
        utf16 = number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise DataError(
            f"{path}:{number}: {'UTF-16, and ' if utf16 else ''}not UTF-8 "
            f"(byte {wrong.object[wrong.start]:#04x} at position {wrong.start})."
            "\nSave the file as UTF-8."
        ) from None
    if "\0" in text:
        raise DataError(f"{path}:{number}: a NUL character; is this UTF-16?\nSave the file as UTF-8.")
    return text


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place (file and line) and content of each line of a file of JSON objects; blank lines are passed over.

    Raises:
        DataError: as `lines`; or with file and line: not JSON, or no object.
    """
    name = str(path)  # once, and not for each of very many lines
    for number, text in lines(path):
        if not text.strip():
            continue
        where = f"{name}:{number}"
        try:
            row = loads(text)
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{where}: not JSON ({str(problem)[:80]}): {text[:60]!r}.") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {text[:60]!r}.")
        yield where, row


def beginning(path: Path) -> str:
    """The first characters of the first line that is not blank; a long line is not read to its end.

    Raises:
        DataError: the file can't be read.
    """
    try:
        with open(path, "rb") as handle:
            while raw := handle.readline(_BEGINNING):
                text = raw.decode("utf-8-sig", "replace")
                if not is_blank(text.rstrip("\r\n")):
                    return text
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from None
    return ""


def is_blank(text: str) -> bool:
    """Whether a line separates posts: nothing but spaces and tabs."""
    return not text.strip(" \t")
