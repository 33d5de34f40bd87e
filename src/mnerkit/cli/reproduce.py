"""`mnerkit reproduce`: the papers' tables and figures, printed figures beside ours."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnerkit.cli import reproduce_wandb
from mnerkit.cli.arguments import Parser, positive, read
from mnerkit.errors import Stopped, UsageError, did_you_mean, first_line
from mnerkit.printable import show
from mnerkit.runs.config.config_file import default

if TYPE_CHECKING:
    from mnerkit.reproduce.cells import Grid
    from mnerkit.reproduce.executors.tasks import Executor

EXECUTORS = ("local", "ray")
SIZES = ("shrunk", "full")  # of the towers of a rehearsal
FOLDERS = {
    "out": "where all is written (default: runs/reproduce/<profile>)",
    "keep": "runs that DIR holds are not run again, and finished ones join it: small files without weights and words",
    "experiments": "folder of the experiments (default: of the working folder if it has profiles, else as installed)",
}
ABOUT = """Run the experiments of the papers' tables and figures, and put our figures beside the printed ones.

An experiment is a file experiments/<paper>/<table or figure>.yaml; a profile says at what size it is run: mini (the
built-in probe corpus, tiny towers), tweets (real tweets below --root), paper (the papers' settings and seeds).

Runs that are complete are skipped, those that were cut off are continued, and one that fails does not stop the others:
the same command goes on. Each experiment leaves <out>/<paper>/<name>/table.json."""


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "mnerkit reproduce", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = made.add_argument
    add("patterns", nargs="*", metavar="PATTERN", help="mousing/table2, mousing, '*/table*' (default: all experiments)")
    add("--profile", default="mini", metavar="P", help="mini (default), tweets, paper, or a YAML file")
    add("--root", metavar="DIR", help="folder of the corpora, for profiles that read them")
    add("--tower", metavar="NAME", help="text tower of profile tweets: minilm (default), a hub name, a folder")
    add("--vision", metavar="NAME", help="vision tower of profile tweets; without it captions are read")
    add("--seeds", nargs="+", type=seed, metavar="N", help="in place of the profile's seeds")
    add("--jobs", type=positive, metavar="N", help="runs at once (default: one a core; ray: one a GPU, if any)")
    where = "local: processes on this machine (default); ray: a Ray cluster, whose nodes share this folder and --out"
    add("--executor", default="local", metavar="NAME", help=where)
    cluster = "cluster of executor ray, or auto; this machine is a node of it (default: a Ray of this machine alone)"
    add("--ray-address", "--ray_address", metavar="HOST:PORT", help=cluster)
    for name, meaning in FOLDERS.items():
        add(f"--{name}", metavar="DIR", help=meaning)
    add("--dry-run", "--dry_run", action="store_true", help="print the runs and what they fill, do nothing")
    add("--commands", action="store_true", help="print the commands of the runs that are left, do nothing")
    rehearsal = (
        "try two steps of each distinct run with random weights and pictures, and project time and memory of all;"
        " SIZE of the towers: shrunk (default) or full"
    )
    add("--rehearse", nargs="?", const="shrunk", metavar="SIZE", help=rehearsal)
    add("--overwrite", action="store_true", help="do complete runs again; replace files")
    reproduce_wandb.add_options(made)
    return made


def seed(text: str) -> int:
    """Read a seed."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**32 - 1")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """Expand the grid, do what is left, write the tables; 1 if a run failed."""
    options = read(parser(), argv)
    _check(options)
    from mnerkit.reproduce import run_archive, sweep, table_records
    from mnerkit.reproduce.experiments import experiment_files, profiles
    from mnerkit.reproduce.grid import Builder

    folder = Path(options.experiments) if options.experiments else default()
    experiments = experiment_files.load_all(folder)
    chosen = experiment_files.matching(options.patterns, experiments)
    profile = profiles.load(options.profile, folder)
    out = Path(options.out or f"runs/reproduce/{profile.name}")
    executor = None
    if not (options.dry_run or options.commands or reproduce_wandb.defines(options)):
        from mnerkit.report.page.writing import check_folder

        check_folder(out / "report")  # before hours of runs, not after them
        executor = _executor(options, out)
    tower = profiles.tower_of(profile, options.tower)
    dashboards = options.logger == "wandb"
    builder = Builder(profile, out, options.root, tower, options.vision, options.seeds, dashboards)
    builder.add(chosen)
    builder.check_used(tower=options.tower is not None)
    grid = builder.grid
    grid.chosen = [experiment.name for experiment in chosen]
    if grid.absent and not grid.wanted:
        raise next(iter(grid.absent.values()))
    for error in grid.absent.values():
        show(f"left out: {first_line(error)}", to=sys.stderr if options.commands else None)
    if dashboards or options.wandb_sweep:
        # on a dashboard a run names all cells that it fills, also those of experiments that are not chosen
        builder.add(experiment for name, experiment in experiments.items() if name not in grid.chosen)
    if reproduce_wandb.defines(options):
        return reproduce_wandb.define(options, grid)
    if options.rehearse:
        assert executor is not None
        return _rehearse(options, grid, executor)
    clock = sweep.Clock(profile.seconds, executor.jobs if executor else _jobs(options))
    clock.learn(grid)
    archive = run_archive.RunArchive.read(Path(options.keep), _places(options, out, tower)) if options.keep else None
    left = grid.wanted if options.overwrite else grid.left(archive.holds() if archive is not None else ())
    if options.commands:
        show(*sweep.commands(left))
        return 0
    show(sweep.opening(grid, left, clock))
    if executor is None:
        show(sweep.runs_table(grid, left))
        return 0
    failed: dict[str, str] = {}
    with sweep.sweep_lock(out), reproduce_wandb.written(options, grid):
        if archive is not None:
            restored = 0 if options.overwrite else run_archive.exchange(archive, grid)
            show(f"{restored} of the complete runs are restored from {options.keep}")
        try:
            failed = sweep.run_all(grid, executor, clock, show, options.overwrite, archive)
        except Stopped as stop:
            stop.progress = f"{sum(run.complete for run in grid.wanted)} of {len(grid.wanted)} runs are complete"
            raise
        finally:  # also when it is stopped before its end
            for table in grid.chosen_tables:
                table_records.write(table, grid, failed)
        return _results(grid, list(experiments), executor, failed)


