"""JSON files of ours, read strictly: finite numbers, no key twice, known keys, and a check for each kind of value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError, did_you_mean

MOST_LETTERS = 20_000  # of a text
MAX_BYTES = 8 << 20  # of a configuration, a record of the environment or of scores; real ones have some kilobytes
Check = Callable[[Any], Any]


class Unreadable(DataError):
    """A file that the system does not let us read now; it may be whole."""


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
        said = "too deeply nested" if isinstance(problem, RecursionError) else str(problem).splitlines()[0]
        raise DataError(f"{path} is damaged: {said}") from None


def read_format(path: Path, what: str, name: str, version: int) -> dict[str, Any]:
    """The content of a JSON file that names its format and version.

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
    if not isinstance(content, dict) or content.get("format") != name:
        raise DataError(f"{path} is no {what} (format {name!r})")
    if content.get("version") != version:
        raise DataError(f"{path} is of version {content.get('version')!r}; this mnerkit reads version {version}")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no figure")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands there twice")
        found[key] = value
    return found


def read_keys(content: Any, keys: Mapping[str, Check], where: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """A mapping whose values passed the checks of their keys.

    Raises:
        DataError: it is no mapping, lacks a key, has one that is not known, or a value that can't be; in one line.
    """
    if not isinstance(content, dict):
        raise DataError(f"{where} is no mapping")
    for key in content:
        if key not in keys:
            raise DataError(f"{where}: no key {key[:60]!r}.{did_you_mean(key, keys)}")
    for key in needed:
        if key not in content:
            raise DataError(f"{where}: {key!r} is missing")
    read = {}
    for key, value in content.items():
        try:
            read[key] = keys[key](value)
        except (ValueError, TypeError) as problem:
            raise DataError(f"{where}: {key} is {str(value)[:60]!r}, not {problem}") from None
    return read


# each of these returns the value, or raises ValueError with what it should have been


def anything(value: Any) -> Any:
    """Any value."""
    return value


def maybe(kind: Check) -> Check:
    """None, or what passes another check."""
    return lambda value: None if value is None else kind(value)


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str) or len(value) > MOST_LETTERS:
        raise ValueError("a text")
    return value


def figure(value: Any) -> float:
    """A finite number that is not absurdly large."""
    if not is_figure(value):
        raise ValueError("a figure")
    return float(value)


def place(value: Any) -> int:
    """A whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a place, counted from 0")
    return value


def listed(value: Any) -> list[Any]:
    """A list of anything."""
    if not isinstance(value, list):
        raise ValueError("a list")
    return value


def list_of(kind: Check, most: int | None = None) -> Check:
    """A list of what passes another check, of at most so many."""

    def check(value: Any) -> list[Any]:
        found = [kind(each) for each in listed(value)]
        if most is not None and len(found) > most:
            raise ValueError(f"a list of at most {most}")
        return found

    return check


def row_of(*kinds: Check) -> Check:
    """A list with a value for each of some checks."""

    def check(value: Any) -> list[Any]:
        if len(listed(value)) != len(kinds):
            raise ValueError(f"a list of {len(kinds)}")
        return [kind(each) for kind, each in zip(kinds, value, strict=True)]

    return check


texts = list_of(text)
