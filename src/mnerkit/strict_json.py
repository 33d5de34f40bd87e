"""JSON read strictly: no key twice; files of ours also not too large or deep, without NaN. `validation.py` checks keys.

And numbers in other text files.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, first_line

MAX_BYTES = 8 << 20  # of a configuration, a record of the environment or of scores; real ones have some kilobytes


_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)


class Unreadable(DataError):
    """A file that the system does not let us read now; it may be whole."""


def loads(text: str) -> Any:
    """The value of a JSON text in which no key stands twice: the standard reader drops all but the last, silently.

    Raises:
        ValueError: it is something else; of a number of very many digits, too.
        RecursionError: it is nested too deeply.
    """
    return _decoder().decode(text)


def number(text: str) -> float:
    """A decimal number; `float` also reads `1_0`, `nan` and the digits of other scripts.

    Raises:
        ValueError: it is something else, or too large.
    """
    if not _NUMBER.fullmatch(text) or math.isinf(value := float(text)):
        raise ValueError(f"{text[:40]!r} is no number")
    return value


def read_json(path: Path) -> Any:
    """The content of a JSON file of ours: not too large, no NaN or infinity, no key twice.

    Raises:
        Unreadable: the system does not let us read it.
        DataError: it is something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES >> 20} MB, so it is no file of mnerkit's")
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except OSError as problem:
        raise Unreadable(f"{path} can't be read: {problem.strerror}") from None
    except (ValueError, RecursionError) as problem:
        fault = "too deeply nested" if isinstance(problem, RecursionError) else first_line(problem)
        raise DataError(f"{path} is damaged: {fault}") from None


def read_format(path: Path, what: str, name: str, version: int) -> dict[str, Any]:
    """The content of a JSON file that names its format and version, without these.

    Args:
        path: the file.
        what: what it should be, for the message.
        name: of the format.
        version: the one that is read.

    Raises:
        Unreadable: the system does not let us read it.
        DataError: it is damaged, of another format, or of another version.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.pop("format", None) != name:
        raise DataError(f"{path} is no {what} (format {name!r})")
    if (given := content.pop("version", None)) != version:
        raise DataError(f"{path} is of version {str(given)[:40]}; this mnerkit reads version {version}")
    return content


@cache
def _decoder() -> json.JSONDecoder:
    """Made once, and not for each of very many lines."""
    return json.JSONDecoder(object_pairs_hook=_once)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no figure")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"key {key[:60]!r} stands there twice")
    return content
