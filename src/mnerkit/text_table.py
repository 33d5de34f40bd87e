"""Tables of text: as wide as the terminal, or plain and whole where the output is a file or a pipe."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnerkit.printable import Printable, one_line

if TYPE_CHECKING:
    from rich.console import Console

UNLIMITED = 1 << 20  # columns of a line that no terminal shows


def cell(value: Any) -> str:
    """A figure with two digits, `-` for None, anything else as text."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def markdown_cell(value: Any, most: int = 200) -> str:
    """A value as a cell of a table in Markdown: on one line, at most so many letters, what Markdown reads escaped."""
    text: str = one_line(str(value))
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(f"\\{letter}" if letter in "|<>`\\" else letter for letter in text)


def csv_text(head: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV with a line for `head` and one for each row, texts escaped; a value that a row lacks is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    keys = list(head)
    lines: list[list[Any]] = [keys, *([row.get(key) for key in keys] for row in rows)]
    writer.writerows([one_line(value) if isinstance(value, str) else value for value in line] for line in lines)
    return stream.getvalue()


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Printable:
    """Columns under `head`; numbers are aligned right, texts left.

    In a terminal the names of the columns are bold, and texts wrap where the table would be wider than the screen.
    """
    # not above: `mnerkit --help` and misspelt options are answered before rich is imported
    from rich.console import Console

    numeric = [all(isinstance(row[column], int | float | None) for row in rows) for column in range(len(head))]
    texts = [[one_line(name) for name in head], *([one_line(cell(value)) for value in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*texts, strict=True)]
    shown = sys.stdout.isatty()
    console = Console(file=io.StringIO(), force_terminal=shown, width=None if shown else UNLIMITED)
    if sum(widths) + 2 * len(widths) > console.width:
        return _by_rich(console, texts, numeric, [None] * len(numeric))
    # rich alone would take a second for some hundred rows
    body = [_line(row, widths, numeric) for row in texts[1:]]
    return Printable("\n".join([_by_rich(console, texts[:1], numeric, widths), *body]))


def _line(texts: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    pads = [" " * (width - _width(text)) for text, width in zip(texts, widths, strict=True)]
    cells = (pad + text if right else text + pad for text, pad, right in zip(texts, pads, numeric, strict=True))
    return "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def _by_rich(
    console: Console, texts: Sequence[Sequence[str]], numeric: Sequence[bool], widths: Sequence[int | None]
) -> Printable:
    """A table whose first texts are its head; columns of given widths, or as wide as fits."""
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for right, width in zip(numeric, widths, strict=True):
        grid.add_column(justify="right" if right else "left", no_wrap=right, overflow="fold", width=width)
    grid.add_row(*(Text(name, "bold") for name in texts[0]))
    grid.add_row(*(Rule(characters="-", style="") for _ in texts[0]))
    for row in texts[1:]:
        grid.add_row(*map(Text, row))
    if console.measure(grid, options=console.options.update(max_width=UNLIMITED)).maximum > console.width:
        grid.padding = (0, 1, 0, 0)
    with console.capture() as text:
        console.print(grid)
    return Printable("\n".join(line.rstrip() for line in text.get().removesuffix("\n").split("\n")))
