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
from mnerkit.reproduce.wandb.run_labels import Account, places


def write(
    folder: Path,
    grid: Grid,
    names: Sequence[str],
    profile: str,
    account: Account,
    out: Path,
    overwrite: bool = False,
) -> list[Path]:
    """Write sweeps of experiments: `<folder>/<experiment>.yaml`, and the files of its runs in `<folder>/<experiment>/`.

    Args:
        folder: where they go.
        grid: the runs.
        names: the experiments; one without runs at this profile has no sweep.
        profile: its name.
        account: where the runs are shown.
        out: the folder of `mnerkit reproduce`; run folders lie in its `runs`.
        overwrite: replace files that are there.

    Returns:
        The sweep files.

    Raises:
        UsageError: a file is there already; none is written then.
    """
    files: dict[Path, str] = {}
    sweeps = []
    for name in names:
        needed = grid.needed([name])
        if not needed:
            continue
        # a grid is done in the order of its values
        firsts = {run.first[0] for run in needed if run.first is not None}
        runs = [run for run in needed if run.digest in firsts] + [run for run in needed if run.digest not in firsts]
        known = places(grid, [name], profile)
        values = []
        for run in runs:
            path = folder / name / f"{_slug(known[run.digest].variant)}-s{run.seed}-{run.digest[:8]}.yaml"
            settings = {**configuration(run, grid, out), **known[run.digest].settings(account)}
            files[path] = yaml_text(settings, f"A run of {name}: mnerkit fit --config {path}")
            values.append(str(path))
        path = folder / f"{name}.yaml"
        files[path] = yaml_text(sweep(name, values, profile, account, out), *_comments(path, len(firsts)))
        sweeps.append(path)
    if (there := [path for path in files if path.exists()]) and not overwrite:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(f"{there[0]} exists{more}.\nGive --overwrite to replace it, or another --wandb-sweep.")
    for path, text in files.items():
        write_text(path, text)
    return sweeps


def configuration(run: Run, grid: Grid, out: Path) -> dict[str, Any]:
    """The resolved configuration of a run, named by its digest."""
    return {**run.training_in(out / "runs", grid.runs).configuration().content, "name": run.digest}


def sweep(name: str, values: Sequence[str], profile: str, account: Account, out: Path) -> dict[str, Any]:
    """What `wandb sweep` reads."""
    owner = {"entity": account.entity} if account.entity else {}
    return {
        "name": f"{name} ({profile})",
        **owner,
        "project": account.project or "mnerkit",
        "method": "grid",
        "program": "mnerkit",
        "command": ["${env}", "${program}", "fit", "${args}", "--test", "--runs_dir", str(out / "runs")],
        "parameters": {"config": {"values": list(values)}},
    }


def _comments(path: Path, firsts: int) -> list[str]:
    said = [
        f"wandb sweep {path}",
        "then `wandb agent` as it says, once or on several machines, in the folder where the paths here begin.",
        "Runs are named by a digest of options, data and behaviour: after a change of these write the files anew.",
    ]
    if firsts:
        number = "run leaves" if firsts == 1 else f"{firsts} runs leave"
        said.append(f"The first {number} files that others read: begin with `wandb agent --count {firsts}`, alone.")
    return said


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text).strip("_.") or "run"
