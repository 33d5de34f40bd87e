"""Tables of text: as wide as the terminal, or plain and whole where the output is a file or a pipe."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnerkit.printable import Printable, one_line

UNLIMITED = 1 << 20  # columns of a line that no terminal shows


def cell(value: Any) -> str:
    """A figure with two digits, `-` for None, anything else as text."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


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
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for column in range(len(head)):
        numeric = all(isinstance(row[column], int | float) or row[column] is None for row in rows)
        grid.add_column(justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    grid.add_row(*(Text(one_line(name), "bold") for name in head))
    grid.add_row(*(Rule(characters="-", style="") for _ in head))
    for row in rows:
        grid.add_row(*(Text(one_line(cell(value))) for value in row))
    shown = sys.stdout.isatty()
    console = Console(file=io.StringIO(), force_terminal=shown, width=None if shown else UNLIMITED)
    if console.measure(grid, options=console.options.update(max_width=UNLIMITED)).maximum > console.width:
        grid.padding = (0, 1, 0, 0)
    with console.capture() as text:
        console.print(grid)
    return Printable("\n".join(line.rstrip() for line in text.get().removesuffix("\n").split("\n")))
