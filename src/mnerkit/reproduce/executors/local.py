"""The executor of this machine: processes that stay alive between runs, since importing the stack takes seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from mnerkit.reproduce.executors.executor import Outcome, Task

Perform = Callable[[Task], Outcome]
# seconds between two looks whether the process that gave the work is still there
WATCH = 0.5


@dataclass
class _Worker:
    process: SpawnProcess
    line: Connection
    task: Task | None = None
    since: float = 0.0


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
        workers = [self._start() for _ in range(min(self.jobs, len(tasks)))]
        try:
            for place in range(len(workers)):
                self._give(workers, place, waiting)
            while any(worker.task is not None for worker in workers):
                busy = {worker.line: place for place, worker in enumerate(workers) if worker.task is not None}
                for line in wait(list(busy)):
                    place = busy[line]  # type: ignore[index]
                    worker = workers[place]
                    assert worker.task is not None
                    try:
                        outcome = worker.line.recv()
                    except (EOFError, OSError):
                        worker.process.join()
                        died = f"its process died (exit code {worker.process.exitcode}); see {worker.task.log}"
                        outcome = Outcome(worker.task.name, time.time() - worker.since, died)
                    worker.task = None
                    self._give(workers, place, waiting)
                    yield outcome
        finally:
            for worker in workers:
                worker.process.kill()  # a run that is cut off is continued the next time
            for worker in workers:
                worker.process.join()
                worker.line.close()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        with environment(OMP_NUM_THREADS=threads):
            process = context.Process(target=serve, args=(there, self.perform, os.getpid()), daemon=True)
            process.start()
        there.close()
        return _Worker(process, here)

    def _give(self, workers: list[_Worker], place: int, waiting: list[Task]) -> None:
        """Give the process at a place its next task, if any is left; one that has died makes way for another one."""
        if not waiting:
            return
        if not workers[place].process.is_alive():
            workers[place].line.close()
            workers[place] = self._start()
        worker = workers[place]
        worker.task, worker.since = waiting.pop(), time.time()
        # a process that has just died is noticed when its answer is read
        with contextlib.suppress(OSError):
            worker.line.send(worker.task)


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
