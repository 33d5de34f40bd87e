"""Figures, tables and self-contained pages from runs and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnerkit.report.page.writing import Written


def write(out: Path, tables: Sequence[Path] = (), runs: Sequence[Path] = (), **options: Any) -> Written:
    """Write a report of tables and runs into a folder: CSV, Markdown and LaTeX of each table, and one HTML page.

    A report that is there already is replaced; anything else is left alone.

    Args:
        out: the folder; made where it is missing.
        tables: table files (format `mnerkit-table`), as `mnerkit reproduce` writes them.
        runs: run folders; those of the tables need not be named.
        options: the other arguments of `writing.write_report`.

    Returns:
        What was written, and what was wrong with runs and tables that were left out.

    Raises:
        UsageError: the folder holds other files of the same names.
        DataError: nothing that was given can be reported.
    """
    from mnerkit.report.page.writing import write_report

    return write_report(Path(out), list(map(Path, tables)), list(map(Path, runs)), **options)
