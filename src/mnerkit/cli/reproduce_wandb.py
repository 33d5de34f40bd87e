"""`mnerkit reproduce` and Weights & Biases: `--logger wandb`, `--wandb-sweep`, `--wandb-report`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.cli.arguments import Parser, out_file
from mnerkit.errors import UsageError

if TYPE_CHECKING:
    from mnerkit.reproduce.cells import Grid
    from mnerkit.reproduce.wandb.run_labels import Account

ACCOUNT = {
    "project": "project of the runs (default: mnerkit)",
    "entity": "user or team",
    "mode": "online (default) or offline, which writes files for `wandb sync`",
    "tags": "tags of all runs, besides profile, plugin, corpus and experiments",
}


def add_options(parser: Parser) -> None:
    """The options of `mnerkit reproduce` that have to do with Weights & Biases; names as in `mnerkit fit`."""
    group = parser.add_argument_group("Weights & Biases")
    group.add_argument(
        "--logger", default="csv", choices=("csv", "wandb"), help="csv (always written), or wandb besides"
    )
    for name, meaning in ACCOUNT.items():
        several: dict[str, Any] = {"nargs": "+"} if name == "tags" else {}
        choices = {"choices": ("online", "offline")} if name == "mode" else {"metavar": name.upper()}
        group.add_argument(
            f"--wandb.{name}", f"--wandb-{name}", dest=f"wandb_{name}", help=meaning, **several, **choices
        )
    group.add_argument(
        "--wandb-sweep",
        metavar="DIR",
        help="run nothing; write a W&B sweep file of each experiment, and its runs' files",
    )
    group.add_argument(
        "--wandb-report", metavar="FILE", help="run nothing; write the definition of a W&B report (JSON)"
    )


def check(asked: argparse.Namespace) -> None:
    """Refuse options that go with no other, and a W&B that has no key.

    Raises:
        UsageError: one of them.
    """
    defines = bool(asked.wandb_sweep or asked.wandb_report)
    if defines and (asked.dry_run or asked.logger == "wandb"):
        other = "--dry-run" if asked.dry_run else "--logger wandb"
        raise UsageError(f"--wandb-sweep and --wandb-report run nothing: they do not go with {other}")
    for name in ACCOUNT:
        if getattr(asked, f"wandb_{name}") and not defines and asked.logger != "wandb":
            raise UsageError(f"--wandb.{name} has no effect without --logger wandb, --wandb-sweep or --wandb-report")
    if asked.logger == "wandb" and not asked.dry_run and _online(asked) and not _has_key():
        raise UsageError(
            "--logger wandb: this machine knows no W&B key.\n"
            "Type `wandb login`, or give --wandb.mode offline and send the runs later with `wandb sync`."
        )


def _online(asked: argparse.Namespace) -> bool:
    return asked.wandb_mode != "offline" and os.environ.get("WANDB_MODE", "online") in ("online", "shared")


def _has_key() -> bool:
    """Whether W&B could log in without asking: many processes can't."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except TypeError:  # an older wandb can only ask: the runs will say
        return True


def account(asked: argparse.Namespace) -> Account:
    """Where the runs are shown."""
    from mnerkit.reproduce.wandb.run_labels import Account

    return Account(asked.wandb_project, asked.wandb_entity, asked.wandb_mode, tuple(asked.wandb_tags or ()))


def define(asked: argparse.Namespace, grid: Grid, names: Sequence[str], profile: str, out: Path) -> int:
    """Write the sweep files and the definition of the report, as far as they are asked for."""
    from mnerkit.atomic_files import write_json
    from mnerkit.reproduce.wandb import report_definition, sweep_files

    mine = account(asked)
    report = out_file(asked.wandb_report, asked.overwrite, "--wandb-report") if asked.wandb_report else None
    if asked.wandb_sweep:
        folder = Path(asked.wandb_sweep)
        sweeps = sweep_files.write(folder, grid, names, profile, mine, out, asked.overwrite)
        print("\n".join(f"wandb sweep {path}" for path in sweeps))
        print(f"{len(sweeps)} sweeps; after `wandb sweep FILE` start agents here, as it says; runs: {out / 'runs'}")
    if report is not None:
        write_json(report, report_definition.definition(grid, names, profile, mine))
        print(f"report: python -m mnerkit.reproduce.wandb_report {report}  (needs: pip install wandb-workspaces)")
    return 0


class Board:
    """What the runs of a sweep say of themselves, where `--logger wandb` asks for it; else nothing."""

    def __init__(self, asked: argparse.Namespace, grid: Grid, names: Sequence[str], profile: str, out: Path) -> None:
        """Let the runs' commands name the files that tell their places."""
        self.files: Mapping[Path, Mapping[str, Any]] = {}
        self.runs = out / "runs"
        if asked.logger == "wandb":
            from mnerkit.reproduce.wandb import run_labels

            self.files = run_labels.attach(grid, run_labels.places(grid, names, profile), account(asked), out)

    def __enter__(self) -> None:
        """Write these files."""
        if self.files:
            from mnerkit.reproduce.wandb import run_labels

            run_labels.write(self.files)

    def __exit__(self, *_: object) -> None:
        """Say how offline records are sent, also when the sweep was stopped."""
        if self.files:
            from mnerkit.reproduce.wandb import run_labels

            if waiting := run_labels.offline(self.runs):
                print(f"{len(waiting)} offline records; to send them: {run_labels.sync_command(self.runs)}")
