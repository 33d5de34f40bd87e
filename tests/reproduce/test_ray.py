"""Sweeps on a Ray cluster of two nodes, one of which is killed; all of it on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main
from mnerkit.errors import RunBusy, UsageError
from mnerkit.reproduce.executors import ray_cluster, tasks
from mnerkit.reproduce.executors.ray_cluster import AT_HOME, TRIES, Share
from mnerkit.reproduce.executors.tasks import Task
from mnerkit.runs.run_folder import RunFolder
from tests import weights
from tests.reproduce import ray_sweep
from tests.reproduce.small import alive, task_of, within

ROOT = Path(__file__).resolve().parents[2]
# seconds after which something is broken, on a busy machine, too
LONG = 240


@dataclass
class Cluster:
    """Two nodes, and what a process needs to find them."""

    address: str
    environment: dict[str, str]
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """Kill the second node; another one takes its place."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        while (said := self.process.stdout.readline()) == "added\n":  # the node that took a former one's place
            pass
        assert said == "killed\n"

    def sweep(self, folder: Path, *whats: str) -> subprocess.Popen[str]:
        """A process that sweeps over cheap tasks."""
        words = [sys.executable, "-m", "tests.reproduce.ray_sweep", self.address, str(folder), *whats]
        return subprocess.Popen(
            words, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def outcomes(process: subprocess.Popen[str], folder: Path) -> dict[str, str | None]:
    """What became of each task of a sweep in a folder."""
    try:
        said = process.communicate(timeout=LONG)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    found = lines(folder / "outcomes")
    assert len({each["name"] for each in found}) == len(found)  # none twice
    return {each["name"]: each["error"] for each in found}


def lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines of a file that may still be missing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def processes(word: str) -> set[int]:
    """Processes with a word in their command or environment."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            said = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in said and alive(int(path.name)) and int(path.name) != os.getpid():
            found.add(int(path.name))
    return found


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Where Ray keeps to loopback and to a folder of its own; nothing of it is left after the tests."""
    pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    # not pytest's folder: names of Unix sockets are short
    folder = tempfile.mkdtemp(prefix="mnerkit-ray-")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"RAY_TMPDIR": folder, "HOME": folder, "MNERKIT_CACHE": f"{folder}/cache", "PYTHONPATH": paths}
    # what a node has that was started by `srun`
    own |= {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "ray"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    yield {**kept, **AT_HOME, **own, "OMP_NUM_THREADS": "1"}
    for pid in processes(folder):  # only what a start that failed has left: the fixture and tests below look
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    """Two nodes of one core each."""
    log = Path(environment["RAY_TMPDIR"]) / "nodes.txt"
    for _ in range(3):  # Ray gives a node half a minute to start, which a busy machine may need
        process = nodes(environment, log)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if address:
            break
        end(process, environment)
    try:
        assert address.startswith("127.0.0.1:"), log.read_text()
        yield Cluster(address, environment, process)
    finally:
        end(process, environment)


def nodes(environment: dict[str, str], log: Path) -> subprocess.Popen[str]:
    """The process that holds the two nodes."""
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.reproduce.ray_nodes"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )


def end(process: subprocess.Popen[str], environment: dict[str, str]) -> None:
    """End the nodes, and wait until nothing of theirs is left."""
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
        within(60, lambda: not processes(environment["RAY_TMPDIR"]))


def test_a_node_that_is_killed_loses_no_task_and_doubles_none(cluster: Cluster, tmp_path: Path) -> None:
    process = cluster.sweep(tmp_path, "hold", "hold", "work", "work", "work", "work", "fail")
    tries = [tmp_path / "0.tries", tmp_path / "1.tries"]
    within(LONG, lambda: all(lines(path) for path in tries) or process.poll() is not None)
    nodes = [lines(path)[0]["node"] for path in tries]
    assert nodes[0] != nodes[1]
    pids = [lines(path)[0]["pid"] for path in tries]
    cluster.kill()
    within(60, lambda: sum(alive(pid) for pid in pids) == 1)
    (tmp_path / "go").touch()
    assert outcomes(process, tmp_path) == {**dict.fromkeys("012345"), "6": "no"}
    done = [lines(tmp_path / str(number)) for number in range(7)]
    assert [len(each) for each in done] == [1] * 7
    assert sorted(len(lines(path)) for path in tries) == [1, 2]
    # processes stay alive between tasks, and are no ranks of the launcher that has started their node
    assert len({each["pid"] for (each,) in done}) <= 3
    assert {(each["threads"], each["slurm"]) for (each,) in done} == {("1", None)}


def test_a_task_that_raises_or_kills_its_process_fails_alone(cluster: Cluster, tmp_path: Path) -> None:
    found = outcomes(cluster.sweep(tmp_path, "raise", "die", "work", "work"), tmp_path)
    assert set(found) == set("0123") and found["2"] is None and found["3"] is None
    assert str(found["0"]).startswith("ValueError: no such thing; see ")
    died = f"its process or node died, {TRIES} times (WorkerCrashedError); see {tmp_path / 'logs' / '1.txt'}"
    assert found["1"] == died
    assert [len(lines(tmp_path / f"{number}.tries")) for number in range(4)] == [1, TRIES, 1, 1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_runs_ends_when_the_sweep_is_stopped(how: signal.Signals, cluster: Cluster, tmp_path: Path) -> None:
    process = cluster.sweep(tmp_path, "hold")
    within(LONG, lambda: lines(tmp_path / "0.tries"))
    (try_,) = lines(tmp_path / "0.tries")
    assert alive(try_["pid"])
    process.send_signal(how)
    process.communicate(timeout=LONG)
    within(60, lambda: not alive(try_["pid"]))
    assert not (tmp_path / "0").exists()


def test_a_ray_of_this_machine_is_started_on_loopback_and_ended(environment: dict[str, str], tmp_path: Path) -> None:
    before = processes(environment["RAY_TMPDIR"])
    process = Cluster("here", environment, None).sweep(tmp_path, "work", "hold")  # type: ignore[arg-type]
    within(LONG, lambda: lines(tmp_path / "1.tries") or process.poll() is not None)
    started = processes(environment["RAY_TMPDIR"]) - before
    assert not {address for pid in started for address in listening(pid)} - {"127.0.0.1", "::1"}
    (tmp_path / "go").touch()
    assert outcomes(process, tmp_path) == {"0": None, "1": None}
    within(60, lambda: not processes(environment["RAY_TMPDIR"]) - before)


def listening(pid: int) -> set[str]:
    """Addresses that a process listens at (Linux)."""
    found = set()
    try:
        own = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                place, state, inode = (line.split()[column] for column in (1, 3, 9))
                if state == "0A" and f"socket:[{inode}]" in own:
                    words = bytes.fromhex(place.partition(":")[0])
                    swapped = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                    found.add(socket.inet_ntop(family, swapped).removeprefix("::ffff:"))
    except OSError:  # it has just ended
        pass
    return found


def test_a_killed_node_leaves_the_figures_of_a_local_sweep(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    """Four real runs on two nodes, of which one is killed as soon as both are at work."""
    figures = []
    for executor in (["local"], ["ray", "--ray-address", cluster.address]):
        out = tmp_path / executor[0]
        words = [sys.executable, "-m", "mnerkit", "reproduce", "--experiments", str(folder), "--out", str(out)]
        words += ["--jobs", "2" if executor[1:] else "1", "--executor", *executor]
        kept = {name: value for name, value in cluster.environment.items() if not name.startswith("SLURM_")}
        process = subprocess.Popen(
            words, cwd=tmp_path, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            if executor[1:]:
                within(LONG, lambda out=out: len(list(out.glob("runs/*/*/*/config.yaml"))) >= 2)
                assert len(list(out.glob("runs/*/*/*/metrics.json"))) < 2
                cluster.kill()
            said = process.communicate(timeout=LONG)[0]
        finally:
            process.kill()
        assert process.returncode == 0, said
        runs = [RunFolder(path.parent) for path in out.glob("runs/*/*/*/metrics.json")]
        found = {run.path.name: (run.metrics(), weights.digest(run)) for run in runs}
        figures.append({name: (each["dev"], each["test"], bits) for name, (each, bits) in found.items()})
        assert {each["looks_at_test"] for each, _ in found.values()} == {1}
        tables = [json.loads(path.read_text()) for path in out.glob("paper/*/table.json")]
        assert {cell["state"] for table in tables for cell in table["cells"]} == {"done", "printed_only"}
        assert not list(out.rglob(".lock"))
    assert figures[0] == figures[1] and len(figures[0]) == 4


def test_an_address_that_does_not_answer_is_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["reproduce", "--experiments", str(folder), "--out", str(tmp_path / "out"), "--executor", "ray"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for address, why in (
            (f"127.0.0.1:{port}", "nothing answers there (Connection refused)"),
            ("nowhere", "give HOST:PORT, or auto"),
            ("ray://127.0.0.1:10001", "give HOST:PORT, or auto"),
            ("127.0.0.1:99999", "give HOST:PORT, or auto"),
            ("node..x:6379", "no host can be called 'node..x'; give HOST:PORT"),
            (f"{'n' * 64}.x:6379", "no host can be called 'nnn"),
        ):
            assert main([*words, "--ray-address", address]) == 2
            said = capsys.readouterr().err
            assert said.startswith(f"mnerkit: --ray-address {address}: {why}") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_answers_and_is_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra cluster)")
    monkeypatch.setattr(ray_cluster, "GREETING", 3.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UsageError, match=r"no Ray cluster that this machine is a node of answers there \(no word"):
            ray_cluster.nodes_at(f"127.0.0.1:{silent.getsockname()[1]}")


def test_without_ray_the_extra_is_named(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["reproduce", "--experiments", str(folder), "--executor", "ray"]) == 2
    assert capsys.readouterr().err == (
        "mnerkit: --executor ray needs Ray: pip install 'mnerkit[cluster]', or pip install ray\n"
    )


def test_a_share_is_the_largest_of_which_the_nodes_hold_enough() -> None:
    even, odd, cards = [{"CPU": 8.0}, {"CPU": 8.0}], [{"CPU": 16.0}, {"CPU": 4.0}], [{"CPU": 32.0, "GPU": 4.0}] * 2
    assert Share.of(even, None) == Share(16, 1, 0)
    assert Share.of(even, 4) == Share(4, 4, 0)
    assert Share.of(even, 3) == Share(3, 4, 0)  # two thirds of a node would leave room for two
    assert Share.of(odd, 2) == Share(2, 8, 0)
    assert Share.of(even, 100) == Share(100, 1, 0)
    assert Share.of([*cards, {"CPU": 64.0}], None) == Share(8, 8, 1)
    assert Share.of(cards, 2) == Share(2, 32, 1)
    assert Share(2, 8, 1).fits(cards) and not Share(2, 8, 1).fits(even)
    with pytest.raises(UsageError, match="no node with a core"):
        Share.of([{"memory": 1.0}], None)


def test_a_node_that_shares_no_folder_or_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # restored, as the variables are
    monkeypatch.setenv("SLURM_PROCID", "1")
    task = task_of("a", (), tmp_path / "log")
    with pytest.raises(UsageError, match=r"has no .*nowhere .*: all nodes must share it"):
        ray_cluster._work(task, ray_sweep.perform, str(tmp_path / "nowhere"), None, {})
    with pytest.raises(UsageError, match="does not see the lock of out: all nodes must share it, with POSIX locks"):
        ray_cluster._work(task, ray_sweep.perform, str(tmp_path), Path("out"), {})
    assert "SLURM_PROCID" not in os.environ


def test_a_folder_is_seen_as_taken_by_others_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    code = "import sys; from pathlib import Path; from mnerkit.runs.run_folder import RunFolder; "
    code += "print(RunFolder(Path(sys.argv[1])).taken())"

    def asked() -> str:
        done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert asked() == "False"
    with run.writing():
        assert asked() == "True"
        assert asked() == "True"  # asking takes nothing away
    assert asked() == "False"


def test_a_run_waits_for_one_that_was_cut_off_and_still_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that nobody hears may go on for a while: its lock keeps a second process out of the run's folder."""
    calls = []
    busy = RunBusy("run X is being written by process 7 on lost", tmp_path, "process 7 on lost")

    def attempt(task: Task) -> str | None:
        calls.append(task.name)
        if len(calls) < 4:
            raise busy
        return None

    monkeypatch.setattr(tasks, "_attempt", attempt)
    assert tasks.perform(task_of("a", (), tmp_path / "log"), patience=0.1).error is None
    assert calls == ["a"] * 4
    calls.clear()

    def never(task: Task) -> str | None:
        raise busy

    monkeypatch.setattr(tasks, "_attempt", never)
    assert "process 7 on lost" in str(tasks.perform(task_of("a", (), tmp_path / "log"), patience=0.1).error)
