"""Files that appear whole or not at all, whenever the process is killed, and locks. Nothing here imports torch.

The system gives a lock up when its holder dies, however it dies. Windows has no such locks.
"""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard

# of a figure; a larger one is damaged, and its square may be infinite
LARGEST = 1e15


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
