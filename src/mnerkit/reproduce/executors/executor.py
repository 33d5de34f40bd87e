"""The interface of executors: they take tasks and yield, in any order, the outcome of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mnerkit.reproduce.work import Work

# letters of a complaint; what a run printed stands whole in its log
LONGEST = 500


@dataclass(frozen=True)
class Task:
    """Some work, and its name and log.

    Attributes:
        name: unique among the tasks.
        work: what is to be done.
        log: file that what it prints is added to.
    """

    name: str
    work: Work
    log: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a task: how long it took, and what it complained of where it failed."""

    name: str
    seconds: float
    error: str | None = None


class Executor(Protocol):
    """Does tasks. One that fails, or takes its process with it, is an outcome like another; the rest goes on."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do the tasks; each one's outcome as soon as it is known. A caller that stops asking ends what is running."""
        ...


def complaint(printed: str) -> str:
    """The error of a failed run, cause and advice in one line; the last line printed, where mnerkit reported none.

    A warning of mnerkit's before a crash is not what it failed of.
    """
    lines = printed.strip().split("\n")
    begins = [number for number, line in enumerate(lines) if line.startswith("mnerkit: ")]
    mine = lines[begins[-1] :] if begins else []
    crashed = any(line.startswith("Traceback (most recent call last)") for line in mine)
    line = " ".join(mine if mine and not crashed else lines[-1:])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
