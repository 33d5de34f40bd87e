"""Templates of pages and tables. Whatever a value holds, it stays text: each is escaped where it is filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from mnerkit.printable import one_line, printable_content

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


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
        return value if isinstance(value, Markup) else Markup(escaped(one_line(value)))

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
    """JSON that may stand in a script element, which nothing in it ends; its texts are shown, so they are escaped."""
    text = json.dumps(printable_content(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(re.sub("[<>&]", lambda character: _ESCAPES[character.group()], text))
