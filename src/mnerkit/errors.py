"""What a user can do wrong, one class a kind of mistake.

Every message is one or two lines: what is wrong, where (file and line, option, image), what would be right.
The command line prints the message and nothing else, and exits with the class's `exit_code`.
"""

from __future__ import annotations

import difflib
import errno
import signal
from collections.abc import Iterable
from pathlib import Path

MOST_LETTERS = 1000  # of a line of a message; its end often says the way out


class MnerkitError(Exception):
    """Base of all mistakes that mnerkit reports without a traceback.

    Args:
        message: what is wrong; lines of very many letters, such as a file may hold, are shortened in their middle.

    Attributes:
        exit_code: of the process.
        of_all_ranks: every rank raises it, so that the first one reports it for all.
    """

    exit_code = 1
    of_all_ranks = False

    def __init__(self, message: object = "") -> None:
        super().__init__("\n".join(map(_shortened, str(message).split("\n"))))


class UsageError(MnerkitError):
    """A wrong option, name or combination: nothing was read yet. Exit code 2."""

    exit_code = 2


class RunBusy(UsageError):
    """Another process writes into the run's folder; it may be over in a moment. Exit code 2.

    Attributes:
        folder: the run's folder, where known.
        holder: number and machine of the process.
    """

    def __init__(self, message: str, folder: Path | None = None, holder: str = "") -> None:
        super().__init__(message)
        self.folder, self.holder = folder, holder


class DataError(MnerkitError):
    """A file that is missing, malformed, hostile or does not fit the rest. Exit code 1."""


class CheckpointError(MnerkitError):
    """A checkpoint that is missing, of another plugin, or not plain data. Exit code 1."""


class TrainingError(MnerkitError):
    """A training that can't go on: a loss or a weight is no number. Exit code 1."""

    of_all_ranks = True


class TowerError(MnerkitError):
    """Weights or a tokenizer that can't be had. Exit code 1."""


class Stopped(BaseException):
    """A signal that ends the command. Exit code 128 and the signal's number.

    No `Exception`, and no `KeyboardInterrupt` either: Lightning turns that into exit code 1.

    Attributes:
        number: of the signal.
        exit_code: of the process.
        progress: how far the command got, where it knows.
        way_on: how to go on.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.exit_code, self.progress, self.way_on = number, 128 + number, "", ""

    def line(self, way_on: str) -> str:
        """What a person reads: which signal came, how far the command got, and how to go on (default: `way_on`)."""
        return "; ".join(
            filter(None, (f"stopped by {signal.Signals(self.number).name}", self.progress, self.way_on or way_on))
        )


# why nothing can be written -> what to do about it
_UNWRITABLE = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space, or ask for a larger quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "make it writable, or choose another folder",
    errno.EIO: "see to the disk",
}


def _shortened(line: str) -> str:
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS // 2]} ... {line[-MOST_LETTERS // 4 :]}"


def line_of(problem: BaseException) -> str | None:
    """What a person reads of a fault that is not the program's; None of one that is, and wants its traceback.

    Besides `MnerkitError`s these are files and folders that the system refuses, and disks that are full.
    """
    if isinstance(problem, MnerkitError):
        return str(problem)
    if isinstance(problem, OSError):
        return system_line(problem)
    if isinstance(problem, KeyboardInterrupt):
        return "stopped; the same command continues an unfinished run"
    return None


def system_line(problem: OSError, again: str = "then give the same command again") -> str | None:
    """What could not be written or read, why, and what to do; None where the system refused no file.

    Args:
        problem: what the system said.
        again: how the work goes on.
    """
    file, why = problem.filename, problem.strerror or str(problem)
    if problem.errno in _UNWRITABLE:
        return f"{'output' if file is None else file} can't be written: {why}; {_UNWRITABLE[problem.errno]}, {again}"
    if file is None:
        return None
    if problem.errno in (errno.EACCES, errno.EPERM):
        return f"{file}: {why}; change who may write or read it, or choose another folder, {again}"
    return f"{file}: {why}"


def first_line(problem: object) -> str:
    """The first line of a message; of an error without one, the name of its class."""
    return str(problem).strip().partition("\n")[0] or type(problem).__name__


def did_you_mean(name: object, choices: Iterable[str], prefix: str = "") -> str:
    """Return `" Did you mean 'x'?"` for the nearest of `choices`, `prefix` before it, or an empty string."""
    close = difflib.get_close_matches(shown(name), list(choices), n=1, cutoff=0.5)
    return f" Did you mean {prefix + close[0]!r}?" if close else ""


def shown(value: object, most: int = 80) -> str:
    """A value as a message shows it: on one line, cut to `most` characters, control characters escaped."""
    try:
        text = str(value)
    except Exception:  # Python writes no whole number of more than 4,300 digits; others' objects may raise anything
        text = "(a number of very many digits)" if isinstance(value, int) else f"(a {type(value).__name__})"
    text = " ".join(text[: 4 * most].split())
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."
