"""A W&B report of the ablations: its definition as JSON, and a program that makes the report of it.

`mnerkit reproduce --wandb-report FILE` writes the definition, `python -m mnerkit.reproduce.wandb_report FILE` makes the
report in the project, with the package `wandb-workspaces`. A section is a grid of panels over the runs of one
experiment on one corpus, selected by their tags; the definition can be edited in between.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from mnerkit.errors import MnerkitError, UsageError
from mnerkit.printable import complain, show
from mnerkit.reproduce.cells import Grid, Table
from mnerkit.reproduce.wandb_files import Account
from mnerkit.strict_json import read_format
from mnerkit.validation import Content, ListOf, Text, validated

FORMAT, VERSION = "mnerkit-wandb-report", 1
# columns and rows of W&B's own grid
WIDTH, HEIGHT = 12, 8


class Panel(Content):
    """One chart: what it shows (`y`) over what (`x`), and by what its bars or lines are grouped."""

    kind: Literal["bars", "points", "lines"]
    title: Text
    y: Text
    x: Text = ""
    by: Text = ""


class Section(Content):
    """A grid of panels over the runs that have all these tags."""

    title: Text
    note: Text
    tags: ListOf[Text]
    panels: ListOf[Panel]


class Definition(Content):
    """What the file of a report holds."""

    title: Text = "mnerkit"
    entity: Text | None = None
    project: Text = "mnerkit"
    sections: ListOf[Section]


def definition(grid: Grid, account: Account) -> dict[str, Any]:
    """What is drawn of the chosen experiments.

    Bars are the mean over seeds (and over splits of one corpus, where a table has several) of a variant's final figure,
    with its standard deviation; points are the final figures of a sweep over its option; lines are dev F1 by epoch.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": f"mnerkit: tables and ablations, profile {grid.profile.name}",
        "entity": account.get("entity"),
        "project": account.get("project") or "mnerkit",
        "sections": [section for table in grid.chosen_tables for section in _sections(grid, table)],
    }


def _sections(grid: Grid, table: Table) -> Iterator[dict[str, Any]]:
    """A section for each corpus of an experiment."""
    experiment = table.experiment
    key = f"cells.{experiment.name}"
    panels: list[dict[str, Any]] = []
    for metric in experiment.metrics:
        figure = {"title": metric.name, "y": f"final/{metric.split}/{metric.metric}"}
        if table.points:
            panels.append({"kind": "points", **figure, "x": f"{key}.point"})
        else:
            panels.append({"kind": "bars", **figure, "by": f"{key}.variant"})
    if any(metric.metric == "f1" for metric in experiment.metrics):
        lines = {"kind": "lines", "title": "dev F1 by epoch", "y": "dev/f1", "x": "epoch", "by": f"{key}.variant"}
        panels.append(lines)
    corpora = list(dict.fromkeys(grid.runs[digest].corpus for cell in table.cells for digest in cell.runs))
    for corpus in corpora:
        title = experiment.title + (f" ({corpus})" if len(corpora) > 1 else "")
        tags = [grid.profile.name, experiment.name, corpus]
        yield {"title": title, "note": experiment.note, "tags": tags, "panels": panels}


def read(path: Path) -> Definition:
    """A definition from its file.

    Raises:
        DataError: it is none, or of another version, or has a panel of an unknown kind.
    """
    return validated(Definition, read_format(path, "definition of a W&B report", FORMAT, VERSION), path)


def made(report: Definition, entity: str | None = None) -> Any:
    """The `wandb_workspaces` report of a definition, not yet saved.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        from wandb_workspaces import expr
    except ImportError:
        raise UsageError("making the report needs W&B's own package: pip install wandb-workspaces") from None
    owner = entity or report.entity
    where: dict[str, Any] = {"project": report.project, **({"entity": owner} if owner else {})}
    blocks: list[Any] = []
    for section in report.sections:
        filters = expr.And(*(expr.Tags().isin([tag]) for tag in section.tags))
        runs = wr.Runset(**where, name=" ".join(section.tags), filters=filters)
        panels = [_panel(wr, panel, number) for number, panel in enumerate(section.panels)]
        blocks += [wr.H2(section.title), wr.P(section.note), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(**where, title=report.title, width="fluid", blocks=[wr.TableOfContents(), *blocks])


def _panel(wr: Any, panel: Panel, number: int) -> Any:
    place = wr.Layout(x=WIDTH * (number % 2), y=HEIGHT * (number // 2), w=WIDTH, h=HEIGHT)
    if panel.kind == "points":
        x, y = wr.Config(panel.x), wr.SummaryMetric(panel.y)
        return wr.ScatterPlot(title=panel.title, x=x, y=y, layout=place)
    grouped = {"groupby": wr.Config(panel.by), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    if panel.kind == "bars":
        return wr.BarPlot(title=panel.title, metrics=[wr.SummaryMetric(panel.y)], layout=place, **grouped)
    return wr.LinePlot(title=panel.title, x=panel.x, y=[panel.y], layout=place, **grouped)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the report of a definition, and say where it is."""
    parser = argparse.ArgumentParser("python -m mnerkit.reproduce.wandb_report", description=main.__doc__)
    parser.add_argument("file", metavar="FILE", help="what `mnerkit reproduce --wandb-report FILE` wrote")
    parser.add_argument("--entity", help="user or team (default: the definition's, else your own)")
    options = parser.parse_args(argv)
    try:
        report = made(read(Path(options.file)), options.entity)
    except MnerkitError as error:
        complain(error)
        return error.exit_code
    report.save()
    show(report.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
