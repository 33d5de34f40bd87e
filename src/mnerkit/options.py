"""Options as data: frozen dataclasses whose fields carry help, range and history. Nothing here imports torch.

An option is one line of such a class; command line, help, checks, checkpoints, digests and documentation read it there:

    csa_dilation: int = option(4, "dilation of its 3 x 3 convolutions", COUNT)

`declared` says what a class declares, `typed` checks values by jsonargparse, `in_its_time` reads what an older file
holds.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, Union

from mnerkit.atomic_files import unwritable
from mnerkit.errors import UsageError, did_you_mean, shown

# of a whole number: what fits into 64 bits
LARGEST = 2**63 - 1
MOST_READ = 4096  # letters of a text that is read as a number or a list


@dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds, which are included unless `above` or `below` excludes them.

    Attributes:
        least: lower bound.
        most: upper bound.
        above: the lower bound itself is left out.
        below: the upper bound itself is left out.
    """

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        if isinstance(value, int) and abs(value) > LARGEST:  # no float can hold some of these
            return False
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return low and high and math.isfinite(value)

    def __str__(self) -> str:
        if math.isinf(self.least):
            return "a finite number"
        low = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        if math.isinf(self.most):
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.most:g}"


ANY = Range(-math.inf)
COUNT = Range(1)
SIZE = Range(1, 1 << 14)  # of what takes memory in proportion: widths, pieces, pictures
LAYERS = Range(1, 1 << 10)  # or heads, rows of a grid, and what else is built one by one
WEIGHT = Range(0)
POSITIVE = Range(0, above=True)
SHARE = Range(0, 1)
DROPOUT = Range(0, 1, below=True)


def check(section: str, rule: Range, **given: float | None) -> None:
    """Refuse options outside their range; one that is None was not given.

    Args:
        section: what stands before the options' names: `model`, `model.head`, `data`.
        rule: the range.
        given: the options by name.

    Raises:
        UsageError: naming the first option, its value and the range.
    """
    for name, value in given.items():
        if value is not None and value not in rule:
            raise UsageError(f"--{section}.{name} {value}: give {rule}")


AnyOptions = TypeVar("AnyOptions", bound="Options")
Since = tuple[str, Any]


