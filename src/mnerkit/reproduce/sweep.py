"""Doing what is left of a grid: complete runs are skipped, others begun or continued, and every step is reported.

Then the figures that take a network are computed, once of each run that an experiment draws.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from statistics import fmean

from mnerkit.errors import DataError, MnerkitError, RunBusy, UsageError
from mnerkit.report.folders import OtherVersion
from mnerkit.reproduce.cells import Grid, Run, files_read
from mnerkit.reproduce.executors.tasks import Executor, Outcome, Task
from mnerkit.reproduce.run_archive import RunArchive
from mnerkit.reproduce.training import Training
from mnerkit.runs import draw, figure_file
from mnerkit.runs.config.configuration import filled
from mnerkit.runs.run_folder import RunFolder, deciding
from mnerkit.strict_json import Unreadable
from mnerkit.text_table import table as text_table

# ------------------------------------------------------------------ time


@dataclass
class Clock:
    """Estimates how long runs take: from earlier runs, by plugin; without any, from the profile."""

    guess: float | None = None
    jobs: int = 1
    times: dict[str, list[float]] = field(default_factory=dict)

    def note(self, plugin: str, seconds: float) -> None:
        """Remember a run."""
        self.times.setdefault(plugin, []).append(seconds)

    def learn(self, grid: Grid) -> None:
        """Read what the wanted runs took that are complete."""
        for run in grid.wanted:
            seconds = (run.metrics or {}).get("seconds")
            if isinstance(seconds, dict):
                self.note(run.plugin, sum(value for value in seconds.values() if isinstance(value, int | float)))

    def left(self, runs: Iterable[Run]) -> float | None:
        """Seconds that some runs will take; None where there is nothing to estimate them from."""
        means = {plugin: fmean(times) for plugin, times in self.times.items()}
        usual = fmean(chain(*self.times.values())) if means else self.guess
        seconds = [means.get(run.plugin, usual) for run in runs]
        return None if None in seconds else sum(filter(None, seconds)) / self.jobs


def duration_text(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "time unknown until a run is finished"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


# ------------------------------------------------------------------ what there is to do


def opening(grid: Grid, left: Sequence[Run], clock: Clock) -> str:
    """How much there is to do."""
    profile, total = grid.profile, len(grid.wanted)
    cells = sum(bool(cell.runs) for table in grid.chosen_tables for cell in table.cells)
    processes = "1 process" if clock.jobs == 1 else f"{clock.jobs} processes"
    lines = [f"profile {profile.name}: {profile.about}"]
    lines.append(f"{total} runs fill {cells} cells of {len(grid.chosen)} experiments")
    lines[-1] += f", each {profile.cap}" if profile.cap else ""
    lines.append(f"{total - len(left)} runs are complete, {len(left)} are left")
    lines[-1] += f": {duration_text(clock.left(left))} with {processes}" if left else ""
    return "\n".join(lines)


def runs_table(grid: Grid, left: Sequence[Run]) -> str:
    """Every run with its state and what it fills."""
    unfinished = {run.digest for run in left}
    rows = []
    for run in grid.wanted:
        state = "complete"
        if run.digest in unfinished:
            state = "cut off" if run.folder.started else "new"
        first, *others = grid.fills[run.digest]
        more = f" (+{len(others)})" if others else ""
        rows.append([run.digest[:8], run.plugin, str(run.seed), state, f"{first}{more}"])
    return text_table(["run", "plugin", "seed", "state", "fills"], rows)


def commands(left: Sequence[Run]) -> Iterator[str]:
    """The commands of runs, as a shell reads them."""
    return (shlex.join(["mnerkit", *run.training.command]) for run in left)


# ------------------------------------------------------------------ doing the runs


@contextlib.contextmanager
def sweep_lock(out: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder, until the block ends or this process dies.

    Raises:
        UsageError: another one is writing there.
    """
    try:
        with RunFolder(out).writing():
            yield
    except RunBusy as error:
        if error.folder != out:
            raise
        raise RunBusy(
            f"{out}: another sweep is writing there ({error.holder}); wait for it, or give another --out"
        ) from None
    except UsageError:
        if out.is_file():
            raise UsageError(f"--out {out} is a file; give a folder") from None
        raise


