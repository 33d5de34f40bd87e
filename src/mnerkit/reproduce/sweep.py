"""Doing what is left of a grid: complete runs are skipped, others begun or continued, and every step is reported."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from statistics import fmean
from typing import Any

from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError, MnerkitError, RunBusy, UsageError
from mnerkit.report import folders
from mnerkit.report.folders import OtherVersion, Record, mapping
from mnerkit.reproduce.cells import Grid, Run
from mnerkit.reproduce.executors.executor import Executor, Outcome, Task
from mnerkit.reproduce.work import Training
from mnerkit.runs.config.configuration import filled
from mnerkit.runs.run_folder import RunFolder, deciding
from mnerkit.strict_json import Unreadable

# ------------------------------------------------------------------ what runs have left


def complete(run: Run, grid: Grid) -> bool:
    """Whether a run came to its end, scored on test; its folder's name says that it is this very run.

    One that a report could not read is damaged, and done again.
    """
    return metrics_of(run, grid) is not None


def metrics_of(run: Run, grid: Grid) -> Mapping[str, Any] | None:
    """The `metrics.json` of a complete run; None for all others."""
    record = _read(grid.folder(run))
    return record.metrics if isinstance(record, Record) and "test" in record.metrics else None


def score(run: Run, grid: Grid, split: str, metric: str) -> float | None:
    """One figure of a run; None where it is not complete, or has none."""
    figure = mapping((metrics_of(run, grid) or {}).get(split)).get(metric)
    return float(figure) if is_figure(figure) else None


def done(grid: Grid, kept: Collection[str] = ()) -> list[Run]:
    """The wanted runs that need not be done: complete or kept, with the files there that runs which are left read.

    Args:
        grid: the runs.
        kept: digests of runs that can be restored, without such files.
    """
    ready = {run.digest for run in grid.wanted if run.digest in kept or complete(run, grid)}
    read = _files_read(run for run in grid.wanted if run.digest not in ready)
    return [
        run
        for run in grid.wanted
        if run.digest in ready and (run.digest not in read or _lacking(run, grid, read[run.digest]) is None)
    ]


def _files_read(runs: Iterable[Run]) -> Mapping[str, set[str]]:
    """Digest -> the files of that run that some other runs read."""
    files: dict[str, set[str]] = defaultdict(set)
    for digest, file in (run.first for run in runs if run.first is not None):
        files[digest].add(file)
    return files


def _lacking(run: Run, grid: Grid, files: Collection[str]) -> str | None:
    """What a run has not left of its figures and of files that others read; None where all is there."""
    if not complete(run, grid):
        return "it left no figures of test"
    missing = [file for file in sorted(files) if not (grid.folder(run).path / file).is_file()]
    return f"it left no {missing[0]}" if missing else None


def foreign(run: Run, grid: Grid) -> str | None:
    """What is wrong with a finished run that may be whole, and is not to be lost; None for all others.

    One of another version, or one that can't be read now.
    """
    problem = _read(grid.folder(run))
    return str(problem) if isinstance(problem, OtherVersion | Unreadable) else None


def _read(folder: RunFolder) -> Record | DataError | None:
    """A finished run, or what is wrong with it; its files are read anew when one of them has changed."""
    files = (folder.config_file, folder.metrics_file, folder.path / "env.json")
    try:
        return _read_once(folder.path, tuple(_stamp(file) for file in files)) if folder.finished else None
    except Unreadable as problem:  # not kept: the next moment it may be readable
        return problem
    except OSError as problem:
        return Unreadable(f"run {folder.path} can't be read: {problem.strerror}")


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4096)
def _read_once(path: Path, stamps: tuple[tuple[int, int], ...]) -> Record | DataError:
    try:
        return folders.read(path)
    except Unreadable:
        raise
    except DataError as problem:
        return problem


# ------------------------------------------------------------------ time


@dataclass
class Clock:
    """How long runs take: as they took before, by plugin; else as the profile says."""

    guess: float | None = None
    jobs: int = 1
    times: dict[str, list[float]] = field(default_factory=dict)

    def note(self, plugin: str, seconds: float) -> None:
        """Remember a run."""
        self.times.setdefault(plugin, []).append(seconds)

    def learn(self, grid: Grid) -> None:
        """Read what the wanted runs took that are complete."""
        for run in grid.wanted:
            seconds = (metrics_of(run, grid) or {}).get("seconds")
            if isinstance(seconds, dict):
                self.note(run.plugin, sum(value for value in seconds.values() if isinstance(value, int | float)))

    def left(self, runs: Iterable[Run]) -> float | None:
        """Seconds that some runs will take; None where nothing is known."""
        means = {plugin: fmean(times) for plugin, times in self.times.items()}
        usual = fmean(chain(*self.times.values())) if means else self.guess
        seconds = [means.get(run.plugin, usual) for run in runs]
        return None if None in seconds else sum(filter(None, seconds)) / self.jobs


def span(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "time unknown until a run is finished"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


# ------------------------------------------------------------------ doing the runs


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
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
    grid: Grid, executor: Executor, clock: Clock, report: Callable[[str], None], overwrite: bool = False
) -> dict[str, str]:
    """Do the wanted runs that are not done; inside `alone`.

    Args:
        grid: the runs.
        executor: what does them.
        clock: estimates.
        report: takes a line of progress.
        overwrite: do complete ones again, too.

    Returns:
        Digest -> complaint, of the runs that failed.
    """
    ready = set() if overwrite else {run.digest for run in done(grid)}
    left = [run for run in grid.wanted if run.digest not in ready]
    read = _files_read(left)
    for run in grid.wanted:
        if run.digest in ready:  # a kill may have come before this
            grid.folder(run).last.unlink(missing_ok=True)
    failed: dict[str, str] = {}
    numbers, total = count(1), len(left)

    def end(run: Run, error: str | None, more: str = "") -> None:
        """Note and report how a run ended."""
        if error is not None:
            failed[run.digest] = error
        report(f"{next(numbers)}/{total} {_name(run, grid)}: {_result(run, grid, error)}{more}")

    for run in list(left) if not overwrite else ():
        record = _read(grid.folder(run))  # one look: what can't be read now may be readable at the next one
        if isinstance(record, OtherVersion | Unreadable):
            left.remove(run)
            end(run, f"{record}; --overwrite does it again")
        elif isinstance(record, DataError):
            report(f"{_name(run, grid)}: {record}; it is done again")
        elif record is not None and _lacking(run, grid, read[run.digest]) is None:
            left.remove(run)  # it could not be read before
            end(run, None)
    for stage in (False, True):  # what others read comes first
        runs = {run.digest: run for run in left if (run.first is not None) == stage}
        for run in list(runs.values()):
            if run.first is not None and run.first[0] in failed:
                del runs[run.digest]
                end(run, f"the run that it needs failed: {failed[run.first[0]]}")
        waiting = {run.digest for run in left if run.digest in runs or (not stage and run.first is not None)}
        for outcome in _outcomes(executor, [_task(run, grid, overwrite) for run in runs.values()]):
            run = runs[outcome.name]
            waiting.discard(run.digest)
            error = _lacking(run, grid, read[run.digest])
            # one that left all before it failed is done; with `overwrite` that may be what was there before
            if outcome.error is not None and (overwrite or error is not None):
                error = outcome.error
            if error is None:
                clock.note(run.plugin, outcome.seconds)
                # thrice as large as the weights, and of use to a run that goes on alone
                grid.folder(run).last.unlink(missing_ok=True)
            rest = f"; {span(clock.left(run for run in left if run.digest in waiting))} left" if waiting else ""
            then = f", then {outcome.error}" if outcome.error and error is None else ""
            end(run, error, f"{then} ({outcome.seconds:.0f} s{rest})")
    return failed


def _outcomes(executor: Executor, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """The outcomes of all tasks; one that the executor has reported nothing of has failed."""
    silent = {task.name: task for task in tasks}
    for outcome in executor.run(tasks):
        silent.pop(outcome.name, None)
        yield outcome
    for task in silent.values():
        yield Outcome(task.name, 0.0, f"nobody reported what became of it; see {task.log}")


def _task(run: Run, grid: Grid, overwrite: bool) -> Task:
    folder, training = grid.folder(run), grid.training(run)
    anew = replace(training, place=replace(training.place, overwrite=True))
    if overwrite or folder.finished:  # damaged, or without a file that another run reads
        training = anew
    elif folder.started and not _continues(training, folder):
        # the run may be the same in other words
        as_begun = Training(files=(str(folder.config_file),), dashboard=training.dashboard, place=training.place)
        training = as_begun if _continues(as_begun, folder) else anew
    return Task(run.digest, training, grid.out / "logs" / f"{run.plugin}-{run.digest}.txt")


def _continues(training: Training, folder: RunFolder) -> bool:
    """Whether a training is the one that the folder was begun with; no training is that of a damaged folder."""
    try:
        return deciding(filled(folder.config())) == deciding(training.configuration().content)
    except (MnerkitError, AttributeError, KeyError, TypeError):
        return False


def _name(run: Run, grid: Grid) -> str:
    """How a line of progress calls a run."""
    fills = grid.fills.get(run.digest) or ["needed by others"]
    more = f" and {len(fills) - 1} more" if len(fills) > 1 else ""
    return f"{run.plugin} s{run.seed} {run.digest[:8]} [{fills[0]}{more}]"


def _result(run: Run, grid: Grid, error: str | None) -> str:
    if error is not None:
        return f"failed: {error}"
    f1 = score(run, grid, "test", "f1")
    return "done" if f1 is None else f"test F1 {f1:.1f}"
