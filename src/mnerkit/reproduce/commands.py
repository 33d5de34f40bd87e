"""What the command line lends to the rooms below it: how `mnerkit fit` reads its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnerkit.registry import Plugin


@dataclass(frozen=True)
class Commands:
    """How options of `mnerkit fit` are read.

    Attributes:
        resolve: the configuration that the options of a command make.
        schema: section -> option -> what its constructor says, of a plugin with a head.
        has_head: whether a plugin takes a head.
    """

    resolve: Callable[[Sequence[str]], dict[str, Any]]
    schema: Callable[[Plugin, str | None], Mapping[str, Mapping[str, Any]]]
    has_head: Callable[[Plugin], bool]
