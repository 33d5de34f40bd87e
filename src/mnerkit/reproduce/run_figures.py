"""The figures of a sweep that take a network: computed once of each run that an experiment draws, after the runs."""

from __future__ import annotations

from collections.abc import Iterator

from mnerkit.errors import DataError
from mnerkit.reproduce.cells import Grid
from mnerkit.reproduce.executors.executor import Executor, Task
from mnerkit.reproduce.sweep import complete
from mnerkit.reproduce.work import Drawing
from mnerkit.runs import figure_file
from mnerkit.runs.run_folder import RunFolder


def draw_all(grid: Grid, executor: Executor) -> Iterator[str]:
    """Compute the figures that the chosen experiments draw and that are not there yet.

    Of each cell, the run of the first seed is drawn; those that are not complete wait for the next time.

    Args:
        grid: the experiments at the size of a profile, and their runs.
        executor: what does the work.

    Yields:
        A line for each figure, and for what goes wrong.
    """
    drawings: dict[str, Drawing] = {}
    for table in (grid.tables[name] for name in grid.chosen):
        kinds = [kind for kind in table.experiment.draw if kind in figure_file.COMPUTED]
        for kind, cell in ((kind, cell) for kind in kinds for cell in table.cells if cell.runs):
            run = grid.runs[cell.runs[0]]
            drawing = Drawing(kind, grid.folder(run).path, cell.split)
            if complete(run, grid) and not _is_drawn(drawing):
                drawings[f"{kind}-{run.plugin}-{run.digest[:8]}-{cell.split}"] = drawing
    tasks = []
    for name, drawing in drawings.items():
        if RunFolder(drawing.run).best.is_file():
            tasks.append(Task(name, drawing, grid.out / "logs" / f"{name}.txt"))
        else:
            yield f"figure {name}: its run was kept without weights (--keep); --overwrite trains it again"
    for number, outcome in enumerate(executor.run(tasks) if tasks else (), 1):
        result = f"failed: {outcome.error}" if outcome.error else "drawn"
        yield f"figure {number}/{len(tasks)} {outcome.name}: {result} ({outcome.seconds:.0f} s)"


def _is_drawn(drawing: Drawing) -> bool:
    """Whether a run has the figure, whole and of this version."""
    try:
        figure_file.read(figure_file.file_of(drawing.run, drawing.kind, drawing.split))
    except DataError:
        return False
    return True
