"""The executor of this machine: processes that stay alive between runs, since importing the stack takes seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from mnerkit.reproduce.executors.executor import Outcome, Task

Perform = Callable[[Task], Outcome]
# seconds between two looks whether the process that gave the work is still there
WATCH = 0.5


class _Worker:
    """A process, and the task that it does."""

    def __init__(self, perform: Perform, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, there = context.Pipe()
        with environment(OMP_NUM_THREADS=str(threads)):
            self.process = context.Process(target=serve, args=(there, perform, os.getpid()), daemon=True)
            self.process.start()
        there.close()

    def give(self, task: Task) -> None:
        """Let the process do a task."""
        self.task, self.since = task, time.time()
        with contextlib.suppress(OSError):  # a process that has just died is noticed when its answer is read
            self.line.send(task)

    def outcome(self) -> Outcome:
        """What became of the task, once the line has something to read."""
        try:
            return self.line.recv()
        except (EOFError, OSError):
            self.process.join()
            died = f"its process died (exit code {self.process.exitcode}); see {self.task.log}"
            return Outcome(self.task.name, time.time() - self.since, died)

    def end(self) -> None:
        """End the process; a run that is cut off is continued the next time."""
        self.process.kill()
        self.process.join()
        self.line.close()


class LocalExecutor:
    """Some processes on this machine, each doing one run after the other."""

    def __init__(self, jobs: int, perform: Perform) -> None:
        """Start nothing yet.

        Args:
            jobs: processes; each gets its share of the cores as threads, unless OMP_NUM_THREADS says otherwise.
            perform: what a process does with a task; importable by name.
        """
        self.jobs = jobs
        self.perform = perform

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do the tasks; a process that dies fails its task alone, and another one takes its place."""
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
            for worker in (*idle, *busy.values()):
                worker.process.kill()  # all at once, before any is waited for
            for worker in (*idle, *busy.values()):
                worker.end()


@contextlib.contextmanager
def environment(**wanted: str) -> Iterator[None]:
    """Variables that a new process is to have, where nobody has set them."""
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ |= mine
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def serve(line: Connection, perform: Perform, parent: int) -> None:
    """What a process does: one task after the other, until nobody is left to give any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who gave the work decides
    # it ends with its parent, and may yet have children: the workers of data loaders
    multiprocessing.current_process().daemon = False
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    while True:
        try:
            task = line.recv()
        except (EOFError, OSError):
            return
        line.send(perform(task))


def _watch(parent: int) -> None:
    """End this process when the one that gave it work is gone, however it went: nobody would note what it finds."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)
