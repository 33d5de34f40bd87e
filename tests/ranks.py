"""Two processes that train as one, for tests of what DistributedDataParallel does to a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed, multiprocessing

# a new process imports this module before that of its work: as always, mnerkit before Lightning
import mnerkit  # noqa: F401

RANKS = 2


def in_two_ranks(work: Callable[[int, Path], None], folder: Path) -> None:
    """Call `work(rank, folder)` in two processes; what either raises fails the test.

    Args:
        work: A function of a module, so that a new process finds it by its name; it is alone until it is `joined`.
        folder: Where the processes meet, and where they may leave results.
    """
    # spawned: a forked child may wait forever for a lock that a thread of its parent (autograd, OpenMP) held
    multiprocessing.start_processes(_rank, args=(work, folder), nprocs=RANKS, start_method="spawn")


def _rank(rank: int, work: Callable[[int, Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    work(rank, folder)


@contextmanager
def joined(rank: int, folder: Path) -> Iterator[None]:
    """One gloo group of all ranks."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    yield
    distributed.destroy_process_group()
