"""One input against one reader, and many of them in processes that may fail."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from fuzzing.reader import Input, Reader
from mnerkit.errors import MnerkitError

MOST_SECONDS = 2.0  # of CPU time for an input
MOST_BYTES = 1 << 30  # of memory above what the process had
MOST_LINES, MOST_LETTERS = 2, 2000  # of a message
STOPPED_AFTER = 10  # seconds of CPU time after which an input is given up
KILLED_AFTER = 120  # seconds without a sign of life after which a process is killed
ADDRESS_SPACE = 6 << 30  # above what the process had: a reader that takes more fails before the machine does


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        reader: name of the reader.
        seed: of the input.
        accepted: whether it was read.
        fault: what is wrong with that; empty where nothing is.
        seconds: CPU time.
        peak: bytes of memory above what the process had.
    """

    reader: str
    seed: int
    accepted: bool
    fault: str = ""
    seconds: float = 0.0
    peak: int = 0


class TooSlow(BaseException):
    """An input takes so long that it is given up."""


def trial(reader: Reader, seed: int) -> Outcome:
    """Read one input, and compare it with what a plain reader makes of it."""
    given = reader.input(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        path = written(reader, given.content, Path(name))
        base, start = _reset_peak(), time.process_time()
        result, fault, accepted = None, "", False
        try:
            result = reader.read(path)
            accepted = True
        except MnerkitError as error:
            fault = message_fault(str(error))
            if given.valid:
                fault = f"a valid file is refused: {str(error)[:300]}"
        except (Exception, TooSlow) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {_line(error)}"
        except BaseException as error:  # of a library in Rust, or an exit
            if isinstance(error, KeyboardInterrupt):
                raise
            fault = f"{type(error).__name__}: {_line(error)}"
        seconds, peak = time.process_time() - start, _peak() - base
        if seconds > MOST_SECONDS:
            fault = fault or f"took {seconds:.1f} s"
        if peak > MOST_BYTES:
            fault = fault or f"took {peak >> 20} MiB"
        if accepted and not fault:
            fault = _difference(reader, given, path, result)
    return Outcome(reader.name, seed, accepted, fault, seconds, peak)


def written(reader: Reader, content: bytes, folder: Path) -> Path:
    """The input's file in a folder, among those that belong to it."""
    for name, beside in reader.beside.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(beside)
    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def message_fault(message: str) -> str:
    """What is wrong with a message; empty where nothing is."""
    lines = message.split("\n")
    if not message.strip():
        return "the message is empty"
    if len(lines) > MOST_LINES:
        return f"the message has {len(lines)} lines: {message[:200]!r}"
    if len(message) > MOST_LETTERS:
        return f"the message has {len(message)} letters: {message[:200]!r}"
    return ""


def _difference(reader: Reader, given: Input, path: Path, result: Any) -> str:
    """How what was accepted differs from what stands in the file."""
    truth = given.truth
    if truth is None:
        try:
            truth = reader.plain(path)
        except Exception as error:
            return f"accepted what a plain reader refuses ({type(error).__name__}: {_line(error)}): {_short(result)}"
    if not reader.agree(result, truth):
        return f"a silent change: read {_short(result)}, and the file says {_short(truth)}"
    return ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-90:]}"


def _status(key: str) -> int:
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) << 10 for line in stream if line.startswith(key))


def _reset_peak() -> int:
    """Let the kernel count the peak anew; returns today's memory."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")
    return _status("VmRSS:")


def _peak() -> int:
    return _status("VmHWM:")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No remarks and warnings of what is read."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


# ------------------------------------------------------------------ processes

Job = tuple[Reader, int]


def run(jobs: Sequence[Job], processes: int, report: Callable[[Outcome], None]) -> None:
    """Try all inputs in so many processes; one that dies, or hangs, is a fault of its input, and another goes on."""
    workers = [_Worker(list(jobs[number::processes])) for number in range(processes)]
    while workers:
        ready = wait([worker.pipe for worker in workers], timeout=1)
        for worker in list(workers):
            if worker.pipe in ready:
                try:
                    report(worker.take())
                    continue
                except EOFError:
                    pass  # it is done, or dead
            elif time.monotonic() - worker.seen < KILLED_AFTER:
                continue
            if (fault := worker.end()) and worker.jobs:
                reader, seed = worker.jobs.pop(0)
                report(Outcome(reader.name, seed, False, fault))
            workers.remove(worker)
            if worker.jobs:
                workers.append(_Worker(worker.jobs))


class _Worker:
    """A process with its inputs; `jobs` are those that it has not reported."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs, self.seen = jobs, time.monotonic()
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(jobs, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def take(self) -> Outcome:
        outcome: Outcome = self.pipe.recv()
        self.jobs.pop(0)
        self.seen = time.monotonic()
        return outcome

    def end(self) -> str:
        """Make sure that it has ended; returns what was wrong, if anything."""
        hangs = self.process.is_alive() and time.monotonic() - self.seen >= KILLED_AFTER
        if hangs:
            self.process.kill()
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        if hangs:
            return f"no answer within {KILLED_AFTER} s"
        return f"the process died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})" if code else ""


def _work(jobs: Sequence[Job], pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, _give_up)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _status("VmSize:") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    base = _status("VmRSS:")
    folder = tempfile.mkdtemp(prefix="fuzz-worker-")
    os.chdir(folder)
    try:
        with quiet():
            for reader, seed in jobs:
                signal.setitimer(signal.ITIMER_PROF, STOPPED_AFTER, 1.0)
                try:
                    outcome = trial(reader, seed)
                except TooSlow:
                    outcome = Outcome(reader.name, seed, False, f"took more than {STOPPED_AFTER} s")
                signal.setitimer(signal.ITIMER_PROF, 0)
                pipe.send(outcome)
                if _status("VmRSS:") > base + MOST_BYTES:
                    break  # what an input left in the memory is not counted against those that follow
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
        pipe.close()


def _give_up(*_: object) -> None:
    raise TooSlow
