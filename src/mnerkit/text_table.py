"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cell(value: Any) -> str:
    """A figure with two digits, `-` for None, anything else as text."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns under `head`; columns of numbers are set right, others left."""
    texts = [[cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(head))]
    widths = [max([len(head[i]), *(len(row[i]) for row in texts)]) for i in range(len(head))]

    def line(values: Sequence[str]) -> str:
        set_ = [v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True)]
        return "  ".join(set_).rstrip()

    return "\n".join([line(list(head)), "  ".join("-" * width for width in widths), *(line(row) for row in texts)])
