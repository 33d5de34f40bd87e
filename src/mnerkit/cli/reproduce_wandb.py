"""`mnerkit reproduce` and Weights & Biases: `--logger wandb`, `--wandb-sweep`, `--wandb-report`."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.cli.arguments import Parser, out_file
from mnerkit.errors import UsageError
from mnerkit.printable import show

if TYPE_CHECKING:
    from mnerkit.reproduce.cells import Grid
    from mnerkit.reproduce.wandb_files import Account

ACCOUNT = {
    "project": "project of the runs (default: mnerkit)",
    "entity": "user or team",
    "mode": "online (default) or offline, which writes files for `wandb sync`",
    "tags": "tags of all runs, besides profile, plugin, corpus and experiments",
}


def add_options(parser: Parser) -> None:
    """The options of `mnerkit reproduce` that have to do with Weights & Biases; names as in `mnerkit fit`."""
    add = parser.add_argument_group("Weights & Biases").add_argument
    add("--logger", default="csv", choices=("csv", "wandb"), help="csv (always written), or wandb besides")
    takes: dict[str, Any] = {"mode": {"choices": ("online", "offline")}, "tags": {"metavar": "TAGS", "nargs": "+"}}
    for name, meaning in ACCOUNT.items():
        how = takes.get(name, {"metavar": name.upper()})
        add(f"--wandb.{name}", f"--wandb-{name}", dest=f"wandb_{name}", help=meaning, **how)
    sweep, report = "a W&B sweep file of each experiment, and its runs' files", "the definition of a W&B report (JSON)"
    add("--wandb-sweep", metavar="DIR", help=f"run nothing; write {sweep}")
    add("--wandb-report", metavar="FILE", help=f"run nothing; write {report}")


def check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together, and W&B without a key.

    Raises:
        UsageError: one of them.
    """
    idle = defines(options)
    dry = "--dry-run" if options.dry_run else "--commands" if options.commands else ""
    if idle and (dry or options.logger == "wandb"):
        other = dry or "--logger wandb"
        raise UsageError(f"--wandb-sweep and --wandb-report run nothing: they do not go with {other}")
    for name in ACCOUNT:
        if getattr(options, f"wandb_{name}") and not idle and options.logger != "wandb":
            raise UsageError(f"--wandb.{name} has no effect without --logger wandb, --wandb-sweep or --wandb-report")
    online = options.wandb_mode != "offline" and os.environ.get("WANDB_MODE", "online") in ("online", "shared")
    if options.logger == "wandb" and not dry and online and not _has_key():
        raise UsageError(
            "--logger wandb: this machine knows no W&B key.\n"
            "Type `wandb login`, or give --wandb.mode offline and send the runs later with `wandb sync`."
        )


def _has_key() -> bool:
    """Whether W&B could log in without asking: many processes can't."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except TypeError:  # an older wandb can only prompt: the runs will fail with its message
        return True


def defines(options: argparse.Namespace) -> bool:
    """Whether files for W&B are written and nothing is run."""
    return bool(options.wandb_sweep or options.wandb_report)


def _account(options: argparse.Namespace) -> Account:
    """Where the runs are shown."""
    given = {name: getattr(options, f"wandb_{name}") for name in ACCOUNT}
    return {name: value for name, value in given.items() if value is not None}


def define(options: argparse.Namespace, grid: Grid) -> int:
    """Write the sweep files and the definition of the report, whichever are requested."""
    from mnerkit.atomic_files import write_json
    from mnerkit.reproduce import wandb_files, wandb_report

    account = _account(options)
    report = out_file(options.wandb_report, options.overwrite, "--wandb-report") if options.wandb_report else None
    if options.wandb_sweep:
        sweeps = wandb_files.write_sweeps(Path(options.wandb_sweep), grid, account, options.overwrite)
        show(*(f"wandb sweep {path}" for path in sweeps))
        show(f"{len(sweeps)} sweeps; after `wandb sweep FILE` start agents here, as it says; runs: {grid.runs_dir}")
    if report is not None:
        write_json(report, wandb_report.definition(grid, account))
        show(f"report: python -m mnerkit.reproduce.wandb_report {report}  (needs: pip install wandb-workspaces)")
    return 0


@contextlib.contextmanager
def written(options: argparse.Namespace, grid: Grid) -> Iterator[None]:
    """With `--logger wandb`: write the labels of the runs; at the end, print how offline records are sent.

    Also when the sweep was stopped.
    """
    from mnerkit.reproduce import wandb_files

    if options.logger != "wandb":
        yield
        return
    wandb_files.write_labels(grid, _account(options))
    try:
        yield
    finally:
        if waiting := wandb_files.offline(grid.runs_dir):
            show(f"{len(waiting)} offline records; to send them: {wandb_files.sync_command(grid.runs_dir)}")
