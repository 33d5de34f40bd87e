"""YAML files that say what is wrong with them: every key is known, every value of the kind that it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, did_you_mean

KINDS: dict[type, str] = {
    str: "a text",
    list: "a list",
    dict: "a mapping",
    int: "a whole number",
    bool: "true or false",
}


@dataclass(frozen=True)
class Key:
    """What may stand under a key.

    Attributes:
        kinds: types of the value.
        needed: whether the key must be there.
        choices: the texts that are allowed; empty for any.
        inner: what the values of a list or mapping must be; None for anything.
        least: the smallest number that is allowed.
    """

    kinds: tuple[type, ...]
    needed: bool = False
    choices: tuple[str, ...] = ()
    inner: type | None = None
    least: int | None = None


def read(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        DataError: it is missing or unreadable, is no YAML, or no mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise DataError(f"{where}: {str(getattr(error, 'problem', None) or error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a mapping of keys")
    return content


def check(content: Any, keys: Mapping[str, Key], where: str) -> dict[str, Any]:
    """The content, once every key is known and every value is of its kind.

    Args:
        content: what a file, or a part of it, holds.
        keys: what may be there.
        where: file, and place in it, for the message.

    Raises:
        DataError: with the place, the key, and the nearest one that there is.
    """
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected a mapping with {', '.join(keys)}, got {content!r}"[:200])
    for name, value in content.items():
        if name not in keys:
            raise DataError(f"{where}: no key {name!r}.{did_you_mean(str(name), keys)} Keys: {', '.join(keys)}")
        key = keys[name]
        # YAML's true is no number
        if not isinstance(value, key.kinds) or (isinstance(value, bool) and bool not in key.kinds):
            wanted = " or ".join(KINDS.get(kind, kind.__name__) for kind in key.kinds)
            raise DataError(f"{where}: {name} must be {wanted}, got {value!r}"[:200])
        if key.inner is not None and isinstance(value, list | dict):
            for each in value.values() if isinstance(value, dict) else value:
                if not isinstance(each, key.inner):
                    raise DataError(f"{where}: {name} must hold {KINDS[key.inner][2:]}s, got {each!r}"[:200])
        if key.least is not None and isinstance(value, int) and value < key.least:
            raise DataError(f"{where}: {name} must be {key.least} or more, got {value}")
        if key.choices and isinstance(value, str) and value not in key.choices:
            near = did_you_mean(value, key.choices)
            raise DataError(f"{where}: {name} is none of {', '.join(key.choices)}: {value!r}.{near}")
    for name, key in keys.items():
        if key.needed and name not in content:
            raise DataError(f"{where}: the key {name!r} is missing")
    return content


def one_of(name: str, known: Mapping[str, Any], kind: str, where: str) -> None:
    """Refuse a name that is not known.

    Raises:
        DataError: with the nearest name.
    """
    if name not in known:
        raise DataError(
            f"{where}: no {kind} {name!r}.{did_you_mean(str(name), known)} There are: {', '.join(known) or 'none'}"
        )
