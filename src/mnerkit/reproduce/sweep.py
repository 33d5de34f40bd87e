"""Doing what is left of a grid: complete runs are skipped, others begun or continued, and every step is told."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
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

Tell = Callable[[str], None]


def complete(run: Run, runs: Path) -> bool:
    """Whether a run came to its end, scored on test; its folder's name says that it is this very run.

    One that a report could not read is damaged, and done again.
    """
    return metrics_of(run, runs) is not None


def metrics_of(run: Run, runs: Path) -> Mapping[str, Any] | None:
    """The `metrics.json` of a complete run; None for all others."""
    found = _read(run.folder(runs))
    return found.metrics if isinstance(found, Record) and "test" in found.metrics else None


def done(wanted: Sequence[Run], runs: Path, kept: Collection[str] = ()) -> list[Run]:
    """The runs that need not be done: complete or kept, with the files there that runs which are left read of them.

    Args:
        wanted: the runs, those that others need among them.
        runs: the folder of run folders.
        kept: digests of runs that can be restored, without such files.
    """
    known = {run.digest for run in wanted if run.digest in kept or complete(run, runs)}
    read = files_read(run for run in wanted if run.digest not in known)
    return [
        run
        for run in wanted
        if run.digest in known and (run.digest not in read or lacking(run, runs, read[run.digest]) is None)
    ]


def files_read(others: Iterable[Run]) -> dict[str, set[str]]:
    """Digest -> the files of that run that some other runs read."""
    found: dict[str, set[str]] = {}
    for run in others:
        if run.first is not None:
            found.setdefault(run.first[0], set()).add(run.first[1])
    return found


def lacking(run: Run, runs: Path, files: Collection[str]) -> str | None:
    """What a run has not left of its figures and of files that others read; None where all is there."""
    if not complete(run, runs):
        return "it left no figures of test"
    gone = [file for file in sorted(files) if not (run.folder(runs).path / file).is_file()]
    return f"it left no {gone[0]}" if gone else None


def foreign(run: Run, runs: Path) -> str | None:
    """What is wrong with a finished run that may be whole, and is not to be lost; None for all others.

    One of another version, or one that can't be read now.
    """
    found = _read(run.folder(runs))
    return str(found) if isinstance(found, OtherVersion | Unreadable) else None


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
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4096)
def _read_once(path: Path, stamps: tuple[tuple[int, int], ...]) -> Record | DataError:
    try:
        return folders.read(path)
    except Unreadable:
        raise
    except DataError as problem:
        return problem


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder, until the block ends or this process dies.

    Raises:
        UsageError: another one is writing there.
    """
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(RunFolder(out).writing())
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


@dataclass
class Clock:
    """How long runs take: as they took before, by plugin; else as the profile says."""

    guess: float | None = None
    jobs: int = 1
    known: dict[str, list[float]] = field(default_factory=dict)

    def note(self, plugin: str, seconds: float) -> None:
        """Remember a run."""
        self.known.setdefault(plugin, []).append(seconds)

    def learn(self, done: Iterable[Run], runs: Path) -> None:
        """Read what finished runs took."""
        for run in done:
            seconds = (metrics_of(run, runs) or {}).get("seconds")
            if isinstance(seconds, dict):
                self.note(run.plugin, sum(value for value in seconds.values() if isinstance(value, int | float)))

    def left(self, runs: Iterable[Run]) -> float | None:
        """Seconds that some runs will take; None where nothing is known."""
        every = [value for values in self.known.values() for value in values]
        usual = sum(every) / len(every) if every else self.guess
        total = 0.0
        for run in runs:
            mine = self.known.get(run.plugin)
            each = sum(mine) / len(mine) if mine else usual
            if each is None:
                return None
            total += each
        return total / self.jobs


