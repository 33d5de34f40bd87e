"""The label of each run on Weights & Biases: its place in the papers' tables.

group     the experiment; of several that the run fills, the first one that was asked for
job type  the variant: the row of that experiment's table; of a run that others only read from, its plugin
tags      profile, plugin, corpus, and every experiment that it fills
cells     by experiment: the variant there, a sweep's value (`point`), and the cells that it `fills`, by row and column
          as in `table.json`; a mean of cells is theirs, and stands nowhere

It decides no figure: it reaches `mnerkit fit` as one more `--config FILE`, and is no part of a run's digest.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_text
from mnerkit.plain_yaml import yaml_text
from mnerkit.reproduce.cells import Grid

# below the folder of a sweep: a file of settings for each run
FOLDER = "dashboards"


@dataclass(frozen=True)
class Account:
    """Where runs are shown; None leaves it to the defaults of `mnerkit fit`, and to W&B's own settings."""

    project: str | None = None
    entity: str | None = None
    mode: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Label:
    """What a run says of its place among the experiments."""

    group: str
    variant: str
    tags: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Any]]

    def settings(self, account: Account) -> dict[str, Any]:
        """The sections of a configuration that pass the label to `mnerkit fit`."""
        given = {"project": account.project, "entity": account.entity, "mode": account.mode}
        wandb: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        wandb |= {"group": self.group, "job_type": self.variant}
        wandb["tags"] = list(dict.fromkeys((*self.tags, *account.tags)))
        return {"logger": "wandb", "wandb": {**wandb, "cells": dict(self.cells)}}


def labels(grid: Grid, names: Sequence[str]) -> dict[str, Label]:
    """The label of every run that some experiments need, by digest.

    Args:
        grid: all experiments whose cells are to be named.
        names: those that are asked for; the first of them that a run fills is its group.
    """
    order = [*names, *(name for name in grid.tables if name not in names)]
    cells: dict[str, dict[str, Any]] = {}
    for name in order:
        for digest, filled in _cells(grid, name).items():
            cells.setdefault(digest, {})[name] = filled
    made: dict[str, Label] = {}
    for run in grid.needed(names):
        here = cells.get(run.digest, {})
        # a run that fills no cell is there for those that read what it left
        among = [*here] or [name for name in order if _reads(grid, name, run.digest)]
        variant = here[among[0]]["variant"] if here else run.plugin
        made[run.digest] = Label(among[0], variant, (grid.profile, run.plugin, run.corpus, *among), here)
    return made


def _reads(grid: Grid, name: str, digest: str) -> bool:
    """Whether a run of an experiment reads what another run left."""
    firsts = (grid.runs[reader].first for reader in grid.tables[name].runs())
    return any(first is not None and first[0] == digest for first in firsts)


def _cells(grid: Grid, name: str) -> dict[str, dict[str, Any]]:
    """Digest -> what the run is in an experiment: the first row that it fills, and all its cells."""
    table = grid.tables[name]
    runs: dict[str, dict[str, Any]] = {}
    for cell in table.cells:
        row, column = table.rows[cell.row]["name"], table.columns[cell.column]["name"]
        for digest in cell.runs:
            here = runs.setdefault(digest, {"variant": row})
            if table.points:
                here.setdefault("point", table.points[cell.column % len(table.points)])
            here.setdefault("fills", []).append({"row": cell.row, "column": cell.column, "name": f"{row}: {column}"})
    return runs


def attach(grid: Grid, account: Account) -> dict[Path, dict[str, Any]]:
    """Let the wanted runs read the settings of their labels from files; the files' content, not yet written."""
    files = {}
    for digest, label in labels(grid, grid.chosen).items():
        path = grid.out / FOLDER / f"{digest}.yaml"
        files[path] = label.settings(account)
        run = grid.runs[digest]
        grid.runs[digest] = replace(run, training=replace(run.training, dashboard=str(path)))
    return files


def write(files: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write what `attach` made."""
    for path, content in files.items():
        write_text(path, yaml_text(content))


def offline(runs: Path) -> list[Path]:
    """Folders of offline records below the folder of all runs that were not sent yet."""
    records = sorted(runs.glob("*/*/*/wandb/offline-run-*"))
    return [path for path in records if any(path.glob("*.wandb")) and not any(path.glob("*.wandb.synced"))]


def sync_command(runs: Path) -> str:
    """The command that sends all offline records; those that were sent before are skipped by it."""
    return f"wandb sync {shlex.quote(str(runs))}/*/*/*/wandb/offline-run-*"
