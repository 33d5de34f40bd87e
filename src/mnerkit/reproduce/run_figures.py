"""The figures of a sweep that take a network: computed once of each run that an experiment draws, after the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mnerkit.errors import DataError
from mnerkit.reproduce.cells import Grid, Table
from mnerkit.reproduce.executors.executor import Executor, Task
from mnerkit.reproduce.sweep import complete
from mnerkit.reproduce.work import Drawing
from mnerkit.runs.figures import figure_file
from mnerkit.runs.run_folder import RunFolder


def draw_all(tables: Sequence[Table], grid: Grid, out: Path, executor: Executor) -> Iterator[str]:
    """Compute the figures that the tables draw and that are not there yet; a line for each, and for what goes wrong.

    Of each cell, the run of the first seed is drawn; those that are not complete wait for the next time.

    Args:
        tables: the experiments at the size of a profile.
        grid: the runs.
        out: the folder of the sweep.
        executor: what does the work, as commands `mnerkit draw`.
    """
    tasks = {task.name: task for table in tables for task in _tasks(table, grid, out)}
    for name in [name for name, task in tasks.items() if not RunFolder(Path(task.work.command[2])).best.is_file()]:
        yield f"figure {name}: its run was kept without weights (--keep); --overwrite trains it again"
        del tasks[name]
    for number, outcome in enumerate(executor.run(list(tasks.values())) if tasks else (), 1):
        said = f"failed: {outcome.error}" if outcome.error else "drawn"
        yield f"figure {number}/{len(tasks)} {outcome.name}: {said} ({outcome.seconds:.0f} s)"


def _tasks(table: Table, grid: Grid, out: Path) -> Iterator[Task]:
    for kind in table.experiment.draw:
        for cell in table.cells if kind in figure_file.COMPUTED else ():
            run = grid.runs[cell.runs[0]] if cell.runs and not cell.of else None
            if run is None or not complete(run, out / "runs"):
                continue
            folder = run.folder(out / "runs").path
            if not _there(figure_file.file_of(folder, kind, cell.split)):
                name = f"{kind}-{run.plugin}-{run.digest[:8]}-{cell.split}"
                yield Task(name, Drawing(kind, folder, cell.split), out / "logs" / f"{name}.txt")


def _there(path: Path) -> bool:
    """Whether a figure is kept there, whole and of this version."""
    try:
        figure_file.read(path)
    except DataError:
        return False
    return True
