"""The executor of this machine: processes that stay alive between runs, since importing the stack takes seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from mnerkit.errors import Stopped
from mnerkit.reproduce.executors.tasks import Outcome, Perform, Task
from mnerkit.runs.trainer import slurm
from mnerkit.stop_signals import SIGNALS, held_back, let_through, stoppable

# seconds that a process has to leave its run in order when the sweep is stopped
PATIENCE = 5.0


class _Worker:
    """A process, and the task that it does."""

    def __init__(self, perform: Perform, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, there = context.Pipe()
        resource_tracker.ensure_running()  # it would let the signals through
        with environment(OMP_NUM_THREADS=str(threads)), held_back():
            self.process = context.Process(target=serve, args=(there, perform), daemon=True)
            self.process.start()
        there.close()

    def give(self, task: Task) -> None:
        """Let the process do a task."""
        self.task, self.since = task, time.time()
        with contextlib.suppress(OSError):  # a process that has just died is noticed when its answer is read
            self.line.send(task)

    def outcome(self) -> Outcome:
        """What became of the task, once the line has something to read.

        Raises:
            Stopped: a signal that ends commands reached the process.
        """
        try:
            return self.line.recv()
        except (EOFError, OSError):
            self.process.join()
            if (number := (self.process.exitcode or 0) - 128) in SIGNALS:
                raise Stopped(number) from None
            died = f"its process died (exit code {self.process.exitcode}); see {self.task.log}"
            return Outcome(self.task.name, time.time() - self.since, died)


class LocalExecutor:
    """Some processes on this machine, each doing one run after the other."""

    def __init__(self, jobs: int, perform: Perform) -> None:
        """Start nothing yet.

        Args:
            jobs: processes; each gets its share of the cores as threads, unless OMP_NUM_THREADS is set.
            perform: what a process does with a task; importable by name.
        """
        self.jobs = jobs
        self.perform = perform

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """Do the tasks; a process that dies fails its task alone, and another one takes its place.

        A signal that ends commands ends all, also one that only one of the processes gets.
        """
        waiting = list(reversed(tasks))
        idle: list[_Worker] = []
        busy: dict[Any, _Worker] = {}
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        outcomes: list[Outcome] = []
        try:
            while waiting or busy:
                while waiting and len(busy) < self.jobs:
                    worker = idle.pop() if idle else _Worker(self.perform, threads)
                    worker.give(waiting.pop())
                    busy[worker.line] = worker
                yield from outcomes
                ready = [busy.pop(line) for line in wait(list(busy))]
                outcomes = [worker.outcome() for worker in ready]
                idle += [worker for worker in ready if worker.process.is_alive()]
            yield from outcomes
        finally:
            workers = (*idle, *busy.values())
            for worker in workers:  # all at once, before any is waited for; what is cut off is continued the next time
                worker.process.kill() if worker in idle else worker.process.terminate()
            end = time.monotonic() + PATIENCE
            for worker in busy.values():
                worker.process.join(max(0.0, end - time.monotonic()))
                worker.process.kill()
            for worker in workers:
                worker.process.join()
                worker.line.close()


@contextlib.contextmanager
def environment(**wanted: str) -> Iterator[None]:
    """Variables for a new process; those that are set already stay as they are."""
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ |= mine
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def serve(line: Connection, perform: Perform) -> None:
    """What a process does: one task after the other, until the parent closes the line."""
    # it ends with its parent, and may yet have children: the workers of data loaders
    multiprocessing.current_process().daemon = False
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with stoppable(slurm.handlers(_pass_on)):
            let_through()
            while True:
                try:
                    task = line.recv()
                except (EOFError, OSError):
                    return
                line.send(perform(task))
    except Stopped as stop:
        sys.exit(stop.exit_code)


def _pass_on() -> None:
    """Leave it to the sweep to have the job requeued, once."""
    if slurm.SIGNAL is not None:
        os.kill(os.getppid(), slurm.SIGNAL)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that happened: its outcomes would be lost."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
