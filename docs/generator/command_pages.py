"""The page of the commands: what `mnerkit --help` and `mnerkit VERB --help` print."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from unittest import mock

from mnerkit.cli import METHOD_VERBS, VERBS, main, page
from mnerkit.cli.method_help import page as method_page

# verbs of verbs, each with a help page of its own
WITHIN = {
    "data": ("stats", "verify", "show", "objects", "episodes"),
    "draw": ("attention", "adjacency", "tsne", "relevance", "cases"),
    "cache": ("info", "clear"),
    "runs": ("compare", "repeat"),
}


def command_page() -> str:
    """Every verb with its help page."""
    parts = ["## mnerkit", _block(page())]
    for verb, about in VERBS.items():
        parts += [f"## {verb}", f"{about[0].upper()}{about[1:]}.", _block(help_of(verb))]
        for below in WITHIN.get(verb, ()):
            parts += [f"### {verb} {below}", _block(help_of(verb, below))]
    return "\n\n".join(parts) + "\n"


def help_of(*words: str) -> str:
    """The help page of a verb, 84 columns wide."""
    with mock.patch.dict(os.environ, {"COLUMNS": "84"}):
        if words[0] in METHOD_VERBS:
            return method_page(words[0], [])
        with _output() as text, contextlib.suppress(SystemExit):
            main([*words, "--help"])
        return text.getvalue().rstrip("\n")


@contextlib.contextmanager
def _output() -> Iterator[io.StringIO]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        yield text


def _block(text: str) -> str:
    return f"```text\n{text}\n```"
