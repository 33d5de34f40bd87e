"""What keeps plugins of release 0.1.0 working for one release: options as constructor arguments, and former names."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from mnerkit.options import Options, option


def takes_arguments(kind: type[Any]) -> bool:
    """Whether the constructor of a class or of one of its bases takes options by name instead of as an object."""
    return any("options" not in inspect.signature(init).parameters for init in _constructors(kind))


def options_of(kind: type[Any], base: type[Options]) -> type[Options]:
    """Make an options class from the constructor arguments of a class.

    Args:
        kind: the class.
        base: options class with the options that the constructor passes on.
    """
    fields = [
        (
            name,
            Any if argument.annotation is argument.empty else argument.annotation,
            option(argument.default, _help(kind, name)),
        )
        for name, argument in _arguments(kind).items()
        if name != "head" and argument.default is not argument.empty
    ]
    return dataclasses.make_dataclass(f"{kind.__name__}Options", fields, bases=(base,), frozen=True, kw_only=True)


def create(kind: type[Any], options: Options, **extra: Any) -> Any:
    """Create an object of a class whose constructor takes its options as arguments (`takes_arguments`)."""
    arguments = options.plain()
    made = kind(**arguments, **extra)
    for name, value in arguments.items():
        if not hasattr(made, name):  # options that `Method` stores in its own attributes
            setattr(made, name, value)
    return made


def adopt(kind: type[Any], names: Mapping[str, str]) -> None:
    """Let what a class defines under a former name be found under today's, with a warning.

    Args:
        kind: the class.
        names: former name -> name.
    """
    for former, name in names.items():
        if former in vars(kind):
            _warn(kind, former, name)
            setattr(kind, name, vars(kind)[former])


def former_attribute(former: str, name: str) -> Any:
    """A property for the former name of an attribute; it warns."""

    def read(self: Any) -> Any:
        _warn(type(self), former, name)
        return getattr(self, name)

    def write(self: Any, value: Any) -> None:
        _warn(type(self), former, name)
        setattr(self, name, value)

    return property(read, write, doc=f"Former name of `{name}`.")


def _warn(kind: type[Any], former: str, name: str) -> None:
    message = f"{kind.__name__}.{former} is now called {name}; the former name works for one release"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def _constructors(kind: type[Any]) -> list[Any]:
    """The constructors of a class and of its bases, up to the first one that takes an options object."""
    constructors = []
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        if "options" in inspect.signature(init).parameters:
            break
        constructors.append(init)
    return constructors


def _arguments(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """The named arguments of a class and, if it passes on other arguments, of its bases."""
    arguments: dict[str, inspect.Parameter] = {}
    for init in _constructors(kind):
        parameters = inspect.signature(init, eval_str=True).parameters.values()
        named = [argument for argument in parameters if argument.kind is not argument.VAR_KEYWORD]
        named = [argument for argument in named if argument.name != "self"]
        arguments = {**{argument.name: argument for argument in named}, **arguments}
        if len(named) + 1 == len(parameters):  # no **kwargs: nothing is passed on
            break
    return arguments


def _help(kind: type[Any], name: str) -> str:
    """The description of an argument in the section `Args:` of the constructor's docstring."""
    for line in (kind.__init__.__doc__ or "").split("\n"):
        if line.strip().startswith(f"{name}:"):
            return line.partition(":")[2].strip().rstrip(".")
    return ""
