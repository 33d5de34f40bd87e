"""Options of a class that takes them as arguments, as plugins of release 0.1.0 do: a class of options made of these."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from mnerkit.options import Options, option


def takes_arguments(kind: type[Any]) -> bool:
    """Whether a class, or a base of it, has a constructor that takes options by name and not as an object."""
    return any("options" not in inspect.signature(init).parameters for init in _constructors(kind))


def options_of(kind: type[Any], base: type[Options]) -> type[Options]:
    """A class of options for a class that takes them as arguments.

    Args:
        kind: the class.
        base: declares the options that its constructor passes on.
    """
    fields = [
        (name, Any if each.annotation is each.empty else each.annotation, option(each.default, _help(kind, name)))
        for name, each in _arguments(kind).items()
        if name != "head" and each.default is not each.empty
    ]
    return dataclasses.make_dataclass(f"{kind.__name__}Options", fields, bases=(base,), frozen=True, kw_only=True)


def _constructors(kind: type[Any]) -> list[Any]:
    """The constructors of a class and of its bases, up to the first one that takes an object of options."""
    found = []
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        if "options" in inspect.signature(init).parameters:
            break
        found.append(init)
    return found


def _arguments(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """The named arguments of a class and, where it passes others on, of its bases."""
    found: dict[str, inspect.Parameter] = {}
    for init in _constructors(kind):
        parameters = inspect.signature(init, eval_str=True).parameters.values()
        named = [each for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"]
        found = {**{each.name: each for each in named}, **found}
        if len(named) + 1 == len(parameters):  # none is passed on
            break
    return found


def _help(kind: type[Any], name: str) -> str:
    """What the docstring of the constructor says of an argument, in its section `Args:`."""
    for line in (kind.__init__.__doc__ or "").splitlines():
        if line.strip().startswith(f"{name}:"):
            return line.partition(":")[2].strip().rstrip(".")
    return ""