def span(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "time unknown until a run is finished"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def run_all(
    grid: Grid,
    wanted: Sequence[Run],
    out: Path,
    executor: Executor,
    clock: Clock,
    named: Mapping[str, Sequence[str]],
    tell: Tell,
    overwrite: bool = False,
) -> dict[str, str]:
    """Do the runs that are not done; inside `alone`.

    Args:
        grid: where runs that others need are looked up.
        wanted: the runs, in order.
        out: the folder of the sweep; run folders lie in its `runs`.
        executor: what does them.
        clock: estimates.
        named: digest -> what the run fills, for what is told.
        tell: takes a line of progress.
        overwrite: do complete ones again, too.

    Returns:
        Digest -> complaint, of the runs that failed.
    """
    runs = out / "runs"
    ready = set() if overwrite else {run.digest for run in done(wanted, runs)}
    left = [run for run in wanted if run.digest not in ready]
    read = files_read(left)
    for run in wanted:
        if run not in left:  # a kill may have come before this
            run.folder(runs).last.unlink(missing_ok=True)
    failed: dict[str, str] = {}
    numbers, total = itertools.count(1), len(left)

    def step(run: Run, said: str) -> None:
        tell(f"{next(numbers)}/{total} {_named(run, named)}: {said}")

    for run in list(left) if not overwrite else ():
        found = _read(run.folder(runs))  # one look: what can't be read now may be readable at the next one
        if isinstance(found, OtherVersion | Unreadable):
            left.remove(run)
            failed[run.digest] = f"{found}; --overwrite does it again"
            step(run, _said(run, runs, failed[run.digest]))
        elif isinstance(found, DataError):
            tell(f"{_named(run, named)}: {found}; it is done again")
        elif isinstance(found, Record) and lacking(run, runs, read.get(run.digest, ())) is None:
            left.remove(run)  # it could not be read before
            step(run, _said(run, runs, None))
    for stage in (False, True):  # what others read comes first
        here = [run for run in left if (run.first is not None) == stage]
        for run in [run for run in here if run.first is not None and run.first[0] in failed]:
            assert run.first is not None
            failed[run.digest] = f"the run that it needs failed: {failed[run.first[0]]}"
            here.remove(run)
            step(run, _said(run, runs, failed[run.digest]))
        known = {run.digest: run for run in here}
        waiting = {run.digest for run in left if run in here or (not stage and run.first is not None)}
        for outcome in _all(executor, [_task(run, grid, out, overwrite) for run in here]):
            run = known[outcome.name]
            waiting.discard(run.digest)
            error = lacking(run, runs, read.get(run.digest, ()))
            # one that left all before it failed is done; with `overwrite` that may be what was there before
            if outcome.error is not None and (overwrite or error is not None):
                error = outcome.error
            if error is None:
                clock.note(run.plugin, outcome.seconds)
                # thrice as large as the weights, and of use to a run that goes on alone
                run.folder(runs).last.unlink(missing_ok=True)
            else:
                failed[run.digest] = error
            later = clock.left(each for each in left if each.digest in waiting) if waiting else 0.0
            rest = f"; {span(later)} left" if waiting else ""
            said = _said(run, runs, error) + (f", then {outcome.error}" if outcome.error and error is None else "")
            step(run, f"{said} ({outcome.seconds:.0f} s{rest})")
    return failed


def _all(executor: Executor, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """The outcomes of all tasks: one of which the executor has told nothing has failed."""
    silent = {task.name: task for task in tasks}
    for outcome in executor.run(tasks):
        silent.pop(outcome.name, None)
        yield outcome
    for task in silent.values():
        yield Outcome(task.name, 0.0, f"nobody told what became of it; see {task.log}")


def _task(run: Run, grid: Grid, out: Path, overwrite: bool) -> Task:
    runs = out / "runs"
    folder, training = run.folder(runs), run.training_in(runs, grid.runs)
    anew = replace(training, place=replace(training.place, overwrite=True))
    if overwrite or folder.finished:  # damaged, or without a file that another run reads
        training = anew
    elif folder.started and not _continues(training, folder):
        # the run may be the same in other words
        as_begun = Training(files=(str(folder.config_file),), dashboard=training.dashboard, place=training.place)
        training = as_begun if _continues(as_begun, folder) else anew
    return Task(run.digest, training, out / "logs" / f"{run.plugin}-{run.digest}.txt")


def _continues(training: Training, folder: RunFolder) -> bool:
    """Whether a training is the one that the folder was begun with; no training is that of a damaged folder."""
    try:
        return deciding(filled(folder.config())) == deciding(training.configuration().content)
    except (MnerkitError, AttributeError, KeyError, TypeError):
        return False


def _named(run: Run, named: Mapping[str, Sequence[str]]) -> str:
    fills = named.get(run.digest) or ["needed by others"]
    more = f" and {len(fills) - 1} more" if len(fills) > 1 else ""
    return f"{run.plugin} s{run.seed} {run.digest[:8]} [{fills[0]}{more}]"


def _said(run: Run, runs: Path, error: str | None) -> str:
    if error is not None:
        return f"failed: {error}"
    f1 = mapping((metrics_of(run, runs) or {}).get("test")).get("f1")
    return f"test F1 {f1:.1f}" if is_figure(f1) else "done"


def outcomes(failed: Mapping[str, str]) -> list[str]:
    """The failures for the end, one line each."""
    return [f"failed: {digest[:8]}: {error}" for digest, error in failed.items()]
