"""Filled tables as CSV (a line a cell), Markdown and LaTeX; whatever a name holds, it stays text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from itertools import groupby

from mnerkit.data.corpus.show import visible
from mnerkit.report.tables.tables import Figure, Filled

MARKS = {"better": "†", "worse": "‡", "": ""}
COLUMNS = (
    "experiment",
    "row",
    "column",
    "corpus",
    "split",
    "metric",
    "printed",
    "printed_raw",
    "erratum",
    "corrected",
    "mean",
    "low",
    "high",
    "n",
    "seeds",
    "difference",
    "comparable",
    "verdict",
    "reasons",
    "state",
    "why",
    "best",
    "against",
    "test_difference",
    "p",
    "p_holm",
    "untested",
    "runs",
)
_LATEX = {
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
    """One line a cell, with everything that is known of it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    table = filled.table
    for (row, column), figure in filled.figures.items():
        cell, kind, test = figure.cell, table.columns[column], figure.test
        bounds: list[float | None] = [None, None]
        if figure.mean is not None and figure.half is not None:
            bounds = [figure.mean - figure.half, figure.mean + figure.half]
        values: list[object] = [table.experiment, table.rows[row].name, kind.name, kind.corpus, kind.split, cell.metric]
        values += [cell.printed, cell.printed_raw, cell.erratum, cell.corrected, figure.mean, *bounds, figure.n or None]
        values += [" ".join(map(str, sorted(figure.values))), figure.difference, figure.comparable, figure.verdict]
        values += ["; ".join(figure.reasons), figure.state, figure.why, figure.best or None]
        values += [table.rows[test.against].name, test.difference, test.p, test.p_holm] if test else [None] * 4
        values += [figure.untested, " ".join(record.path.as_posix() for record in figure.records)]
        writer.writerow([_csv(value) for value in values])
    return stream.getvalue()


def _csv(value: object) -> object:
    """A value for a cell; a text that a spreadsheet would compute gets an apostrophe before it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        text = "".join(visible(value))
        return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not _is_number(text) else text
    return value


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", text) is not None


def as_markdown(filled: Filled) -> str:
    """The table, a line for the paper's figure and one for ours in each cell, and notes below."""
    table = filled.table
    lines = [f"# {_markdown(table.title or table.experiment)}", ""]
    if table.note:
        lines += [_markdown(table.note), ""]
    lines += ["| | " + " | ".join(_markdown(column.name) for column in table.columns) + " |"]
    lines += ["|---" * (len(table.columns) + 1) + "|"]
    letters, told = notes(filled)
    for row, named in enumerate(table.rows):
        cells = [_cell(filled.at(row, column), letters, _bold, _markdown) for column in range(len(table.columns))]
        lines += [f"| {_markdown(named.name)} | " + " | ".join(cells) + " |"]
    lines += ["", *(f"- {_markdown(each)}" for each in legend(filled)), *(f"- {a}: {_markdown(b)}" for a, b in told)]
    return "\n".join(lines) + "\n"


