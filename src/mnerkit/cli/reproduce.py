"""`mnerkit reproduce`: the papers' tables and figures, printed figures beside ours."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnerkit.cli import reproduce_wandb
from mnerkit.cli.arguments import Parser, positive, read
from mnerkit.errors import UsageError, did_you_mean
from mnerkit.runs.config.config_file import default
from mnerkit.text_table import table as text_table

if TYPE_CHECKING:
    from mnerkit.reproduce.cells import Grid, Run
    from mnerkit.reproduce.executors.executor import Executor
    from mnerkit.reproduce.experiments.experiment import Experiment
    from mnerkit.reproduce.experiments.profiles import Profile
    from mnerkit.reproduce.sweep import Clock

EXECUTORS = ("local", "ray")
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
    made.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="mousing/table2, mousing, '*/table*' (default: all experiments)"
    )
    made.add_argument("--profile", default="mini", metavar="P", help="mini (default), tweets, paper, or a YAML file")
    made.add_argument("--root", metavar="DIR", help="folder of the corpora, for profiles that read them")
    made.add_argument(
        "--tower", metavar="NAME", help="text tower of profile tweets: minilm (default), a hub name, a folder"
    )
    made.add_argument("--vision", metavar="NAME", help="vision tower of profile tweets; without it captions are read")
    made.add_argument("--seeds", nargs="+", type=seed, metavar="N", help="in place of the profile's seeds")
    made.add_argument(
        "--jobs", type=positive, metavar="N", help="runs at once (default: one a core; ray: one a GPU, if any)"
    )
    made.add_argument(
        "--executor",
        default="local",
        metavar="NAME",
        help="local: processes on this machine (default); ray: a Ray cluster, whose nodes share this folder and --out",
    )
    made.add_argument(
        "--ray-address",
        "--ray_address",
        metavar="HOST:PORT",
        help="cluster of executor ray, or auto; this machine is a node of it (default: a Ray of this machine alone)",
    )
    made.add_argument("--out", metavar="DIR", help="where all is written (default: runs/reproduce/<profile>)")
    made.add_argument(
        "--keep",
        metavar="DIR",
        help="runs that DIR holds are not run again, and finished ones join it: small files without weights and words",
    )
    made.add_argument(
        "--experiments",
        metavar="DIR",
        help="folder of the experiments (default: experiments of the working folder, else the installed ones)",
    )
    made.add_argument(
        "--dry-run", "--dry_run", action="store_true", help="print the runs and their commands, do nothing"
    )
    made.add_argument("--overwrite", action="store_true", help="do complete runs again; replace files")
    reproduce_wandb.add_options(made)
    return made


def seed(text: str) -> int:
    """Read a seed."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**32 - 1")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """Expand the grid, do what is left, write the tables; 1 if a run failed."""
    asked = read(parser(), argv)
    if asked.executor not in EXECUTORS:
        near = did_you_mean(asked.executor, EXECUTORS)
        raise UsageError(f"no executor {asked.executor!r}: {', '.join(EXECUTORS)}.{near}")
    if asked.ray_address is not None and asked.executor != "ray":
        raise UsageError("--ray-address is an option of --executor ray")
    if asked.root is not None and not Path(asked.root).is_dir():
        raise UsageError(f"--root {asked.root}: there is no such folder")
    reproduce_wandb.check(asked)
    from mnerkit.reproduce import grid as grids
    from mnerkit.reproduce import keeping, sweep
    from mnerkit.reproduce.experiments import experiment_files as files
    from mnerkit.reproduce.experiments import profiles, tower_names

    folder = Path(asked.experiments) if asked.experiments else default()
    known = files.load_all(folder)
    chosen = files.matching(asked.patterns, known)
    profile = profiles.load(asked.profile, folder)
    out = Path(asked.out or f"runs/reproduce/{profile.name}")
    idle = asked.dry_run or asked.wandb_sweep or asked.wandb_report
    if not idle:
        from mnerkit.report.page.writing import check_folder

        check_folder(out / "report")  # before hours of runs, not after them
    executor = None if idle else _executor(asked, out)
    tower = tower_names.tower_of(profile, asked.tower)
    builder = grids.Builder(profile, asked.root, tower, asked.vision, asked.seeds)
    # on a dashboard a run names all cells that it fills, whatever was asked for
    told = asked.logger == "wandb" or asked.wandb_sweep
    others = [each for each in known.values() if told and each not in chosen]
    for experiment in chosen:
        builder.add(experiment)
    builder.check_used(tower=asked.tower is not None)
    for experiment in others:
        builder.add(experiment)
    grid = builder.grid
    names = [experiment.name for experiment in chosen]
    board = reproduce_wandb.Board(asked, grid, names, profile.name, out)
    wanted = grid.needed(names)
    _say_absent(grid, chosen, bool(wanted))
    if asked.wandb_sweep or asked.wandb_report:
        return reproduce_wandb.define(asked, grid, names, profile.name, out)
    clock = sweep.Clock(profile.seconds, executor.jobs if executor else _jobs(asked))
    clock.learn([run for run in wanted if sweep.complete(run, out / "runs")], out / "runs")
    places = {"<out>": str(out), **_places(asked, tower)}
    kept = keeping.Kept.read(Path(asked.keep), places) if asked.keep else None
    done = [] if asked.overwrite else sweep.done(wanted, out / "runs", kept.holds() if kept is not None else ())
    left = [run for run in wanted if run not in done]
    print(_opening(profile, chosen, grid, wanted, left, clock), flush=True)
    if executor is None:
        print(_runs_table(wanted, left, grid, out, names))
        return 0
    with sweep.alone(out), board:
        performer: Executor = executor
        if kept is not None:
            performer = keeping.Keeping(executor, kept, grid, out / "runs")
            restored = 0 if asked.overwrite else keeping.exchange(kept, grid, wanted, out / "runs")
            print(f"{restored} of the complete runs are restored from {asked.keep}", flush=True)
        return _sweep(grid, wanted, chosen, list(known), profile, out, clock, performer, asked.overwrite)


