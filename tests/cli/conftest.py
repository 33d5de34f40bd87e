"""Two processes that stay for the tests of a file: to start them takes most of the time of a test of several ranks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

import pytest
from ranks import RANKS, prepared

from tests.cli import rank


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """A function that runs a command of mnerkit on two ranks, and fails where it does not end with 0.

    With `cut_after` the command has to break off after so many training steps.

    They find each other by the variables that `torchrun` sets. `test_ddp.py` has Lightning start its ranks, too.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS), "GROUP_RANK": "0"}
    shared |= {"LOCAL_WORLD_SIZE": str(RANKS), "TORCHELASTIC_RUN_ID": "tests", "GLOO_SOCKET_IFNAME": "lo"}
    logs = [tmp_path_factory.mktemp("ranks") / f"{number}.log" for number in range(RANKS)]
    pipes, processes, context = [], [], prepared()
    for number, log in enumerate(logs):
        ours, theirs = context.Pipe()
        variables = {**shared, "RANK": str(number), "LOCAL_RANK": str(number)}
        process = context.Process(target=rank.work, args=(theirs, log, variables), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)

    def run(command: Sequence[str], cut_after: int | None = None) -> None:
        for pipe in pipes:
            pipe.send((list(command), cut_after))
        codes = [pipe.recv() for pipe in pipes]
        assert codes == [0] * RANKS, "\n".join(log.read_text()[-2000:] for log in logs)

    yield run
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join(timeout=20)
        process.kill()
