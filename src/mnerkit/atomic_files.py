"""Files that appear whole or not at all, whenever the process is killed, and locks. Nothing here imports torch.

A file is written as a draft, `.NAME.HOST-PROCESS-RANDOM.part` in the same folder, which is renamed when it is whole.
Drafts of dead processes are removed when the next file is written there, or whoever opens the folder asks for it.

The system gives a lock up when its holder dies, however it dies. Windows has no such locks.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeGuard

# of a figure; a larger one is damaged, and its square may be infinite
LARGEST = 1e15
MOST_LETTERS = 20_000  # of a text


# a living process locks its draft at once; where there are locks, an unlocked draft of this age (seconds) is left over
_YOUNG = 60.0
_HOST = re.sub(r"[^A-Za-z0-9]+", "_", platform.node())[:64] or "here"
_DRAFT = re.compile(r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9_]+)-(?P<process>\d{1,9})-[0-9a-f]{8}\.part", re.DOTALL)
# those of earlier releases
_FORMER = re.compile(
    r"\.(?P<name>[\w.-]+\.(?:ckpt|safetensors)(?=\.\d)|shard-[0-9a-f]{32})(?:\.(?P<process>\d{1,9}))?\.part"
)


@contextmanager
def writing_to(path: str | Path) -> Iterator[None]:
    """Give errors of the system in this block the name of the file that a person knows."""
    try:
        yield
    except OSError as problem:
        problem.filename, problem.filename2 = str(path), None
        raise


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """A new file, open, that takes the name `path` when the block ends; after an error nothing of it stays.

    Raises:
        OSError: it can't be written; `filename` is `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    start = os.fsdecode(os.fsencode(path.name)[:60])  # names of files are limited to 255 bytes
    own = path.with_name(f".{start}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")
    stream: BinaryIO | None = None
    try:
        with writing_to(path):
            stream = own.open("xb")
            with suppress(OSError):  # a file system may refuse locks in its own way
                lock(stream.fileno())
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            os.replace(own, path)
    except BaseException as problem:
        if stream is not None:
            with suppress(OSError):  # what is in its buffer can't be written either
                stream.close()
        with suppress(OSError):
            own.unlink()
        cause = _system_error(problem) if isinstance(problem, Exception) else None
        if cause is None or cause is problem:
            raise
        with writing_to(path):
            raise cause from None


def _system_error(problem: BaseException | None) -> OSError | None:
    """The error of the system behind another one: `torch.save` hides it behind one about its archive."""
    while problem is not None and not isinstance(problem, OSError):
        problem = problem.__context__
    return problem


def draft_of(name: str) -> str | None:
    """The name (its beginning, if it is long) of the file that a file is a draft of; None if it is no draft."""
    found = _DRAFT.fullmatch(name) or _FORMER.fullmatch(name)
    return found and found["name"]


def existing_above(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts of dead processes of this machine from a folder; those of others are never touched."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(".") and name.endswith(".part"):
                with suppress(OSError):
                    if _is_leftover(folder / name):
                        (folder / name).unlink()


def _is_leftover(file: Path) -> bool:
    found = _DRAFT.fullmatch(file.name)
    if found is not None and found["host"] != _HOST:
        return False
    found = found or _FORMER.fullmatch(file.name)
    if found is None:
        return False
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        ours = lock(handle)
        age = time.time() - os.fstat(handle).st_mtime
    finally:
        os.close(handle)
    if ours is False:  # a process of another container may have the same number, and live
        return False
    if found["process"] is None:  # nothing says whose it is
        return age > 3600
    return not _lives(int(found["process"])) or (ours is True and "host" in found.re.groupindex and age > _YOUNG)


def _lives(process: int) -> bool:
    """Whether a process of this machine is alive, or may be."""
    if os.name == "nt":  # asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; halves of surrogate pairs become escapes, which JSON reads back."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with draft(path) as stream:
        stream.write(content)


def append(descriptor: int, content: bytes, path: str | Path) -> None:
    """Write to the end of an open file; `path` is its name in errors."""
    rest = memoryview(content)
    with writing_to(path):
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; a number that is none (NaN, infinity) becomes null, as JSON has it."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, default=str) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(each) for key, each in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(each) for each in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def is_figure(value: Any) -> TypeGuard[float]:
    """Whether a value that was read is a number to compute with: no bool, NaN or infinity, and not above `LARGEST`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


# of file systems without locks; NFS says EBADF of a file or folder that is open for reading alone
_WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)


def lock(file: IO[str] | int, of_process: bool = False) -> bool | None:
    """Lock an open file, without waiting.

    Args:
        file: the file, or its descriptor, open for writing where the lock is the process's.
        of_process: the lock is the process's, so that forked workers that outlive it by a moment do not hold it, but
            this process gives it up when it closes any handle of the file; else the lock is this handle's.

    Returns:
        Whether it is ours now; None where the system or the file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        (fcntl.lockf if of_process else fcntl.flock)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if problem.errno in _WITHOUT:
            return None
        raise
    return True


def unwritable(value: Any, most: int = MOST_LETTERS) -> str:
    """What keeps a value of plain data from being written to a file, or from naming one; empty where nothing does.

    Args:
        value: the value.
        most: letters of a text, in it or in its lists and mappings.
    """
    if isinstance(value, dict | list | tuple):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return next((problem for part in parts if (problem := unwritable(part, most))), "")
    if not isinstance(value, str):
        return ""
    if len(value) > most:
        return f"a text of {len(value)} letters; give at most {most}"
    broken = "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)
    return "give a text without NUL and without halves of surrogate pairs" if broken else ""
