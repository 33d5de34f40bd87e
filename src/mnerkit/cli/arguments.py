"""The parser of the verbs that import nothing heavy."""

from __future__ import annotations

import argparse
from typing import NoReturn

from mnerkit.errors import UsageError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are this program's."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}.\nSee {self.prog} --help.")


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
