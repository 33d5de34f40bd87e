"""A sweep of cheap tasks on Ray: `python -m tests.reproduce.ray_sweep ADDRESS FOLDER WHAT...`.

Outcomes go into `FOLDER/outcomes` as JSON lines, since Ray tells on standard output of nodes that died.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

from mnerkit.reproduce.executors.ray_cluster import RayExecutor
from mnerkit.reproduce.executors.tasks import Outcome, Task
from mnerkit.reproduce.sweep import sweep_lock
from tests.reproduce.small import task_of


def perform(task: Task) -> Outcome:
    """A task of the tests: its command says what becomes of it; each try leaves a line in the task's own file."""
    import ray

    what, place = task.command
    where = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}
    where |= {"threads": os.environ["OMP_NUM_THREADS"], "slurm": os.environ.get("SLURM_PROCID")}
    with Path(f"{place}.tries").open("a") as stream:
        stream.write(json.dumps(where) + "\n")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise ValueError("no such thing")
    while what == "hold" and not Path(place).with_name("go").exists():
        time.sleep(0.1)
    with Path(place).open("a") as stream:
        stream.write(json.dumps(where) + "\n")
    return Outcome(task.name, 0.0, "no" if what == "fail" else None)


def main(address: str, folder: Path, whats: list[str]) -> None:
    """Run a task for each of `whats`, told as they come to their ends."""
    from tests.reproduce import ray_sweep  # not __main__, which a node could not import

    # a shell that starts the tests in the background lets them ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tasks = [
        task_of(str(number), (what, str(folder / str(number))), folder / "logs" / f"{number}.txt")
        for number, what in enumerate(whats)
    ]
    with sweep_lock(folder), (folder / "outcomes").open("w") as stream:
        executor = RayExecutor(2, ray_sweep.perform, None if address == "here" else address, folder)
        for outcome in executor.run(tasks):
            stream.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
