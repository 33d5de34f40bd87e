"""Filled tables as CSV (one line per cell), Markdown and LaTeX; whatever a name holds, it stays text."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby

from mnerkit.report.tables.table_file import Cell
from mnerkit.report.tables.tables import Figure, Filled
from mnerkit.templates import render
from mnerkit.text_table import csv_text

CSV_HAS = ("corpus", "seeds")  # in columns that every table has
MARKS = {"better": "†", "worse": "‡", "": ""}
_LATEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": r"$-$",  # noqa: RUF001
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",  # noqa: RUF001
    "δ": r"$\delta$",
    "…": r"\ldots{}",
}


def as_csv(filled: Filled) -> str:
    """CSV with one line per cell, which holds all that is known about it."""
    blank = Figure(Cell(row=0, column=0, state="missing"))  # a table without cells has a header too
    rows = [_csv_values(filled, figure) for figure in filled.figures.values()]
    return csv_text(_csv_values(filled, blank), [{key: _csv(value) for key, value in row.items()} for row in rows])


def _csv_values(filled: Filled, figure: Figure) -> dict[str, object]:
    table, cell, test = filled.table, figure.cell, figure.test
    column = table.columns[cell.column]
    low, high = figure.interval or (None, None)
    return {
        "experiment": table.experiment,
        "row": table.rows[cell.row].name,
        "column": column.name,
        "corpus": filled.about["corpus"][cell.row] if "corpus" in filled.about else column.corpus,
        "split": column.split,
        "metric": cell.metric,
        "printed": cell.printed,
        "printed_raw": cell.printed_raw,
        "erratum": cell.erratum,
        "corrected": cell.corrected,
        "mean": figure.mean,
        "low": low,
        "high": high,
        "n": figure.n or None,
        "seeds": " ".join(map(str, sorted(figure.values))),
        "difference": figure.difference,
        "comparable": figure.comparable,
        "verdict": figure.verdict,
        "reasons": "; ".join(figure.reasons),
        "state": figure.state,
        "why": figure.why,
        "best": figure.best or None,
        "against": None if figure.against is None else table.rows[figure.against].name,
        "test_difference": test.difference if test else None,
        "p": test.p if test else None,
        "p_holm": test.p_holm if test else None,
        "untested": figure.untested,
        "runs": " ".join(record.path.as_posix() for record in figure.records),
        **{name: texts[cell.row] for name, texts in (filled.about | filled.facts).items() if name not in CSV_HAS},
    }


def _csv(value: object) -> object:
    """A value for a cell; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return f"'{value}" if re.match(r"[=@]|[+-](?!\d+(\.\d+)?\Z)", value) else value
    return value


def as_markdown(filled: Filled) -> str:
    """The table in Markdown, with notes below it."""
    return _rendered(filled, "table.md.jinja", _markdown)


def as_latex(filled: Filled) -> str:
    """A `tabular` in a `table`, with `booktabs` rules; needs no other package."""
    return _rendered(filled, "table.tex.jinja", lambda text: text.translate(str.maketrans(_LATEX)))


def _rendered(filled: Filled, template: str, escaped: Callable[[str], str]) -> str:
    table = filled.table
    letters = notes(filled)
    rows = [
        (
            row.name,
            [texts[place] for texts in filled.about.values()],
            [_texts(filled.at(place, column), letters) for column in range(len(table.columns))],
            [texts[place] for texts in filled.facts.values()],
        )
        for place, row in enumerate(table.rows)
    ]
    values = {"table": table, "rows": rows, "about": list(filled.about), "facts": list(filled.facts)}
    values |= {"legend": legend(filled), "notes": letters}
    return render("mnerkit.report.tables", template, escaped, **values)


def _texts(figure: Figure | None, letters: dict[str, str]) -> tuple[str, str]:
    """The bold part and the rest of what a cell shows: `ours ± half† (printed, difference) a`."""
    if figure is None:
        return "", ""
    printed = figure.cell.printed_text
    marks = ",".join(letters[remark] for remark in remarks(figure))
    end = f" {marks}" if marks else ""
    if figure.mean is None:
        return "", f"{figure.state.replace('_', ' ')}{f' ({printed})' if printed else ''}{end}"
    ours = f"{figure.mean:.2f}"
    half = "" if figure.half is None else f" ± {figure.half:.2f}"
    mark = MARKS[figure.test.mark] if figure.test else ""
    difference = "" if figure.difference is None else f" ({printed}, {signed(figure.difference)})"
    rest = f"{half}{mark}{difference}{end}"
    return (ours, rest) if figure.best else ("", ours + rest)


def signed(value: float) -> str:
    """A difference with its sign, two digits."""
    return f"{value:+.2f}".replace("-", "−")  # noqa: RUF001


def remarks(figure: Figure) -> list[str]:
    """The notes about a figure below its table."""
    texts = [] if figure.mean is None or figure.reference is None else [f"not comparable: {r}" for r in figure.reasons]
    if figure.cell.erratum:
        should = "" if figure.cell.corrected is None else f"; {figure.cell.corrected:.2f} is meant"
        texts.append(f"erratum: {figure.cell.erratum}{should}")
    if figure.why:
        texts.append(f"{figure.state.replace('_', ' ')}: {figure.why}")
    return texts


def notes(filled: Filled) -> dict[str, str]:
    """The different remarks of a table, with a letter for each."""
    texts = dict.fromkeys(text for figure in filled.figures.values() for text in remarks(figure))
    return {text: _letter(number) for number, text in enumerate(texts)}


def _letter(number: int) -> str:
    return ("" if number < 26 else _letter(number // 26 - 1)) + chr(ord("a") + number % 26)


def legend(filled: Filled) -> list[str]:
    """What the marks of a table mean."""
    table = filled.table
    if table.smoke:
        return [f"Profile {table.profile} is a smoke test of the experiment: its figures say nothing of the methods."]
    beside = "" if filled.about else " (printed figure, ours minus printed)"
    lines = [f"Ours, {table.unit}: mean over seeds ± half of its 95 % t-interval{beside}."]
    if any(figure.best for figure in filled.figures.values()):
        lines.append("Bold: highest of our figures in its column that are of the same data and protocol.")
    if filled.tests:
        baseline = table.baseline_row
        against = "the best other row" if baseline is None else table.rows[baseline].name
        test = "t test that draws posts and seeds" if filled.draws_seeds else "paired approximate randomisation"
        lines.append(
            f"†, ‡: significantly above, below {against} (p < 0.05, {test}, with Holm's "
            f"correction for {filled.tests} test{'' if filled.tests == 1 else 's'})."
        )
    untested = [figure.untested for figure in filled.figures.values() if figure.untested]
    lines += [f"Untested ({len(list(same))}): {why}" for why, same in groupby(sorted(untested))][:5]
    return lines


def _markdown(text: str) -> str:
    """Escaped for a line of Markdown, in a table or not; HTML stays text."""
    return re.sub(r"([\\`*_\[\]|<>#~&!])", r"\\\1", text).replace(r"\<", "&lt;").replace(r"\>", "&gt;")


FORMATS = {"csv": as_csv, "md": as_markdown, "tex": as_latex}
