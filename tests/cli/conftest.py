"""Two processes that stay, for tests of commands that several ranks run: to start them takes most of such a test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

RANKS = 2


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Sequence[str]], None]]:
    """A function that runs a command of mnerkit on two ranks, and fails where it does not end with 0.

    They find each other by the variables that `torchrun` sets. `test_ddp.py` has Lightning start its ranks, too.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS}
    shared |= {"GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "tests", "OMP_NUM_THREADS": 1, "GLOO_SOCKET_IFNAME": "lo"}
    logs = [tmp_path_factory.mktemp("ranks") / f"{rank}.log" for rank in range(RANKS)]
    processes = []
    for rank, log in enumerate(logs):
        own = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
        with log.open("w") as stream:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name("rank.py"))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    text=True,
                    env={**os.environ, **own},
                )
            )

    def run(command: Sequence[str]) -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(list(command)) + "\n")
            process.stdin.flush()
        answers = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
        told = "\n".join(log.read_text()[-2000:] for log in logs)
        assert answers == ["0"] * RANKS, told

    yield run
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