def _places(asked: argparse.Namespace, tower: str | None) -> dict[str, str]:
    """What stands in a file of kept runs for the paths of this machine."""
    from mnerkit.reproduce.experiments.tower_names import tower_name
    from mnerkit.reproduce.grid import ROOT

    named = {ROOT: asked.root}
    named |= {f"<{tower_name(each)}>": each for each in (tower, asked.vision) if each and Path(each).is_dir()}
    return {name: str(path) for name, path in named.items() if path}


def _jobs(asked: argparse.Namespace) -> int:
    return asked.jobs or os.cpu_count() or 1


def _executor(asked: argparse.Namespace, out: Path) -> Executor:
    from mnerkit.reproduce.executors.workers import LOST, perform

    if asked.executor == "ray":
        from mnerkit.reproduce.executors.ray_cluster import RayExecutor

        return RayExecutor(asked.jobs, functools.partial(perform, patience=LOST), asked.ray_address, out)
    from mnerkit.reproduce.executors.local import LocalExecutor

    return LocalExecutor(_jobs(asked), perform)


def _sweep(
    grid: Grid,
    wanted: Sequence[Run],
    chosen: Sequence[Experiment],
    known: Sequence[str],
    profile: Profile,
    out: Path,
    clock: Clock,
    executor: Executor,
    overwrite: bool,
) -> int:
    """Do the runs and write the tables, also when it is stopped before its end.

    The page shows the tables of all known experiments that this or an earlier sweep has left in the folder.
    """
    from mnerkit.reproduce import run_figures, sweep, table_records
    from mnerkit.reproduce.cells import labels

    named = labels(grid, [experiment.name for experiment in chosen])
    failed: dict[str, str] = {}
    try:
        failed = sweep.run_all(
            grid, wanted, out, executor, clock, named, lambda line: print(line, flush=True), overwrite
        )
    finally:
        for experiment in chosen:
            table_records.write(grid.tables[experiment.name], profile.name, grid, out, failed)
    for experiment in chosen:
        print(f"\n{table_records.summary(grid.tables[experiment.name], grid, out, failed)}")
    print(f"\ntables: {out}/<paper>/<name>/{table_records.NAME}; runs: {out / 'runs'}")
    for line in run_figures.draw_all([grid.tables[each.name] for each in chosen], grid, out, executor):
        print(line, flush=True)
    finished = [run.folder(out / "runs").path for run in wanted if sweep.complete(run, out / "runs")]
    from mnerkit import report

    paths = [path for name in known if (path := out / name / table_records.NAME).is_file()]
    written = report.write(out / "report", paths, finished)
    for problem in written.problems:
        print(f"left out of the report: {problem}")
    print(f"page: {out / 'report' / 'index.html'}")
    for line in sweep.outcomes(failed):
        print(line)
    if failed:
        print(
            f"{len(failed)} of {len(wanted)} runs failed, logs are in {out / 'logs'}; the same command tries them again"
        )
    return 1 if failed else 0


def _say_absent(grid: Grid, chosen: Sequence[Experiment], any_left: bool) -> None:
    """Say which corpora are not there; where nothing is left to run because of that, it is an error."""
    corpora = {group.corpus for experiment in chosen for group in experiment.groups if group.corpus}
    absent = {corpus: error for corpus, error in grid.absent.items() if corpus in corpora}
    if absent and not any_left:
        raise next(iter(absent.values()))
    for error in absent.values():
        print(f"left out: {str(error).splitlines()[0]}")


def _opening(
    profile: Profile,
    chosen: Sequence[Experiment],
    grid: Grid,
    wanted: Sequence[Run],
    left: Sequence[Run],
    clock: Clock,
) -> str:
    """How much there is to do."""
    from mnerkit.reproduce.sweep import span

    cells = sum(bool(cell.runs) for experiment in chosen for cell in grid.tables[experiment.name].cells)
    said = f"profile {profile.name}: {profile.about}\n"
    said += f"{len(wanted)} runs fill {cells} cells of {len(chosen)} experiments"
    said += f", each {profile.cap}" if profile.cap else ""
    said += f"\n{len(wanted) - len(left)} runs are complete, {len(left)} are left"
    processes = "1 process" if clock.jobs == 1 else f"{clock.jobs} processes"
    return said + (f": {span(clock.left(left))} with {processes}" if left else "")


def _runs_table(wanted: Sequence[Run], left: Sequence[Run], grid: Grid, out: Path, names: Sequence[str]) -> str:
    """Every run with its state, what it fills, and its command."""
    from mnerkit.reproduce.cells import labels

    named = labels(grid, names)
    rest = {run.digest for run in left}
    rows = []
    for run in wanted:
        started = run.folder(out / "runs").started
        state = "complete" if run.digest not in rest else ("cut off" if started else "new")
        fills = named.get(run.digest) or ["needed by others"]
        more = f" (+{len(fills) - 1})" if len(fills) > 1 else ""
        command = shlex.join(["mnerkit", *run.training_in(out / "runs", grid.runs).command])
        rows.append([run.digest[:8], run.plugin, str(run.seed), state, f"{fills[0]}{more}", command])
    return text_table(["run", "plugin", "seed", "state", "fills", "command"], rows)
