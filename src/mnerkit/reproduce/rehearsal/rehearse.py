"""`mnerkit reproduce --rehearse`: every run that is distinct apart from its seed, two steps long; then a table."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mnerkit.reproduce.cells import Grid, Run
from mnerkit.reproduce.executors.tasks import Executor, Task
from mnerkit.reproduce.rehearsal import sample_corpus
from mnerkit.reproduce.rehearsal.projection import Projection, Record, cache_seconds, project, towers_of
from mnerkit.reproduce.rehearsal.stand_in_towers import DIVISOR, Size
from mnerkit.reproduce.rehearsal.tower_times import Timing
from mnerkit.reproduce.rehearsal.trial import BATCH, Trial
from mnerkit.reproduce.sweep import duration_text
from mnerkit.text_table import table as text_table


class Rehearsal:
    """The rehearsals of a sweep.

    Attributes:
        folder: where all of them is written.
        trials: by name, those that others need before these.
        failed: name -> complaint, of those that failed.
    """

    def __init__(self, grid: Grid, size: Size, root: str | None) -> None:
        """Find the distinct runs, and write nothing yet.

        Args:
            grid: the runs.
            size: of the towers, `shrunk` or `full`.
            root: where the corpora lie.
        """
        self.grid, self.size, self.root = grid, size, root
        self.folder = grid.out / "rehearsal" / size
        self.plugins = {run.unseeded: run.plugin for run in grid.wanted}
        self.failed: dict[str, str] = {}
        self.trials: dict[str, Trial] = {}
        leaves: dict[str, set[str]] = defaultdict(set)
        for run in grid.wanted:
            if run.first is not None:
                leaves[grid.runs[run.first[0]].unseeded].add(run.first[1])
        for run in sorted(grid.wanted, key=lambda run: run.first is not None):
            if run.unseeded not in self.trials:
                files = tuple(sorted(leaves[run.unseeded]))
                trial = Trial(run.unseeded, run.training, size, self.folder, self._first(run), files)
                self.trials[run.unseeded] = trial

    def _first(self, run: Run) -> tuple[str, str, str] | None:
        if run.first is None:
            return None
        before, file = self.grid.runs[run.first[0]], run.first[1]
        path = str(before.folder.path / file)
        option = next(name for name, value in run.training.options.items() if value == path)
        return before.unseeded, file, option

    def records(self) -> dict[str, Record]:
        """The records of the rehearsals that were done, by name."""
        return {name: record for name, trial in self.trials.items() if (record := trial.record()) is not None}

    def do(self, executor: Executor, report: Callable[[str], None], overwrite: bool = False) -> None:
        """Do the rehearsals that are not done, and time the towers.

        Args:
            executor: what does them.
            report: takes a line of progress.
            overwrite: do all again.
        """
        if overwrite:
            shutil.rmtree(self.folder)
        shutil.rmtree(self.folder / "work", ignore_errors=True)  # of a rehearsal that was cut off
        corpora = {str(run.training.options.get("data.corpus", "probe")) for run in self.grid.wanted}
        for corpus in sorted(corpora - {"probe"}):
            sample_corpus.write(corpus, self.root, self.folder / "root")
        complete = self.records()
        left = [trial for name, trial in self.trials.items() if name not in complete]
        report(f"{len(self.trials)} runs are distinct apart from their seeds; {len(complete)} are rehearsed already")
        progress = _Progress(len(left), executor.jobs, report)
        for needing in (False, True):
            tasks = []
            for trial in left:
                if (trial.first is not None) != needing:
                    continue
                if trial.first is not None and trial.first[0] in self.failed:
                    self.failed[trial.name] = f"the run that it needs failed: {self.failed[trial.first[0]]}"
                    continue
                log = self._log(f"{self.plugins[trial.name]}-{trial.name}")
                tasks.append(Task(trial.name, trial.command, trial.do, log))
            self._perform(tasks, executor, lambda name: f"{self.plugins[name]} {name[:8]}", progress)
        towers = {tower for record in self.records().values() for tower in towers_of(record)}
        timings = [Timing(*tower, size, self.folder) for tower in sorted(towers) for size in {self.size, "full"}]
        timings = [timing for timing in timings if timing.time() is None]
        tasks = [
            Task(timing.name, ("reproduce", "--rehearse", self.size), timing.do, self._log(timing.name))
            for timing in timings
        ]
        self._perform(tasks, executor, lambda name: f"tower {name}", _Progress(len(tasks), executor.jobs, report))

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.txt"

    def _perform(
        self, tasks: Sequence[Task], executor: Executor, title: Callable[[str], str], progress: _Progress
    ) -> None:
        with contextlib.closing(executor.run(tasks)) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    self.failed[outcome.name] = outcome.error
                progress.step(title(outcome.name), outcome.seconds, outcome.error)

    def summary(self) -> list[str]:
        """The table by experiment, what its figures are based on, and what failed."""
        records = self.records()
        times = {}
        for record in records.values():
            for kind, spec in towers_of(record):
                for size in (self.size, "full"):
                    if (time := Timing(kind, spec, size, self.folder).time()) is not None:
                        times[kind, spec, size] = time
        timed = {
            name: record
            for name, record in records.items()
            if all((*tower, size) in times for tower in towers_of(record) for size in (self.size, "full"))
        }
        projections = {name: project(record, times) for name, record in timed.items()}
        rows = [self._row(name, self.grid.needed([name]), projections) for name in self.grid.chosen]
        rows.append(self._row("all", self.grid.wanted, projections))
        spent, work = (sum(record[unit] for record in records.values()) / 60 for unit in ("seconds", "cpu"))
        lines = ["", text_table(["experiment", "runs", "distinct", "failed", "hours", "GiB"], rows), ""]
        lines.append(f"{len(records)} rehearsals took {spent:.1f} min ({work:.1f} min of processor time)")
        if records:
            lines += _basis(self.size, sorted({record["device"] for record in records.values()}))
            hours = cache_seconds(list(timed.values()), times) / 3600
            lines.append(f"frozen towers read each corpus once for all runs: {hours:.1f} h more, at most")
        if missing := len(self.trials) - len(timed):
            lines.append(f"{missing} of the distinct runs are not in the figures: they were not rehearsed")
        for name, error in self.failed.items():
            lines.append(f"failed: {name[:8] if name in self.trials else name}: {error}")
            if name in self.trials and self.trials[name].config_file.is_file():
                lines.append(f"  mnerkit {shlex.join(self.trials[name].command)}")
        return lines

    def _row(self, title: str, runs: Sequence[Run], projections: Mapping[str, Projection]) -> list[object]:
        names = {run.unseeded for run in runs}
        projected = [projections[run.unseeded] for run in runs if run.unseeded in projections]
        hours = sum(run.seconds for run in projected) / 3600 if projected else None
        memory = max(run.bytes for run in projected) / 2**30 if projected else None
        return [title, len(runs), len(names), len(names & self.failed.keys()), hours, memory]


class _Progress:
    """Lines of progress, with the time that is left."""

    def __init__(self, number: int, jobs: int, report: Callable[[str], None]) -> None:
        self.number, self.jobs, self.report = number, jobs, report
        self.done, self.spent = 0, 0.0

    def step(self, title: str, seconds: float, error: str | None) -> None:
        """One more is over."""
        self.done, self.spent = self.done + 1, self.spent + seconds
        state = "done" if error is None else f"failed: {error}"
        rest = duration_text(self.spent / self.done * (self.number - self.done) / self.jobs)
        self.report(f"{self.done}/{self.number} {title}: {state} ({seconds:.1f} s; {rest} left)")


def _basis(size: Size, devices: Sequence[str]) -> list[str]:
    """How the figures were come by, and how far they can be trusted."""
    lines = [
        f"projected, not measured, on {'; '.join(devices)}; hours are of one run after the other, through all",
        "epochs (early stopping ends some before); GiB are of the largest run",
    ]
    if len(devices) > 1:
        lines.append("the rehearsals were done on different devices: --overwrite does all of them on this one")
    if size == "full":
        return [*lines, "based on two steps with whole towers and batches; GiB on a GPU are the most that was reserved"]
    return [
        *lines,
        f"based on two steps with towers of 1/{DIVISOR} of their width and batches of {BATCH} posts at most: what is",
        "outside of the towers is multiplied by the batch, and each whole tower is timed on its own; GiB are weights,",
        "gradients, two moments and what a step keeps for its gradients; --rehearse full measures instead",
    ]
