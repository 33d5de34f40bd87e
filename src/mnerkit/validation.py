"""Content of files, validated by pydantic: what is wrong, and where, becomes one line.

A file's content is described by a class derived from `Content`; `validated` makes an object of it:

    class Row(Content):
        name: Text
        plugin: Text | None = None

    class Table(Content):
        rows: ListOf[Row]

    validated(Table, read_json(path), path)
    # DataError: table.json: rows[3] (HVPNet): no key 'plugn'. Did you mean 'plugin'? Keys: name, plugin

The types here refuse what the built-in ones would let through: YAML's `true` as a number, infinities, texts without
end. What concerns several keys is checked by pydantic's `model_validator`, with a `ValueError` that says what is wrong.
Importing this module imports pydantic (0.1 s), so modules that `mnerkit --help` needs import it inside functions.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    ValidationError,
    model_validator,
)

from mnerkit.atomic_files import LARGEST, MOST_LETTERS
from mnerkit.errors import DataError, did_you_mean

SHOWN = 80  # characters of a wrong value in a message

T = TypeVar("T")
ContentT = TypeVar("ContentT", bound=BaseModel)


def _whole(text: Any) -> Any:
    """The text with escapes for halves of surrogate pairs, which pydantic refuses, as no file is written with them."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


Text = Annotated[str, Field(max_length=MOST_LETTERS), BeforeValidator(_whole)]
Figure = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]  # a finite number, not absurdly large
Place = Annotated[int, Field(ge=0, le=int(LARGEST))]  # counted from 0
# a list of the file, as a tuple; its values are checked as strictly as others
ListOf = Annotated[tuple[T, ...], Strict(False)]
# a list of fixed length with a type for each value: RowOf[tuple[Text, Figure]]
RowOf = Annotated[T, Strict(False)]

# pydantic's types of errors -> what the value should have been
WANTED = {
    "string_type": "a text",
    "string_unicode": "a text without halves of surrogate pairs",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} at most",
    "string_too_long": "a text of at most {max_length} letters",
    "string_too_short": "a text of at least {min_length} letters",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
}


class Line(BaseModel):
    """Base of classes that describe one of very many lines: exact types, immutable objects, no slow checks.

    Unknown keys are passed over: others write such files, too.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


# a wrong value in a message: short, however long or deep the value is
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = SHOWN


class Content(BaseModel):
    """Base of classes that describe the content of a file: exact types, no unknown keys, immutable objects.

    What `validated` was given as context is the attribute `_context` of the object and of all its parts.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    _context: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Note the context; validators of mode `after` run later."""
        self._context = context or {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        if isinstance(content, dict):
            keys = [field.alias or name for name, field in cls.model_fields.items()]
            for key in content:
                if key not in keys:
                    near = did_you_mean(str(key), keys)
                    raise ValueError(f"no key {str(key)[:SHOWN]!r}.{near} Keys: {', '.join(keys)}")
        return content


def validated(kind: type[ContentT], content: Any, where: object, **context: Any) -> ContentT:
    """An object of a class that describes content.

    Args:
        kind: the class.
        content: what a file, or a part of it, holds.
        where: the file, and perhaps a place in it, for the message.
        context: what the class and its validators need to know besides; their attribute `_context`.

    Raises:
        DataError: the content does not fit; one line with the place and what is wrong.
    """
    try:
        return kind.model_validate(content, context=context)
    except ValidationError as problem:
        raise DataError(f"{where}: {_line(problem, content)}") from None


def one_of(name: str, choices: Iterable[str], kind: str) -> str:
    """A name, if it is one of the choices.

    Raises:
        ValueError: it is none, with the nearest one.
    """
    names = list(choices)
    if name not in names:
        raise ValueError(f"no {kind} {name!r}.{did_you_mean(str(name), names)} There are: {', '.join(names) or 'none'}")
    return name


def _line(problem: ValidationError, content: Any) -> str:
    """The first thing that is wrong; of a value that might have several types, what it should have been of any."""
    errors = [(_place(error["loc"], content), error) for error in problem.errors(include_url=False)]
    first = errors[0][0]
    # a union reports each of its types; the innermost place is of the type that fits best
    place = max((place for place, _ in errors if place[: len(first)] == first), key=len)
    here = [error for other, error in errors if other == place]
    error = here[0]
    if error["type"] == "missing":
        key = error["loc"][-1]
        missing = f"value {key + 1} of the list" if isinstance(key, int) else f"the key {key!r}"
        return _joined(_names(place, content), f"{missing} is missing")
    if error["type"] in ("value_error", "assertion_error"):
        return _joined(_names(place, content), str(error["ctx"]["error"]))
    wanted = " or ".join(dict.fromkeys(map(_wanted, here)))
    choices = [choice for other in here if other["type"] == "literal_error" for choice in _choices(other)]
    value = error["input"]
    near = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"{_names(place, content) or 'the content'} must be {wanted}, got {_SHORT.repr(value)}{near and '.'}{near}"


def _place(loc: Iterable[int | str], content: Any) -> tuple[int | str, ...]:
    """The keys and numbers that lead to a place; the names that pydantic gives to the types of a union are left out."""
    place: list[int | str] = []
    for part in loc:
        listed = isinstance(content, list | tuple) and part in range(len(content))
        if listed or (isinstance(content, Mapping) and part in content):
            content = content[part]
            place.append(part)
    return tuple(place)


def _names(place: Iterable[int | str], content: Any) -> str:
    """`rows[3] (HVPNet): printed`: keys and numbers, and what the parts of a list are called."""
    text = ""
    for part in place:
        outer, content = content, content[part]
        if isinstance(outer, Mapping):
            text += f": {part}" if text else str(part)
            continue
        text += f"[{part}]"
        name = content.get("name") if isinstance(content, Mapping) else None
        text += f" ({' '.join(name.split())[:SHOWN]})" if isinstance(name, str) and name else ""
    return text


def _joined(place: str, problem: str) -> str:
    return f"{place}: {problem}" if place else problem


def _wanted(error: Mapping[str, Any]) -> str:
    """What a value should have been."""
    if error["type"] == "literal_error":
        choices = _choices(error)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else repr(choices[0])
    message = WANTED.get(error["type"])
    return message.format(**error.get("ctx", {})) if message else str(error["msg"]).removeprefix("Input should be ")


def _choices(error: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])
