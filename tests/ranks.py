"""Two processes that train as one, for tests of what DistributedDataParallel does to a module, and of whole runs."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

# a new process imports this module before that of its work: as always, mnerkit before Lightning
import mnerkit  # noqa: F401

RANKS = 2
# of this process, so that none ends before it
_groups: list[Any] = []


def prepared() -> Any:
    """A context of processes that begin with torch, Lightning and the methods imported, which takes seconds.

    A server without threads forks them: a child of this process may wait forever for a lock that one of its threads
    (autograd, OpenMP) held.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks", "mnerkit.runs.fit", "mnerkit.runs.build"])
    return context


def in_two_ranks(work: Callable[[int, Path], None], folder: Path) -> None:
    """Call `work(rank, folder)` in two processes; what either raises fails the test.

    Args:
        work: A function of a module, so that a new process finds it by its name; it is alone until it is `joined`.
        folder: Where the processes meet, and where they may leave results.
    """
    multiprocessing.start_processes(
        _rank, args=(work, folder), nprocs=RANKS, start_method=prepared().get_start_method()
    )


def _rank(rank: int, work: Callable[[int, Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    work(rank, folder)
    # gloo's threads drop Python objects of the last backward pass, and wait for Python's lock to do so. At Python's end
    # that aborts the process; a group that ends meanwhile holds the lock, and waits for its threads for ever. So groups
    # outlive the work, and the process goes at once; what the work raises is told as ever.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class StayingRanks:
    """Two processes that make calls as one, as under `torchrun`: to start them takes longer than most calls.

    They are started by the first call, and again by the next one after a call that failed.

    Args:
        folder: where what they print is left.
    """

    def __init__(self, folder: Path) -> None:
        self.logs = [folder / f"{rank}.log" for rank in range(RANKS)]
        self.processes: list[Any] = []
        self.pipes: list[Connection] = []

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS), "GROUP_RANK": "0"}
        shared |= {"LOCAL_WORLD_SIZE": str(RANKS), "TORCHELASTIC_RUN_ID": "tests", "GLOO_SOCKET_IFNAME": "lo"}
        context = prepared()
        for rank, log in enumerate(self.logs):
            ours, theirs = context.Pipe()
            variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            process = context.Process(target=_answer, args=(theirs, log, variables), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def call(self, work: Callable[..., None], *given: Any) -> None:
        """Have both ranks call a function of a module.

        Raises:
            AssertionError: one of them raised an error, or ended; the other one, which may wait for it, is killed.
        """
        if not self.processes:
            self._start()
        for pipe in self.pipes:
            pipe.send((work, given))
        waiting = dict(enumerate(self.pipes))
        while waiting:
            for rank in [rank for rank, pipe in waiting.items() if pipe.poll(0.01)]:
                try:
                    problem = waiting.pop(rank).recv()
                except EOFError:
                    problem = "the process ended"
                if problem is not None:
                    time.sleep(1)  # what the other one may have to say
                    printed = "\n".join(log.read_text(errors="replace")[-2000:] for log in self.logs)
                    self.end()
                    raise AssertionError(f"rank {rank}: {problem}\n{printed}")

    def end(self) -> None:
        """End both processes."""
        for process in self.processes:
            process.kill()
            process.join()
        self.processes, self.pipes = [], []


def _answer(calls: Connection, log: Path, variables: dict[str, str]) -> None:
    """Make the calls that come through a pipe, and answer each with None, or with the error that it raised."""
    os.environ.update(variables)
    torch.set_num_threads(1)
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    while True:
        work, given = calls.recv()
        try:
            work(*given)
            calls.send(None)
        except BaseException:
            calls.send(traceback.format_exc())


@contextmanager
def joined(rank: int, folder: Path) -> Iterator[None]:
    """One gloo group of all ranks."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    _groups.append(distributed.group.WORLD)
    yield
    distributed.destroy_process_group()


class Losses(nn.Module):
    """All that a rank learns from, as one number; contrastive losses are of all ranks."""

    def __init__(self, made: nn.Module) -> None:
        super().__init__()
        self.made = made

    def forward(self, batch: Any, share: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        encoded = self.made(batch)
        return encoded.states.square().sum() * share + sum(encoded.losses.values()), encoded.losses


def assert_ranks_learn_as_one(
    rank: int,
    folder: Path,
    make: Callable[[], nn.Module],
    batch_of: Callable[[nn.Module, Sequence[Any]], Any],
    rows: Sequence[Sequence[Any]],
) -> None:
    """What each rank learns of its posts, `rows[rank]`, is what one process learns of all: losses and gradients.

    Args:
        rank: This process.
        folder: Where the processes meet.
        make: The encoder, with the same weights each time and without dropout.
        batch_of: Posts as an encoder reads them.
        rows: The posts of each rank.
    """
    alone = make().train()
    total, expected = Losses(alone)(batch_of(alone, [post for each in rows for post in each]), 1.0)
    total.backward()
    with joined(rank, folder):
        made = make().train()
        together = DistributedDataParallel(Losses(made))
        total, losses = together(batch_of(made, rows[rank]), float(RANKS))  # DDP averages over ranks
        total.backward()
        assert losses.keys() == expected.keys()
        for name, loss in losses.items():
            torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-5)
        theirs = dict(alone.named_parameters())
        for name, each in made.named_parameters():
            if each.requires_grad:
                torch.testing.assert_close(each.grad, theirs[name].grad, rtol=1e-3, atol=1e-4)
