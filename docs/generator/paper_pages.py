"""Pages of the papers: what each experiment runs and prints, and the errata."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from mnerkit.reproduce.experiments.experiment import Experiment, Row
from mnerkit.reproduce.experiments.experiment_files import load_all
from mnerkit.reproduce.experiments.printed import ERRATA, PAPERS

# every figure of a paper's tables stands on these pages as the paper prints it
_NO_FIGURES = "The paper prints no figures for this, or prints them as a curve."


def paper_pages(folder: Path) -> dict[str, str]:
    """A page for each paper, by its place in the site.

    Args:
        folder: of the experiments.
    """
    experiments = load_all(folder)
    pages = {}
    for name, title in PAPERS.items():
        parts = [f"# {title}", f"The method: [`{name}`](../../methods/{name}.md)."]
        own = {key: each for key, each in experiments.items() if key.partition("/")[0] == name}
        for key, experiment in own.items():
            parts += _experiment(key, experiment, folder / name)
        pages[f"papers/tables/{name}.md"] = "\n\n".join(parts) + "\n"
    return pages


def _experiment(key: str, experiment: Experiment, folder: Path) -> Iterable[str]:
    yield f"## {experiment.title}"
    if experiment.note:
        yield str(experiment.note)
    yield f"```\nmnerkit reproduce {key}\n```"
    yield table(["row", "what is run"], [[row.name, _run(row)] for row in experiment.rows])
    if experiment.sweep:
        values = ", ".join(f"`{value}`" for value in experiment.sweep.values)
        yield f"The option `--{experiment.sweep.option}` takes the values {values}."
    if experiment.printed is None:
        yield _NO_FIGURES
        return
    yield "As printed:"
    with (folder / experiment.printed.file).open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    yield table(head, rows)
    if experiment.differs:
        yield "Why ours can't be compared with these: " + "; ".join(experiment.differs) + "."


def _run(row: Row) -> str:
    if row.plugin is None:
        return f"nothing: {row.missing}"
    words = [f"[`{row.plugin}`](../../methods/{row.plugin}.md)"]
    if row.ablation:
        words.append(f"`--ablation {row.ablation}`")
    words += [f"`--{name} {_value(value)}`" for name, value in row.options.items()]
    return " ".join(words)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def errata(folder: Path) -> str:
    """The errata of all papers, a table for each."""
    with (folder / ERRATA).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    parts = []
    for paper in dict.fromkeys(row[0] for row in rows):
        head = ["where", "printed", "likely correct", "why"]
        parts += [f"## {paper}", table(head, [row[1:] for row in rows if row[0] == paper])]
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; what would end a cell or begin a tag is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text if text == "---" or "](" in text else text.replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")