def as_latex(filled: Filled) -> str:
    """A `tabular` in a `table`, with `booktabs` rules; needs no other package."""
    table = filled.table
    letters, told = notes(filled)
    lines = [r"% needs \usepackage{booktabs,textcomp}", r"\begin{table}", r"\centering", r"\small"]
    lines += [rf"\caption{{{_latex(table.title or table.experiment)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    lines += [" & " + " & ".join(_latex(column.name) for column in table.columns) + r" \\", r"\midrule"]
    for row, named in enumerate(table.rows):
        cells = [_cell(filled.at(row, column), letters, _textbf, _latex) for column in range(len(table.columns))]
        # after the end of a row LaTeX takes [ and * for its own
        guard = "{}" if named.name[:1] in ("[", "*") else ""
        lines += [guard + _latex(named.name) + " & " + " & ".join(cells) + r" \\"]
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip\footnotesize"]
    lines += [_latex(each) + r"\\" for each in [*legend(filled), *(f"{a}: {b}" for a, b in told)]]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _cell(
    figure: Figure | None,
    letters: dict[str, str],
    strong: Callable[[str], str],
    escaped: Callable[[str], str],
) -> str:
    """`ours ± half† (printed, difference)a`."""
    if figure is None:
        return ""
    printed = figure.cell.printed_text
    if figure.mean is None:
        return escaped(
            f"{figure.state.replace('_', ' ')}{f' ({printed})' if printed else ''}{_letters(figure, letters)}"
        )
    ours = escaped(f"{figure.mean:.2f}")
    half = "" if figure.half is None else f" ± {figure.half:.2f}"
    told = "" if figure.difference is None else f" ({printed}, {signed(figure.difference)})"
    mark = MARKS[figure.test.mark] if figure.test else ""
    return (strong(ours) if figure.best else ours) + escaped(f"{half}{mark}{told}{_letters(figure, letters)}")


def signed(value: float) -> str:
    """A difference with its sign, two digits."""
    return f"{value:+.2f}".replace("-", "−")  # noqa: RUF001


def remarks(figure: Figure) -> list[str]:
    """What is to be said of a figure below its table."""
    said = [] if figure.mean is None or figure.reference is None else [f"not comparable: {r}" for r in figure.reasons]
    if figure.cell.erratum:
        should = "" if figure.cell.corrected is None else f"; {figure.cell.corrected:.2f} is meant"
        said.append(f"erratum: {figure.cell.erratum}{should}")
    if figure.why:
        said.append(f"{figure.state.replace('_', ' ')}: {figure.why}")
    return said


def notes(filled: Filled) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """A letter for each different remark of a table."""
    said = dict.fromkeys(each for figure in filled.figures.values() for each in remarks(figure))
    letters = {text: _letter(number) for number, text in enumerate(said)}
    return letters, [(letter, text) for text, letter in letters.items()]


def _letter(number: int) -> str:
    return ("" if number < 26 else _letter(number // 26 - 1)) + chr(ord("a") + number % 26)


def _letters(figure: Figure, letters: dict[str, str]) -> str:
    found = ",".join(letters[each] for each in remarks(figure))
    return f" {found}" if found else ""


def legend(filled: Filled) -> list[str]:
    """What the marks of a table mean."""
    table = filled.table
    said = [f"Ours, {table.unit}: mean over seeds ± half of its 95 % t-interval (printed figure, ours minus printed)."]
    if any(figure.best for figure in filled.figures.values()):
        said.append("Bold: highest of our figures in its column that are of the same data and protocol.")
    if filled.tests:
        baseline = table.baseline_row
        against = "the best other row" if baseline is None else table.rows[baseline].name
        said.append(
            f"†, ‡: significantly above, below {against} (p < 0.05, paired approximate randomisation, with Holm's "
            f"correction for {filled.tests} test{'' if filled.tests == 1 else 's'})."
        )
    untested = [figure.untested for figure in filled.figures.values() if figure.untested]
    said += [f"Untested ({len(list(same))}): {why}" for why, same in groupby(sorted(untested))][:5]
    return said


def _bold(text: str) -> str:
    return f"**{text}**"


def _textbf(text: str) -> str:
    return rf"\textbf{{{text}}}"


def _markdown(text: str) -> str:
    """Escaped for a line of Markdown, in a table or not; HTML stays text."""
    plain = "".join(visible(text))
    return re.sub(r"([\\`*_\[\]|<>#~&!])", r"\\\1", plain).replace(r"\<", "&lt;").replace(r"\>", "&gt;")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(each, each) for each in visible(text))


def kinds() -> Sequence[tuple[str, Callable[[Filled], str]]]:
    """Suffix and writer of each format."""
    return (("csv", as_csv), ("md", as_markdown), ("tex", as_latex))
