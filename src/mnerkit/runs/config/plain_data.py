"""Values of a configuration as plain data, whatever a file, a command or Python gave, with interpolations resolved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mnerkit.errors import UsageError, first_line, shown
from mnerkit.plain_yaml import MAX_DEPTH, MAX_VALUES

MAX_INTERPOLATION = 1000  # letters of a text with interpolations: their parser takes the square of nested ones
MAX_INTERPOLATIONS = 200  # in a configuration
MAX_COPIES = 1 << 12  # of a value, where interpolations lead to others and to whole sections

_BEGIN = "${"
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_OF_ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """A value as a file would have it: paths are texts, tuples are lists.

    Args:
        value: of a file or from Python.
        where: the dotted name of its option.
        depth: levels above it.

    Raises:
        UsageError: it, or a part of it, is nothing that a configuration holds.
    """
    if depth > MAX_DEPTH:
        raise UsageError(f"{_named(where)}: more than {MAX_DEPTH} levels of lists and mappings")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UsageError(f"{_named(where)}: the key {shown(key)} is no text")
            plain(key, where)
        return {key: plain(item, f"{where}.{key}" if where else key, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where, depth + 1) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError(f"{_named(where)} {shown(value)}: half of a surrogate pair; is it UTF-8?")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(f"{_named(where)} {shown(value)}: a value can't be of the type {type(value).__name__}")


def _named(where: str) -> str:
    return f"--{shown(where)}" if "." in where else f"configuration: {shown(where)}"


def resolved(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of plain data with its interpolations resolved.

    Raises:
        UsageError: naming the option of one that leads nowhere, or round in a circle, or would fill the memory.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if _size(content) > MAX_VALUES:
        raise UsageError(f"configuration: more than {MAX_VALUES} values, which is the limit")
    _check_interpolations(content)
    try:
        result: Any = OmegaConf.to_container(OmegaConf.create(dict(content)), resolve=True)
    except (OmegaConfBaseException, RecursionError, ValueError) as error:
        option = getattr(error, "full_key", None)
        problem = (
            "interpolations are too deep, or lead round in a circle"
            if isinstance(error, RecursionError)
            else first_line(error)
        )
        where = f"--{shown(option)}" if option else "configuration"
        raise UsageError(f"{where}: {shown(problem, 200)}") from None
    return dict(result)


def _size(value: Any) -> int:
    """Number of values."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, items))


def _check_interpolations(content: Mapping[str, Any]) -> None:
    """Refuse interpolations that take long to parse, or that would double each other's values again and again."""
    copies, number = 1.0, 0
    for where, text in _texts(content):
        count = text.count(_BEGIN)
        number += count
        if count and len(text) > MAX_INTERPOLATION:
            raise UsageError(f"{_named(where)}: a text with interpolations has at most {MAX_INTERPOLATION} letters")
        cheap = sum(_is_single(content, name) for name in _REFERENCE.findall(text))
        copies *= 1 + count - cheap - len(_OF_ENVIRONMENT.findall(text))
    if number > MAX_INTERPOLATIONS or not copies <= MAX_COPIES:
        raise UsageError(
            f"configuration: more than {MAX_INTERPOLATIONS} interpolations (${{...}}), or too many that lead to others"
        )


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Texts with interpolations, among keys and values, with the option that they belong to."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key, where)
            yield from _texts(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, where)
    elif isinstance(value, str) and _BEGIN in value:
        yield where, value


def _is_single(content: Any, name: str) -> bool:
    """Whether a dotted name leads to a value that is not interpolated, and no section or list."""
    for part in name.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return not isinstance(content, Mapping | list) and not (isinstance(content, str) and _BEGIN in content)
