r"""What people read in a terminal or a file: whatever a text holds, it steers no terminal and hides nothing.

Words, titles, types, names and paths are written by others. What a terminal obeys (colours, the cursor, its title),
what reorders or hides text, and halves of surrogate pairs are shown as escapes: `\x1b`, `\u202e`, `\ud800`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

# but a tab and a line feed: what steers a terminal, separators of lines, marks and overrides of direction, surrogates,
# and what is invisible; not the joiners that emoji and Persian need
_ESCAPED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]+"
)
# a visible character and what it needs of these: the flags of regions, as England's, and variants of Chinese characters
_KEPT = re.compile(
    "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
    "|[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][\U000e0100-\U000e01ef]"
)
# what progress bars and coloured lines of libraries are made of: to begin a line again, move, erase, colour
_DRAWN = re.compile(r"(\r|\x1b\[[0-9;?]*[A-HJKhlm])")


class Printable(str):
    """Text that is escaped already; a terminal gets it as it is."""

    __slots__ = ()


def printable(*texts: object) -> Printable:
    """Texts below each other, escaped; ends of lines and tabs stay."""
    return Printable("\n".join(text if isinstance(text, Printable) else _escaped(str(text)) for text in texts))


def one_line(text: object) -> Printable:
    """A text that stands in a line or a cell: escaped with its ends of lines and tabs."""
    return Printable(printable(text).replace("\n", "\\n").replace("\t", "\\t"))


def printable_content(content: Any) -> Any:
    """Plain data with all its texts escaped, keys too."""
    if isinstance(content, str):
        return str(printable(content))
    if isinstance(content, Mapping):
        return {printable_content(key): printable_content(value) for key, value in content.items()}
    return [printable_content(value) for value in content] if isinstance(content, list | tuple) else content


def json_text(content: Any, indent: int | None = None) -> Printable:
    """Plain data as JSON: the same values, and safe to print."""
    return printable_json(json.dumps(content, indent=indent, ensure_ascii=False))


def printable_json(text: str) -> Printable:
    """The same JSON with JSON's own escapes for what is escaped elsewhere."""
    return Printable(_escaped(text, _json_escape))


def counted(count: int, thing: str) -> str:
    """A number with the noun that it counts: `1 picture`, `2,000 pictures`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def show(*texts: object, to: TextIO | None = None) -> None:
    """Print texts below each other at once, also into a pipe.

    Args:
        texts: they are escaped, unless they are `Printable`.
        to: the stream; standard output where None.
    """
    stream = sys.stdout if to is None else to
    stream.write(_encodable(f"{printable(*texts)}\n", stream))
    stream.flush()


def complain(text: object) -> None:
    """Print an error or a warning of mnerkit's."""
    show(f"mnerkit: {text}", to=sys.stderr)


@contextmanager
def escaped_output() -> Iterator[None]:
    """In this block, what libraries print is escaped, too: their log, their warnings, their progress bars."""
    before, streams = logging.getLogRecordFactory(), (sys.stdout, sys.stderr)
    logging.setLogRecordFactory(lambda *args, **options: _escaped_record(before(*args, **options)))
    sys.stdout, sys.stderr = (stream if isinstance(stream, _Stream) else _Stream(stream) for stream in streams)  # type: ignore[assignment]
    sys.excepthook = _show_traceback
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)
        sys.stdout, sys.stderr = streams


class _Stream:
    """A stream of text that escapes what is written, but for what progress bars and colours are made of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        parts = _DRAWN.split(text)
        parts[::2] = map(printable, parts[::2])
        self._stream.write(_encodable("".join(parts), self._stream))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts behind each other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escaped(text: str, escape: Callable[[str], str] = lambda letter: letter.encode("unicode_escape").decode()) -> str:
    if text.isascii() and text.isprintable():
        return text

    def replacement(run: re.Match[str]) -> str:
        visible = _KEPT.match(text, max(0, run.start() - 1))
        kept = visible.end() - run.start() if visible else 0
        return run[0][:kept] + "".join(map(escape, run[0][kept:]))

    return _ESCAPED.sub(replacement, text)


def _json_escape(letter: str) -> str:
    return "\\u007f" if letter == "\x7f" else json.dumps(letter)[1:-1]


def _encodable(text: str, stream: TextIO) -> str:
    """The text with escapes for what the stream's encoding lacks, as a terminal that is not set to UTF-8."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _escaped_record(record: logging.LogRecord) -> logging.LogRecord:
    try:
        record.msg, record.args = str(printable(record.getMessage())), None
    except Exception:  # its arguments don't fit; logging reports it where it is
        return record
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = printable(logging.Formatter().formatException(record.exc_info))
    return record


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    show("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), to=sys.stderr)
