"""The launch lines of the documentation (`torchrun`, SLURM), on loopback: two processes on two pretended machines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mnerkit.runs.run_folder import RunFolder
from tests import weights

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```\w*\n(.*?)^```", (ROOT / "docs" / "guides" / "cluster.md").read_text(encoding="utf-8"), re.M | re.S
)
TINY = """\
plugin: bert
data: {corpus: probe, limit: 41, batch_size: 8}
trainer: {max_epochs: 1, enable_progress_bar: false}
"""
# what srun does, as far as a program can tell: a process for each task, each told which one it is
SRUN = """\
#!{python}
import os, subprocess, sys, time
assert sys.argv[1] == "--kill-on-bad-exit=1"
nodes, each = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
tasks = []
for node in range(nodes):
    for local in range(each):
        own = {{"SLURM_NTASKS": nodes * each, "SLURM_PROCID": node * each + local}}
        own |= {{"SLURM_LOCALID": local, "SLURM_NODEID": node}}
        environment = {{**os.environ, **{{name: str(value) for name, value in own.items()}}}}
        tasks.append(subprocess.Popen(sys.argv[2:], env=environment))
while any(task.poll() is None for task in tasks):
    if any(task.poll() for task in tasks):
        [task.kill() for task in tasks]
    time.sleep(0.1)
sys.exit(max((task.wait() for task in tasks), key=abs))
"""
# seconds after which something is broken, on a busy machine, too
LONG = 300


def documented(word: str) -> str:
    """The one block of the page with this word, for processors in place of GPUs."""
    (found,) = (block for block in BLOCKS if word in block)
    assert "--trainer.accelerator gpu" in found
    return found.replace("--trainer.accelerator gpu", "--trainer.accelerator cpu")


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout: an experiment of the page's name, but tiny, and the commands in `.venv/bin`."""
    made = tmp_path_factory.mktemp("checkout")
    (made / "experiments").mkdir()
    (made / "experiments" / "twitter2017-bert.yaml").write_text(TINY)
    (made / "DIR").mkdir()
    folder = made / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "activate").write_text(f'export PATH="{folder}:$PATH"\n')
    commands = {"mnerkit": "-m mnerkit", "torchrun": "-m torch.distributed.run"}
    for name, module in commands.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
    (folder / "srun").write_text(SRUN.format(python=sys.executable))
    for path in folder.iterdir():
        path.chmod(0o755)
    return made


def start(place: Path, script: str, **variables: Any) -> subprocess.Popen[str]:
    """A shell that runs a script in that folder."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": paths, "PATH": f"{place / '.venv' / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    own |= {"GLOO_SOCKET_IFNAME": "lo", "MNERKIT_CACHE": str(place / "cache")}
    own |= {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=place,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(*started: subprocess.Popen[str]) -> str:
    """What scripts said that came to a good end; all that they started is gone."""
    said = []
    end = time.time() + LONG
    try:
        for process in started:
            said.append(process.communicate(timeout=max(1, end - time.time()))[0])
            assert process.returncode == 0, said[-1]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "\n".join(said)


def named(place: Path, name: str) -> RunFolder:
    (path,) = place.glob(f"runs/*/*/{name}")
    return RunFolder(path)


def figures(run: RunFolder) -> tuple[Any, ...]:
    """What two trainings must have in common: scores, the epoch chosen, every prediction, every weight."""
    found = run.metrics()
    said = [(run.path / f"predictions.{split}.jsonl").read_bytes() for split in ("dev", "test")]
    return found["dev"], found["test"], found["best_epoch"], found["selected_by"], *said, weights.digest(run)


@pytest.fixture(scope="module")
def alone(place: Path) -> tuple[Any, ...]:
    """The figures of two processes that one machine's Trainer starts."""
    line = "mnerkit fit --config experiments/twitter2017-bert.yaml --data.root DIR --name alone --test"
    ended(start(place, f"{line} --trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp"))
    return figures(named(place, "alone"))


def test_the_line_of_torchrun_trains_as_one_machine_does(place: Path, alone: tuple[Any, ...]) -> None:
    line = documented("torchrun")
    assert "--master-addr NODE0 --master-port 29500" in line
    line = line.replace("NODE0", "127.0.0.1").replace("29500", str(free_port()))
    ended(*(start(place, line.replace("large", "elastic"), NODE=node, GPUS=1) for node in (0, 1)))
    run = named(place, "elastic")
    assert json.loads((run.path / "env.json").read_text())["world_size"] == 2
    assert figures(run) == alone


def test_the_script_of_slurm_trains_as_one_machine_does_and_goes_on(place: Path, alone: tuple[Any, ...]) -> None:
    script = documented("srun")
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "large", "SLURM_NODELIST": "localhost", "SLURM_NNODES": 2}
    job |= {"SLURM_NTASKS_PER_NODE": 1, "MASTER_PORT": free_port()}
    said = ended(start(place, script, **job))
    assert (
        len(re.findall(r"^run runs/.*/large$", said, re.M)) == 2
    )  # at the beginning and at the end, by one of the two
    run = named(place, "large")
    assert json.loads((run.path / "env.json").read_text())["world_size"] == 2
    assert run.metrics()["looks_at_test"] == 1
    assert figures(run) == alone
    # submitted again: no process waits for another one
    assert ended(start(place, script, **job)).count("already finished") == 1
    assert figures(run) == alone
