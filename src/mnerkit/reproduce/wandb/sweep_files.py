"""W&B sweep files: a grid with one parameter, `config`, whose values are files for `mnerkit fit --config`.

A W&B grid is the product of its parameters, and an experiment is no product: a row has a plugin and an ablation of its
own. So each run is one value. Its file holds the whole resolved configuration, and the run's digest as its name:
agents and `mnerkit reproduce` fill the same run folders, and what one of them has finished the other does not repeat.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_text
from mnerkit.errors import UsageError
from mnerkit.plain_yaml import yaml_text
from mnerkit.reproduce.cells import Grid, Run
from mnerkit.reproduce.wandb.run_labels import Account, labels


def write(folder: Path, grid: Grid, account: Account, overwrite: bool = False) -> list[Path]:
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
        firsts = {run.first[0] for run in runs if run.first is not None}
        runs.sort(key=lambda run: run.digest not in firsts)
        of_run = labels(grid, [name])
        values = []
        for run in runs:
            path = folder / name / f"{_slug(of_run[run.digest].variant)}-s{run.seed}-{run.digest[:8]}.yaml"
            settings = {**configuration(run, grid), **of_run[run.digest].settings(account)}
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


def configuration(run: Run, grid: Grid) -> dict[str, Any]:
    """The resolved configuration of a run, named by its digest."""
    return {**grid.training(run).configuration().content, "name": run.digest}


def sweep(name: str, values: Sequence[str], grid: Grid, account: Account) -> dict[str, Any]:
    """What `wandb sweep` reads."""
    owner = {"entity": account.entity} if account.entity else {}
    return {
        "name": f"{name} ({grid.profile})",
        **owner,
        "project": account.project or "mnerkit",
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
