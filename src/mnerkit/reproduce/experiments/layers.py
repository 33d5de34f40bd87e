"""Options in layers, by their dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Options of two layers; another head leaves the options of the one before behind."""
    head = above.get("model.head")
    if head is not None and head != below.get("model.head"):
        below = {name: value for name, value in below.items() if not name.startswith("model.head.")}
    # what both give stands where the upper layer has it
    return {**{name: value for name, value in below.items() if name not in above}, **above}


def dotted(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Options of an ablation by their dotted names; a head's name is that of `model.head`."""
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            options |= dotted(value, f"{name}.")
        else:
            options["model.head" if name == "model.head.name" else name] = value
    return options
