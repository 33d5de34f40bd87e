"""What Weights & Biases reads of a sweep: the label of each run, and sweep files for its agents.

A label is the run's place in the papers' tables:

group     the experiment; of several that the run fills, the first requested one
job type  the variant: the row of that experiment's table; of a run that others only read from, its plugin
tags      profile, plugin, corpus, and every experiment that it fills
cells     by experiment: the variant there, a sweep's value (`point`), and the cells that it `fills`, by row and column
          as in `table.json`; a mean of cells is theirs, and stands nowhere

It decides no figure: it reaches `mnerkit fit` as one more `--config FILE`, and is no part of a run's digest.

A W&B sweep is a grid with one parameter, `config`, whose values are files for `mnerkit fit --config`. Such a grid is
the product of its parameters, and an experiment is no product: a row has a plugin and an ablation of its own. So each
run is one value. Its file holds the whole resolved configuration, and the run's digest as its name: agents and
`mnerkit reproduce` fill the same run folders, and what one of them has finished the other does not repeat.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_text
from mnerkit.errors import UsageError
from mnerkit.plain_yaml import yaml_text
from mnerkit.reproduce.cells import Grid, Run

# where runs are shown: `project`, `entity`, `mode` and `tags`; what is left out is left to the defaults of
# `mnerkit fit`, and to W&B's own settings
Account = Mapping[str, Any]


def labels(grid: Grid, names: Sequence[str], account: Account) -> dict[str, dict[str, Any]]:
    """Digest -> the sections of a configuration that pass the run's label to `mnerkit fit`.

    Args:
        grid: all experiments whose cells are to be named.
        names: experiments whose runs, and those that these need, get a label; the first that a run fills is its group.
        account: where the runs are shown.
    """
    order = [*names, *(name for name in grid.tables if name not in names)]
    cells: dict[str, dict[str, Any]] = {}
    for name in order:
        for digest, filled in _cells(grid, name).items():
            cells.setdefault(digest, {})[name] = filled
    made: dict[str, dict[str, Any]] = {}
    for run in grid.needed(names):
        here = cells.get(run.digest, {})
        # a run that fills no cell is there for those that read what it left
        among = [*here] or [name for name in order if run.digest in grid.tables[name].firsts(grid.runs)]
        tags = dict.fromkeys((grid.profile.name, run.plugin, run.corpus, *among, *account.get("tags", ())))
        wandb = {name: value for name, value in account.items() if name != "tags"}
        wandb |= {"group": among[0], "job_type": here[among[0]]["variant"] if here else run.plugin}
        made[run.digest] = {"logger": "wandb", "wandb": {**wandb, "tags": list(tags), "cells": here}}
    return made


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


def write_labels(grid: Grid, account: Account) -> None:
    """Write the files that the wanted runs of a grid with dashboards read."""
    for digest, settings in labels(grid, grid.chosen, account).items():
        write_text(Path(str(grid.runs[digest].training.dashboard)), yaml_text(settings))


def offline(runs: Path) -> list[Path]:
    """Folders of offline records below the folder of all runs that were not sent yet."""
    records = sorted(runs.glob("*/*/*/wandb/offline-run-*"))
    return [path for path in records if any(path.glob("*.wandb")) and not any(path.glob("*.wandb.synced"))]


def sync_command(runs: Path) -> str:
    """The command that sends all offline records; those that were sent before are skipped by it."""
    return f"wandb sync {shlex.quote(str(runs))}/*/*/*/wandb/offline-run-*"


def write_sweeps(folder: Path, grid: Grid, account: Account, overwrite: bool = False) -> list[Path]:
    """Write sweeps of the chosen experiments: `<folder>/<experiment>.yaml`, and its runs' files in `<experiment>/`.

    Args:
        folder: where they go.
        grid: the runs; an experiment without runs at this profile has no sweep.
        account: where the runs are shown.
        overwrite: replace files that are there.

    Returns:
        The sweep files.

    Raises:
        UsageError: a file is there already; none is written then.
    """
    files: dict[Path, str] = {}
    sweeps = []
    for name in grid.chosen:
        runs = grid.needed([name])
        if not runs:
            continue
        # a grid is done in the order of its values
        firsts = grid.tables[name].firsts(grid.runs)
        runs.sort(key=lambda run: run.digest not in firsts)
        of_run = labels(grid, [name], account)
        values = []
        for run in runs:
            label = of_run[run.digest]
            path = folder / name / f"{_slug(label['wandb']['job_type'])}-s{run.seed}-{run.digest[:8]}.yaml"
            settings = {**configuration(run), **label}
            files[path] = yaml_text(settings, f"A run of {name}: mnerkit fit --config {path}")
            values.append(str(path))
        path = folder / f"{name}.yaml"
        files[path] = yaml_text(sweep(name, values, grid, account), *_comments(path, len(firsts)))
        sweeps.append(path)
    if (there := [path for path in files if path.exists()]) and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(f"{there[0]} exists{more}.\nGive --overwrite to replace it, or another --wandb-sweep.")
    for path, text in files.items():
        write_text(path, text)
    return sweeps


def configuration(run: Run) -> dict[str, Any]:
    """The resolved configuration of a run, named by its digest."""
    return {**run.training.configuration().content, "name": run.digest}


def sweep(name: str, values: Sequence[str], grid: Grid, account: Account) -> dict[str, Any]:
    """What `wandb sweep` reads."""
    owner = {"entity": account["entity"]} if account.get("entity") else {}
    return {
        "name": f"{name} ({grid.profile.name})",
        **owner,
        "project": account.get("project") or "mnerkit",
        "method": "grid",
        "program": "mnerkit",
        "command": ["${env}", "${program}", "fit", "${args}", "--test", "--runs_dir", str(grid.runs_dir)],
        "parameters": {"config": {"values": list(values)}},
    }


def _comments(path: Path, firsts: int) -> list[str]:
    lines = [
        f"wandb sweep {path}",
        "then `wandb agent` as it says, once or on several machines, in the folder where the paths here begin.",
        "Runs are named by a digest of options, data and behaviour: after a change of these write the files anew.",
    ]
    if firsts:
        number = "run leaves" if firsts == 1 else f"{firsts} runs leave"
        lines.append(f"The first {number} files that others read: begin with `wandb agent --count {firsts}`, alone.")
    return lines


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text).strip("_.") or "run"
