"""Options in layers, by their dotted names, and as words of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Options of two layers; another head leaves the options of the one before behind."""
    head = above.get("model.head")
    if head is not None and head != below.get("model.head"):
        below = {name: value for name, value in below.items() if not name.startswith("model.head.")}
    kept = {name: value for name, value in below.items() if name not in above}
    return {**kept, **above}


def dotted(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Options of an ablation by their dotted names; a head's name is that of `model.head`."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= dotted(value, f"{name}.")
        else:
            found["model.head" if name == "model.head.name" else name] = value
    return found


def text_of(value: Any) -> str:
    """A value as a word of a command."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(text_of(each) for each in value) + "]"
    return str(value)
