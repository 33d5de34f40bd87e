"""Templates of pages and tables. Whatever a value holds, it stays text: each is escaped where it is filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def visible(text: str) -> Iterator[str]:
    """Characters of a text; those that a page may not hold as the replacement character."""
    return ("\ufffd" if ord(letter) < 32 or 127 <= ord(letter) < 160 else letter for letter in text)


def render(package: str, name: str, escaped: Callable[[str], str] = escape, **values: Any) -> str:
    """A template with its values.

    Args:
        package: the package in whose folder the template lies.
        name: the template's file.
        escaped: makes text of the template's format from any text; for HTML where it is not given.
        values: what is filled in. Only `Markup`, which the caller answers for, is filled in as it is.
    """

    def as_text(value: Any) -> Markup:
        # Markup is what keeps jinja's own escaping from adding to that of the format
        return value if isinstance(value, Markup) else Markup(escaped("".join(visible(str(value)))))

    environment = Environment(
        autoescape=True,
        finalize=as_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(asset(package, name)).render(values)


def asset(package: str, name: str) -> str:
    """The text of a file that lies beside the code."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def as_json(content: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it ends the element, and it is sound UTF-8."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = re.sub("[<>&\u2028\u2029]", lambda character: _ESCAPES[character.group()], text)
    return Markup(re.sub("[\ud800-\udfff]", "\ufffd", text))