def option(
    default: Any,
    help: str,
    rule: Range | None = None,
    *,
    since: Since | None = None,
    aliases: tuple[str, ...] = (),
) -> Any:
    """Declare an option: a field of an `Options` class.

    Args:
        default: its value where nobody gives one.
        help: one line for the help page and the documentation.
        rule: the numbers that it takes; None among the values is never checked.
        since: (release, value): the option, or this default of it, came with that release; a file that lacks the
            option was written before, and has the value, with which the option is no part of a run's identity.
        aliases: names that it had in earlier releases.
    """
    metadata = {"help": help, "rule": rule, "since": since, "aliases": aliases}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """What an `Options` class declares of one option.

    Attributes:
        name: as it is typed after `--section.`.
        type: its type, resolved.
        default: value where nobody gives one.
        help: one line.
        rule: the numbers that it takes.
        since: see `option`.
        aliases: earlier names.
    """

    name: str
    type: Any
    default: Any
    help: str
    rule: Range | None = None
    since: Since | None = None
    aliases: tuple[str, ...] = ()

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """The members of a union; of any other type the type itself."""
        union = typing.get_origin(self.type) in (Union, types.UnionType)
        return typing.get_args(self.type) if union else (self.type,)

    @property
    def optional(self) -> bool:
        """Whether null is a value."""
        return type(None) in self.alternatives or self.type is Any

    @property
    def is_flag(self) -> bool:
        """Whether the name alone, without a value, means true."""
        return self.type is bool

    @property
    def is_text(self) -> bool:
        """Whether every value but null is a text, so that `2017` is one."""
        return set(self.alternatives) <= {str, type(None)}

    @property
    def is_list(self) -> bool:
        """Whether a list is a value."""
        return any(typing.get_origin(kind) in (list, tuple) for kind in self.alternatives)

    @property
    def is_only_list(self) -> bool:
        """Whether every value but null is a list, so that one item makes a list of one."""
        kinds = [kind for kind in self.alternatives if kind is not type(None)]
        return all(typing.get_origin(kind) in (list, tuple) for kind in kinds)

    @property
    def takes(self) -> str:
        """What stands for the value on a help page: choices, or a word for the type."""
        return "|".join(dict.fromkeys(_word(kind) for kind in self.alternatives if kind is not type(None)))

    @property
    def wanted(self) -> str:
        """What its values are, in words, for a message: `test or train`, `a whole number or all_queries`."""
        words = dict.fromkeys(word for kind in self.alternatives if kind is not type(None) for word in _in_words(kind))
        *others, last = words
        return f"{', '.join(others)} or {last}" if others else last

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts among its values that are listed one by one."""
        listed = (kind.__args__ for kind in self.alternatives if typing.get_origin(kind) is Literal)
        return tuple(str(choice) for choices in listed for choice in choices)


def _word(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in kind.__args__)
    if typing.get_origin(kind) in (list, tuple):
        inner = typing.get_args(kind)
        return f"{_word(inner[0])},..." if inner else "LIST"
    return {bool: "true|false", int: "N", float: "X", str: "TEXT", dict: "MAPPING"}.get(kind, "VALUE")


def _in_words(kind: Any) -> list[str]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in inner]
    if origin in (list, tuple):
        return [f"a list of {_PLURALS.get(inner[0], 'values')}" if inner else "a list"]
    return ["true", "false"] if kind is bool else [_WORDS.get(origin or kind, "a value")]


_WORDS = {int: "a whole number", float: "a number", str: "a text", dict: "a mapping"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all options. A value outside its range is refused when an object is made.

    Raises:
        UsageError: naming the option, its value and the range; or a combination that `check` refuses.
    """

    section: ClassVar[str] = "model"
    behaviour: ClassVar[int] = 1  # raised whenever what has these options computes something else than before
    behaviour_with: ClassVar[Mapping[tuple[str, Any], int]] = {}  # a higher one, where an option has a value

    def __init_subclass__(cls, **defaults: Any) -> None:
        """Give options of the bases another default: `class MyOptions(PictureOptions, text="tiny-bert")`."""
        super().__init_subclass__()
        bases = [declared(base) for base in reversed(cls.__bases__) if issubclass(base, Options)]
        inherited = {name: each for options in bases for name, each in options.items()}
        for name, value in defaults.items():
            base = inherited[name]
            cls.__annotations__[name] = base.type
            setattr(cls, name, option(value, base.help, base.rule, since=base.since, aliases=base.aliases))

    def __post_init__(self) -> None:
        for each in declared(type(self)).values():
            value = getattr(self, each.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and value not in (rule := each.rule or ANY):
                raise UsageError(f"--{self.section}.{each.name} {shown(value)}: give {rule}")
            if problem := unwritable(value):
                raise UsageError(f"--{self.section}.{each.name} {shown(value)}: {problem}")
        self.check()

    def check(self) -> None:
        """Refuse values that do not go together; a subclass that overrides this calls its base's, too."""

    def plain(self) -> dict[str, Any]:
        """Every option's value, as plain data for files."""
        return {each.name: copy.deepcopy(getattr(self, each.name)) for each in dataclasses.fields(self)}


def declared(cls: type[Options]) -> dict[str, Option]:
    """The options of a class by name, its own first, then those of its bases."""
    return _declared(cls)  # type: ignore[arg-type]


@cache
def _declared(cls: Any) -> dict[str, Option]:
    hints = typing.get_type_hints(cls)
    origin = {
        name: number for number, base in [*enumerate(cls.__mro__)][::-1] for name in inspect.get_annotations(base)
    }
    options = {}
    for field in sorted(dataclasses.fields(cls), key=lambda field: origin[field.name]):
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        options[field.name] = Option(field.name, hints[field.name], default, **field.metadata)
    return options


def typed(cls: type[Options], given: Mapping[str, Any], section: str | None = None) -> dict[str, Any]:
    """The given values, checked and converted to the types of their options.

    Args:
        cls: declares them.
        given: values by name; names are known.
        section: what stands before the names in messages; default: the class's.

    Raises:
        UsageError: naming the first value that its type does not take, and what it takes.
    """
    known = declared(cls)
    for name, value in given.items():  # jsonargparse reads texts as YAML, in the square of their lengths
        if not known[name].is_text and unwritable(value, MOST_READ):
            digits = isinstance(value, str) and value.isdigit()
            raise _refused(section or cls.section, known[name], value, "too large" if digits else "")
        if value is None and not known[name].optional:
            raise _refused(section or cls.section, known[name], "null")
    # a text is one as it stands, but for `null`
    values = {k: v for k, v in given.items() if v is None or (known[k].is_text and isinstance(v, str) and len(v) > 4)}
    rest = {name: value for name, value in given.items() if name not in values}
    parser: Any = _parser(cls)  # type: ignore[arg-type]
    try:
        values |= dict(parser.parse_object(rest, defaults=False).items()) if rest else {}
    except Exception:  # which one it is, and jsonargparse lets errors of its converters through
        for name, value in rest.items():
            try:
                parser.parse_object({name: value}, defaults=False)
            except Exception as problem:
                raise _refused(section or cls.section, known[name], value, str(problem)) from None
        raise
    return {name: values[name] for name in given}


def _refused(section: str, option: Option, value: Any, problem: str = "") -> UsageError:
    """The error about a value that an option's type does not take."""
    text = shown(value) or "''"
    wanted = option.wanted
    if re.search(r"too large|Exceeds the limit", problem):
        wanted += "; one of so many digits is not read"
    near = did_you_mean(text, option.choices)
    return UsageError(f"--{section}.{option.name} {text}: give {wanted}{near and '.'}{near}")


@cache
def _parser(cls: Any) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    for each in declared(cls).values():
        parser.add_argument(f"--{each.name}", type=each.type)
    return parser


def make(cls: type[AnyOptions], given: Mapping[str, Any], section: str | None = None) -> AnyOptions:
    """An object of the given values, which are checked; what is not given has its default.

    Raises:
        UsageError: an unknown name, with the nearest one that there is; or a value that its option does not take.
    """
    known = declared(cls)
    for name in given:
        if name not in known:
            option = f"--{section or cls.section}."
            raise UsageError(f"no option {option}{shown(name)}.{did_you_mean(name, known, option)}")
    return cls(**typed(cls, given, section))


def in_its_time(cls: type[Options], content: Mapping[str, Any]) -> dict[str, Any]:
    """Every option's value as a file meant it that was written by this or an earlier release.

    An option that the file lacks has the default of the file's time (`option(since=...)`); one that has been renamed
    is found under its earlier name. Names that are no option's are left as they are.
    """
    values = dict(content)
    for each in declared(cls).values():
        for alias in each.aliases:
            if alias in values and each.name not in values:
                values[each.name] = values.pop(alias)
        if each.name not in values:
            values[each.name] = copy.deepcopy(each.default if each.since is None else each.since[1])
    return values