def run_all(
    grid: Grid,
    executor: Executor,
    clock: Clock,
    report: Callable[[str], None],
    overwrite: bool = False,
    archive: RunArchive | None = None,
) -> dict[str, str]:
    """Do the wanted runs that are not done; inside `sweep_lock`.

    Args:
        grid: the runs.
        executor: what does them.
        clock: estimates.
        report: takes a line of progress.
        overwrite: do complete ones again, too.
        archive: takes in each run that came to its end, before its outcome is reported.

    Returns:
        Digest -> complaint, of the runs that failed.
    """
    waiting = {run.digest: run for run in (grid.wanted if overwrite else grid.left())}
    read = files_read(waiting.values())
    for run in grid.wanted:
        if run.digest not in waiting:  # a kill may have come between its last file and this
            run.folder.tidy()
    failed: dict[str, str] = {}
    numbers, total = count(1), len(waiting)

    def end(run: Run, error: str | None, more: str = "") -> None:
        """Note and report how a run ended."""
        waiting.pop(run.digest, None)
        result = f"failed: {error}"
        if error is not None:
            failed[run.digest] = error
        else:
            f1 = run.score("test", "f1")
            result = "done" if f1 is None else f"test F1 {f1:.1f}"
        report(f"{next(numbers)}/{total} {_name(run, grid)}: {result}{more}")

    for run in list(waiting.values()) if not overwrite else ():
        record = run.record()  # one look: what can't be read now may be readable at the next one
        if isinstance(record, OtherVersion | Unreadable):
            end(run, f"{record}; --overwrite does it again")
        elif isinstance(record, DataError):
            report(f"{_name(run, grid)}: {record}; it is done again")
        elif record is not None and run.lacking(read[run.digest]) is None:
            end(run, None)  # it could not be read before
    for last in (False, True):  # those that read what others leave
        for run in list(waiting.values()):
            if last and run.first is not None and run.first[0] in failed:
                end(run, f"the run that it needs failed: {failed[run.first[0]]}")
        tasks = [_task(run, grid, overwrite) for run in waiting.values() if (run.first is not None) == last]
        unreported = (
            Outcome(task.name, 0.0, f"nobody reported what became of it; see {task.log}")
            for task in tasks
            if task.name in waiting
        )
        with contextlib.closing(executor.run(tasks)) as outcomes:  # what stops the loop ends what is running, too
            for outcome in chain(outcomes, unreported):
                run = waiting.pop(outcome.name)
                if archive is not None and outcome.error is None and run.complete:
                    archive.add(run, grid)
                error = run.lacking(read[run.digest])
                # one that left all before it failed is done; with `overwrite` that may be what was there before
                if outcome.error is not None and (overwrite or error is not None):
                    error = outcome.error
                if error is None:
                    clock.note(run.plugin, outcome.seconds)
                    run.folder.tidy()
                rest = f"; {duration_text(clock.left(waiting.values()))} left" if waiting else ""
                then = f", then {outcome.error}" if outcome.error and error is None else ""
                end(run, error, f"{then} ({outcome.seconds:.0f} s{rest})")
    return failed


def _task(run: Run, grid: Grid, overwrite: bool) -> Task:
    folder, training = run.folder, run.training
    anew = replace(training, place=replace(training.place, overwrite=True))
    if overwrite or folder.finished:  # damaged, or without a file that another run reads
        training = anew
    elif folder.started and not _continues(training, folder):
        # the run may be the same, begun by another command
        as_begun = Training(files=(str(folder.config_file),), dashboard=training.dashboard, place=training.place)
        training = as_begun if _continues(as_begun, folder) else anew
    return Task(run.digest, training.command, training.do, grid.out / "logs" / f"{run.plugin}-{run.digest}.txt")


def _continues(training: Training, folder: RunFolder) -> bool:
    """Whether a training is the one that the folder was begun with; no training is that of a damaged folder."""
    try:
        return deciding(filled(folder.config())) == deciding(training.configuration().content)
    except (MnerkitError, AttributeError, KeyError, TypeError):
        return False


def _name(run: Run, grid: Grid) -> str:
    """A run's name in a line of progress."""
    first, *others = grid.fills[run.digest]
    more = f" and {len(others)} more" if others else ""
    return f"{run.plugin} s{run.seed} {run.digest[:8]} [{first}{more}]"


# ------------------------------------------------------------------ figures that take a network


def draw_all(grid: Grid, executor: Executor) -> Iterator[str]:
    """Compute the figures that the chosen experiments draw and that are not there yet.

    Of each cell, the run of the first seed is drawn; those that are not complete wait for the next time.

    Args:
        grid: the experiments at the size of a profile, and their runs.
        executor: what does the work.

    Yields:
        A line for each figure, and for each problem.
    """
    figures = {
        (kind, cell.runs[0], cell.split): None
        for table in grid.chosen_tables
        for kind in table.experiment.draw
        for cell in table.cells
        if kind in figure_file.COMPUTED and cell.runs
    }
    tasks = []
    for kind, digest, split in figures:
        run = grid.runs[digest]
        if not run.complete or _is_drawn(run, kind, split):
            continue
        name, path = f"{kind}-{run.plugin}-{digest[:8]}-{split}", run.folder.path
        if run.folder.best.is_file():
            command = ("draw", kind, str(path), "--split", split, "--overwrite")
            tasks.append(Task(name, command, partial(draw.keep, kind, path, split), grid.out / "logs" / f"{name}.txt"))
        else:
            yield f"figure {name}: its run was kept without weights (--keep); --overwrite trains it again"
    with contextlib.closing(executor.run(tasks)) as outcomes:
        for number, outcome in enumerate(outcomes, 1):
            result = f"failed: {outcome.error}" if outcome.error else "drawn"
            yield f"figure {number}/{len(tasks)} {outcome.name}: {result} ({outcome.seconds:.0f} s)"


def _is_drawn(run: Run, kind: str, split: str) -> bool:
    """Whether a run has the figure, whole and of this version."""
    try:
        figure_file.read(figure_file.file_of(run.folder.path, kind, split))
    except DataError:
        return False
    return True
