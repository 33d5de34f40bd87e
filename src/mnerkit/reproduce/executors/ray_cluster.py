"""The executor of a Ray cluster: a run takes its share of a node, and is given to another one where its own dies."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.errors import UsageError, first_line
from mnerkit.printable import complain, json_text, show
from mnerkit.reproduce.executors.local import environment
from mnerkit.reproduce.executors.tasks import Outcome, Perform, Task
from mnerkit.runs.run_folder import RunFolder

# processes that a run is given to, one after the other, before it fails alone
TRIES = 3
# seconds: until an address answers at all, and until Ray answers there
ANSWER, GREETING = 5.0, 60.0
# seconds: between two looks at the cluster, and without any node that could take a run, before what is left fails
LOOK, DESERTED = 5.0, 60.0
# bytes: tasks and outcomes alone travel through Ray, so its store may be as small as it can be
STORE = 80 * 2**20
# a Ray of this machine: on loopback alone, as Ray does by itself where this variable's systems are, and silent
AT_HOME = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# variables of whoever starts the sweep that its runs get, too; never keys, since Ray shows these to all
PASSED = ("HF_HOME", "HF_HUB_OFFLINE", "MNERKIT_CACHE", "MNERKIT_DATA", "OMP_NUM_THREADS", "XDG_CACHE_HOME")
# variables of launchers: a Ray that `srun` has started would make each run one rank of many
LAUNCHERS = ("SLURM_", "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_")


@dataclass(frozen=True)
class Share:
    """What each run takes of a node.

    Attributes:
        jobs: runs at once.
        cpus: cores, and threads.
        gpus: 1 where the cluster has some.
    """

    jobs: int
    cpus: int
    gpus: int

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]], jobs: int | None) -> Share:
        """The largest share of which the nodes hold enough.

        Args:
            nodes: the resources of each, by Ray's names.
            jobs: runs at once; None: one a GPU, or one a core where there is none.

        Raises:
            UsageError: no node has a core.
        """
        gpus = int(any(node.get("GPU", 0) >= 1 for node in nodes))
        fit = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus]
        if not fit:
            raise UsageError("the Ray cluster has no node with a core to run on")

        def room(cpus: int) -> int:
            return sum(int(min(node["CPU"] // cpus, node.get("GPU", 0) if gpus else node["CPU"])) for node in fit)

        jobs = jobs or room(1)
        widest = int(max(node["CPU"] for node in fit))
        return cls(jobs, max(cpus for cpus in range(1, widest + 1) if room(cpus) >= min(jobs, room(1))), gpus)

    def fits(self, nodes: Sequence[Mapping[str, float]]) -> bool:
        """Whether any node could take a run."""
        return any(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes)


class RayExecutor:
    """Ray tasks, on whatever nodes the cluster has; their processes stay alive between them.

    Those that take a GPU do not: Ray may give the next task another one, and a process keeps the one that it has used.
    """

    def __init__(self, jobs: int | None, perform: Perform, address: str | None = None, shared: Path | None = None):
        """Look whether the cluster answers; start nothing yet.

        Args:
            jobs: runs at once; None: one a GPU, or one a core where there is none.
            perform: what a process does with a task; importable by name on every node.
            address: HOST:PORT, or `auto`, of a cluster that this machine is a node of; None: a Ray of this machine.
            shared: a folder that is locked in this process while `run` goes on; a node that does not see the lock is
                refused, since two processes could then write into one run folder.

        Raises:
            UsageError: Ray is not installed, or no cluster answers.
        """
        self.wanted_jobs, self.perform, self.address, self.shared = jobs, perform, address, shared
        _ray()
        here = {"CPU": max(os.cpu_count() or 1, jobs or 1)}
        self.jobs = Share.of([here] if address is None else nodes_at(address), jobs).jobs

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """Do the tasks; where a process or its node dies, another one gets its task, `TRIES` times at most.

        Raises:
            UsageError: a node does not see the folders of the sweep, or the locks in them.
        """
        if not tasks:
            return
        for folder in {task.log.parent for task in tasks}:
            folder.mkdir(parents=True, exist_ok=True)
        waiting = [(task, 1) for task in reversed(tasks)]  # and which try it is
        running: dict[Any, tuple[Task, int, float]] = {}
        with connected(self.address, self.wanted_jobs) as ray:
            share = Share.of(_nodes(ray), self.wanted_jobs)
            # no retries of Ray's own: they are counted here, whatever took the process away
            work = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(_work)
            common = self.perform, os.getcwd(), self.shared, _variables(share)
            last_room = time.time()
            try:
                while waiting or running:
                    while waiting and len(running) < share.jobs:
                        task, number = waiting.pop()
                        running[work.remote(task, *common)] = task, number, time.time()
                    ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK)
                    for reference in ready:
                        task, number, since = running.pop(reference)
                        outcome, gone = _outcome(ray, reference, task, time.time() - since)
                        if gone and number < TRIES:
                            waiting.append((task, number + 1))
                        else:
                            yield outcome
                    if ready or share.fits(_nodes(ray)):
                        last_room = time.time()
                    elif time.time() - last_room > DESERTED:
                        need = f"{share.cpus} cores" + (" and a GPU" if share.gpus else "")
                        none = f"no node with {need} is left in the Ray cluster"
                        left = [*(task for task, *_ in running.values()), *(task for task, _ in waiting)]
                        yield from (Outcome(task.name, 0.0, none) for task in left)
                        return
            finally:
                for reference in running:  # a run that is cut off is continued the next time
                    with contextlib.suppress(ray.exceptions.RayError):
                        ray.cancel(reference, force=True)


def _ray() -> Any:
    """Ray, imported when it is needed: it takes a second.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UsageError("--executor ray needs Ray: pip install 'mnerkit[cluster]', or pip install ray") from None


