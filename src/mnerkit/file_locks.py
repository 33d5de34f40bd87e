"""Locks of files that the system gives up when their holder dies, however it dies. Windows has none of them."""

from __future__ import annotations

import errno
from typing import IO

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
