"""A sweep that is killed at any moment goes on to the same tables: `make bench-kills`.

A grid of eight short runs on the probe corpus is first run undisturbed, which takes T seconds. Then, ten times, it is
begun anew and killed (SIGKILL to its whole process group) at a random moment, one in each tenth of its way, and the
same command is given again. What must hold then:

- a run that was complete before the kill was not touched: its files are as they were;
- every run is complete, once, and every cell of the table is filled, once, with the figures of the undisturbed sweep;
- the report's table is that of the undisturbed sweep, byte by byte, and no lock or half-written file is left.

Exit code 1 when something does not. `--moments`, `--seed` and `--jobs` are for other tries.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json
from mnerkit.errors import DataError
from mnerkit.runs.run_folder import RunFolder

RESULTS = Path(__file__).resolve().parent / "results" / "sweep_kills.json"
NAME = "paper/sweep"
SWEEP = """\
title: a sweep to be killed
what: sweep
data: posts
seeds: [0]
note: eight short runs
sweep: {option: model.head.dropout, label: dropout, values: [0.0, 0.1, 0.2, 0.3]}
groups:
  - {name: probe, corpus: twitter2015}
metrics:
  - {name: F1, metric: f1}
rows:
  - {name: CRF, plugin: bilstm}
  - {name: softmax, plugin: bilstm, ablation: softmax}
"""
PROFILE = """\
about: short runs
seeds: [0]
corpora:
  posts: {data.corpus: probe, data.variant: default}
options: {data.limit: 120, trainer.max_epochs: 4}
plugins:
  bilstm: {}
"""


@dataclass(frozen=True)
class State:
    """What of a run stands in its folder.

    Attributes:
        figures: its scores, without times; None where it is not complete.
        files: name -> time of the last change, and content, of what a complete run is made of.
    """

    figures: dict[str, Any] | None
    files: dict[str, tuple[int, bytes]]


def state(run: RunFolder) -> State:
    """The state of a run."""
    try:
        found = run.metrics() if run.finished else None
    except DataError:
        found = None
    if found is None or "test" not in found:
        return State(None, {})
    names = ("config.yaml", "env.json", "metrics.json", "predictions.dev.jsonl", "predictions.test.jsonl", "best.ckpt")
    files = {name: ((run.path / name).stat().st_mtime_ns, (run.path / name).read_bytes()) for name in names}
    return State({**found, "seconds": None}, files)


def states(out: Path) -> dict[str, State]:
    """The states of all runs of a sweep, by their places."""
    top = out / "runs"
    return {path.relative_to(top).as_posix(): state(RunFolder(path)) for path in sorted(top.glob("*/*/*"))}


def faults(before: dict[str, State], out: Path, whole: Path) -> list[str]:
    """What is wrong with a sweep that was killed and went on to its end.

    Args:
        before: the states of its runs when it was killed.
        out: its folder.
        whole: the folder of the undisturbed one.
    """
    after, wanted = states(out), states(whole)
    found = [
        f"{name}: complete before the kill, and touched after it" for name in before if _touched(name, before, after)
    ]
    found += [f"{name}: lost" for name in wanted.keys() - after.keys()]
    found += [f"{name}: one too many" for name in after.keys() - wanted.keys()]
    found += [
        f"{name}: other figures" for name in wanted.keys() & after.keys() if wanted[name].figures != after[name].figures
    ]
    cells, others = (json.loads((each / NAME / "table.json").read_text("utf-8"))["cells"] for each in (out, whole))
    if cells != others or any(cell["state"] != "done" or len(set(cell["runs"])) != 1 for cell in cells):
        found.append("table.json: not the cells of the undisturbed sweep, each filled by one run")
    for name in (f"tables/{NAME}.md", f"tables/{NAME}.tex"):
        if (out / "report" / name).read_bytes() != (whole / "report" / name).read_bytes():
            found.append(f"{name}: not that of the undisturbed sweep")
    left = [path for pattern in (".lock", ".*.part", ".*.json.*", ".*.jsonl.*") for path in out.rglob(pattern)]
    return found + [f"{path.relative_to(out)}: left behind" for path in left]


def _touched(name: str, before: dict[str, State], after: dict[str, State]) -> bool:
    return bool(before[name].files) and (name not in after or after[name].files != before[name].files)


def command(folder: Path, out: Path, jobs: int) -> list[str]:
    """The command of the sweep."""
    words = [sys.executable, "-m", "mnerkit", "reproduce", "--experiments", str(folder), "--profile", "short"]
    return [*words, "--out", str(out), "--jobs", str(jobs)]


@contextlib.contextmanager
def begun(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep in a process group of its own, all of which is killed at the end of the block."""
    with log.open("ab") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _wait_for(process.pid)


def _wait_for(group: int) -> None:
    """Wait until the last process of a group that was killed is gone."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise SystemExit("processes of the sweep outlive SIGKILL")


def to_its_end(words: list[str], log: Path) -> float:
    """Run a sweep to its end; the seconds that it took."""
    started = time.monotonic()
    with begun(words, log) as process:
        code = process.wait(timeout=3600)
        seconds = time.monotonic() - started
    if code:
        raise SystemExit(f"the sweep ended with {code}:\n{log.read_text('utf-8', 'replace')[-2000:]}")
    return seconds


def cut(words: list[str], log: Path, out: Path, done: int, delay: float) -> float | None:
    """Begin a sweep, and kill it some seconds after so many runs were done; after how many, or None where it ended."""
    started = time.monotonic()
    with begun(words, log) as process:
        while process.poll() is None and len(list(out.glob("runs/*/*/*/metrics.json"))) < done:
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
            return None
        return time.monotonic() - started


def main() -> int:
    """Kill sweeps, and look at what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10, help="how often (default: 10)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default: 2)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no sweep outlives this
    draw, rows = random.Random(asked.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "log"
        for path, text in {f"experiments/{NAME}.yaml": SWEEP, "experiments/profiles/short.yaml": PROFILE}.items():
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text(text, "utf-8")
        whole = folder / "whole"
        seconds = to_its_end(command(folder / "experiments", whole, asked.jobs), log)
        print(f"seed {asked.seed}: {len(states(whole))} runs undisturbed in {seconds:.1f} s", flush=True)
        for number in range(asked.moments):
            out = folder / f"cut{number}"
            words = command(folder / "experiments", out, asked.jobs)
            # spread over the sweep by what is complete, since a machine may be slower than it was just now
            done, delay = number * len(states(whole)) // asked.moments, draw.uniform(0, 2 * seconds / asked.moments)
            while (moment := cut(words, log, out, done, delay)) is None:  # it ended first
                shutil.rmtree(out)
                delay /= 2
            before = states(out)
            complete = sum(each.figures is not None for each in before.values())
            to_its_end(words, log)
            wrong = faults(before, out, whole)
            rows.append({"second": round(moment, 2), "begun": len(before), "complete": complete, "faults": wrong})
            said = f"{complete} runs complete, {len(before) - complete} more begun"
            print(f"killed after {moment:.1f} s, {said}: {'; '.join(wrong) or 'as it should be'}", flush=True)
    found = {"seed": asked.seed, "jobs": asked.jobs, "seconds": round(seconds, 1), "moments": rows}
    write_json(RESULTS, found)
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