@contextlib.contextmanager
def connected(address: str | None, jobs: int | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one of this machine that ends with the block.

    Args:
        address: of the cluster; None: start one.
        jobs: cores that one of this machine shall offer at least.

    Raises:
        UsageError: Ray can't connect, or does not start.
    """
    how: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        cores = max(os.cpu_count() or 1, jobs or 1)
        how |= {"include_dashboard": False, "object_store_memory": STORE, "num_cpus": cores}
    with environment(**({} if address else AT_HOME)):
        ray = _ray()
        try:
            ray.init(**how)
        except Exception as error:  # Ray raises plain ones, too
            ray.shutdown()
            raise UsageError(f"Ray does not {'connect' if address else 'start here'}: {first_line(error)}") from None
        try:
            yield ray
        finally:
            ray.shutdown()


def nodes_at(address: str) -> list[dict[str, float]]:
    """The resources of the nodes of a cluster.

    A process of its own connects: where something other than Ray answers, Ray may end the process that tried.

    Raises:
        UsageError: no cluster answers there.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535 or "/" in host:
            raise UsageError(f"--ray-address {address}: give HOST:PORT, or auto for the cluster that runs here")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
        except OSError as error:
            raise UsageError(f"--ray-address {address}: nothing answers there ({error.strerror or error})") from None
        except UnicodeError:  # what names of hosts are encoded with refuses empty and long parts
            raise UsageError(f"--ray-address {address}: no host can be called {host!r}; give HOST:PORT") from None
    command = [sys.executable, "-c", f"from {__name__} import print_nodes; print_nodes({address!r})"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GREETING, check=False)
        return json.loads(answer.stdout.strip().rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        why = f"no word in {GREETING:.0f} s"
    except ValueError:
        why = answer.stderr.rpartition("mnerkit: ")[2].strip().partition("\n")[0]
    raise UsageError(f"--ray-address {address}: no Ray cluster that this machine is a node of answers there ({why})")


def print_nodes(address: str) -> None:
    """Print the resources of a cluster's nodes as JSON, for `nodes_at`."""
    try:
        with connected(address) as ray:
            show(json_text(_nodes(ray)))
    except UsageError as error:
        complain(error)
        sys.exit(1)


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _variables(share: Share) -> dict[str, str]:
    """What a run is to find in its environment."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {"OMP_NUM_THREADS": str(share.cpus), **passed}


def _work(task: Task, perform: Perform, folder: str, shared: Path | None, variables: Mapping[str, str]) -> Outcome:
    """On a node: do a task in the folder of the one who gave it, and with these variables."""
    for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
        del os.environ[name]
    os.environ.update(variables)  # torch, which looks there, is not imported before the first task
    node = platform.node()
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(f"node {node} has no {folder} ({error.strerror}): all nodes must share it") from None
    if shared is not None and not RunFolder(shared).taken():
        raise UsageError(f"node {node} does not see the lock of {shared}: all nodes must share it, with POSIX locks")
    return perform(task)


def _outcome(ray: Any, reference: Any, task: Task, seconds: float) -> tuple[Outcome, bool]:
    """What became of a task, and whether its process, or its node, is gone."""
    try:
        return ray.get(reference), False
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UsageError):
            raise UsageError(str(error.cause)) from None
        return Outcome(task.name, seconds, f"{type(error.cause).__name__}: {error.cause}; see {task.log}"), False
    except ray.exceptions.RayError as error:
        died = f"its process or node died, {TRIES} times ({type(error).__name__}); see {task.log}"
        return Outcome(task.name, seconds, died), True
