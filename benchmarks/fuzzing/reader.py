"""A reader of mnerkit's as the fuzzer sees it: valid files, mnerkit's reading, and a plain one beside it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import mutated

VALID = 0.05  # share of inputs that are left as they are, and must be read


@dataclass(frozen=True)
class Input:
    """A file to be read.

    Attributes:
        content: its bytes.
        valid: whether nothing is wrong with it.
        truth: what must be read where it is accepted; where None, what the plain reader reads.
    """

    content: bytes
    valid: bool
    truth: Any = None


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        name: of the reader.
        file: what the file is called.
        form: which mutations suit it (`mutations.FORMS`).
        seed: makes a valid file.
        read: reads a file with mnerkit's public reader.
        plain: reads it independently of mnerkit, with the same result, or raises anything.
        beside: other files of its folder.
        agree: whether mnerkit's result and the plain one are the same.
        make: makes an input, where mutations of bytes alone don't reach far enough.
    """

    name: str
    file: str
    form: str
    seed: Callable[[Random], bytes]
    read: Callable[[Path], Any]
    plain: Callable[[Path], Any]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    agree: Callable[[Any, Any], bool] = operator.eq
    make: Callable[[Random], Input] | None = None

    def input(self, seed: int) -> Input:
        """The input of a seed."""
        draw = Random(f"{self.name} {seed}")
        if self.make is not None:
            return self.make(draw)
        content = self.seed(draw)
        if draw.random() < VALID:
            return Input(content, True)
        return Input(mutated(draw, self.form, content, self.seed(draw)), False)