def _check(options: argparse.Namespace) -> None:
    """Refuse wrong values and combinations before anything heavy is imported."""
    if options.executor not in EXECUTORS:
        near = did_you_mean(options.executor, EXECUTORS)
        raise UsageError(f"no executor {options.executor!r}: {', '.join(EXECUTORS)}.{near}")
    if options.ray_address is not None and options.executor != "ray":
        raise UsageError("--ray-address is an option of --executor ray")
    if options.root is not None and not Path(options.root).is_dir():
        raise UsageError(f"--root {options.root}: there is no such folder")
    if options.rehearse:
        if options.rehearse not in SIZES:
            near = (
                did_you_mean(options.rehearse, SIZES) or " Patterns stand before it: mnerkit reproduce gmf --rehearse"
            )
            raise UsageError(f"--rehearse {options.rehearse!r}: {' or '.join(SIZES)}.{near}")
        others = {
            "--dry-run": options.dry_run,
            "--commands": options.commands,
            "--keep": options.keep,
            "--logger": options.logger != "csv",
        }
        others["--wandb-sweep"], others["--wandb-report"] = options.wandb_sweep, options.wandb_report
        if clash := next((name for name, value in others.items() if value), None):
            raise UsageError(f"--rehearse makes no results, so {clash} has no effect: leave one of them out")
    reproduce_wandb.check(options)


def _rehearse(options: argparse.Namespace, grid: Grid, executor: Executor) -> int:
    """Rehearse the wanted runs and print what the whole will take; 1 if one failed."""
    from mnerkit.reproduce import sweep
    from mnerkit.reproduce.rehearsal.rehearse import Rehearsal

    rehearsal = Rehearsal(grid, options.rehearse, options.root)
    for place in (grid.out, rehearsal.folder.parent):
        if place.is_file():
            raise UsageError(f"--out {grid.out}: {place} is a file; give a folder")
    rehearsal.folder.mkdir(parents=True, exist_ok=True)
    with sweep.sweep_lock(rehearsal.folder.parent):
        try:
            rehearsal.do(executor, show, options.overwrite)
        except Stopped as stop:
            stop.progress = f"{len(rehearsal.records())} of {len(rehearsal.trials)} are rehearsed"
            raise
    for line in rehearsal.summary():
        show(line)
    return 1 if rehearsal.failed else 0


def _places(options: argparse.Namespace, out: Path, tower: str | None) -> dict[str, str]:
    """What stands in a file of archived runs for the paths of this machine."""
    from mnerkit.reproduce.experiments.profiles import tower_name
    from mnerkit.reproduce.grid import ROOT

    places = {"<out>": str(out), ROOT: options.root}
    places |= {f"<{tower_name(name)}>": name for name in (tower, options.vision) if name and Path(name).is_dir()}
    return {name: str(path) for name, path in places.items() if path}


def _jobs(options: argparse.Namespace) -> int:
    return options.jobs or os.cpu_count() or 1


def _executor(options: argparse.Namespace, out: Path) -> Executor:
    from mnerkit.reproduce.executors.tasks import LOST, perform

    if options.executor == "ray":
        from mnerkit.reproduce.executors.ray_cluster import RayExecutor

        return RayExecutor(options.jobs, functools.partial(perform, patience=LOST), options.ray_address, out)
    from mnerkit.reproduce.executors.local import LocalExecutor

    return LocalExecutor(_jobs(options), perform)


def _results(grid: Grid, names: Sequence[str], executor: Executor, failed: Mapping[str, str]) -> int:
    """Print the tables, draw the figures, write the page, and print what failed; 1 if a run did.

    The page shows the tables of all experiments (`names`) that this or an earlier sweep has left in the folder.
    """
    from mnerkit import report
    from mnerkit.reproduce import sweep, table_records

    for table in grid.chosen_tables:
        show("", table_records.summary(table, grid, failed))
    show("", f"tables: {grid.out}/<paper>/<name>/{table_records.NAME}; runs: {grid.runs_dir}")
    for line in sweep.draw_all(grid, executor):
        show(line)
    finished = [run.folder.path for run in grid.wanted if run.complete]
    files = [path for name in names if (path := grid.out / name / table_records.NAME).is_file()]
    for problem in report.write(grid.out / "report", files, finished).problems:
        show(f"left out of the report: {problem}")
    show(f"page: {grid.out / 'report' / 'index.html'}")
    for digest, error in failed.items():
        show(f"failed: {digest[:8]}: {error}")
    if failed:
        logs = f"logs are in {grid.out / 'logs'}; the same command tries them again"
        show(f"{len(failed)} of {len(grid.wanted)} runs failed, {logs}")
    return 1 if failed else 0
