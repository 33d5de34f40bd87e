"""Small experiments, profiles, and an executor that trains nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from mnerkit.reproduce.cells import Grid
from mnerkit.reproduce.executors.tasks import Outcome, Task
from mnerkit.reproduce.experiments import experiment_files, profiles
from mnerkit.reproduce.grid import Builder
from mnerkit.runs.run_folder import RunFolder

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

TABLE = """\
title: a table
what: table
data: posts
seeds: [0, 1]
note: of a test
printed: {file: table1.csv, row: method}
groups:
  - {name: T15, corpus: twitter2015, where: {dataset: a}}
  - {name: T17, corpus: twitter2017, where: {dataset: b}}
  - {name: Avg, mean: [T15, T17], where: {dataset: mean}}
metrics:
  - {name: P, metric: precision, printed: P}
  - {name: F1, metric: f1, printed: F1}
rows:
  - {name: BERT, plugin: bert, ablation: softmax}
  - {name: BERT-CRF, plugin: bert}
  - {name: UMT, missing: UMT is not here}
"""
SWEEP = """\
title: a sweep
what: sweep
data: posts
seeds: [0]
note: of a test
sweep: {option: model.dropout, label: dropout, values: [0.0, 0.1, 0.2, 0.3, 0.4], best: 0.2}
groups:
  - {name: T15, corpus: twitter2015}
metrics:
  - {name: F1, metric: f1}
rows:
  - {name: BERT-CRF, plugin: bert}
"""
PRINTED = """\
method,dataset,P,F1
BERT,a,1.5,2.5
BERT,b,3,4
BERT,mean,2.25,3.25
BERT-CRF,a,,12
BERT-CRF,b,13,14
BERT-CRF,mean,12,13
UMT,a,21,22
UMT,b,23,24
UMT,mean,22,23
"""
MINI = """\
about: a test
seeds: [0]
points: 3
cap: at most one step
seconds: 1
corpora:
  posts: {data.corpus: probe, data.variant: default}
options: {data.limit: 24, trainer.max_epochs: 1}
plugins:
  bert: {}
  bilstm: {}
"""


def laid_out(folder: Path) -> Path:
    """Write `paper/table1`, `paper/sweep` and the profile `mini` into a new folder."""
    (folder / "paper").mkdir(parents=True)
    (folder / "profiles").mkdir()
    (folder / "paper" / "table1.yaml").write_text(TABLE)
    (folder / "paper" / "sweep.yaml").write_text(SWEEP)
    (folder / "paper" / "table1.csv").write_text(PRINTED)
    (folder / "profiles" / "mini.yaml").write_text(MINI)
    errata = "paper,location,as_printed,likely_correct,basis\npaper,Table 1 UMT,22,32,a slip\n"
    (folder / "errata.csv").write_text(errata)
    return folder


def task_of(name: str, command: tuple[str, ...], log: Path) -> Task:
    """A task that a test does by itself, by its command."""
    return Task(name, command, _never, log)


def _never() -> object:
    raise NotImplementedError


def built(folder: Path, *names: str, **given: Any) -> Grid:
    """The grid of some experiments of a folder; of all without names."""
    known = experiment_files.load_all(folder)
    profile = profiles.load(given.pop("profile", "mini"), folder)
    builder = Builder(profile, **given)
    builder.grid.chosen += names or known
    builder.add(known[name] for name in names or known)
    return builder.grid


def finish(command: Sequence[str], f1: float = 50.0) -> RunFolder:
    """Leave what a finished `mnerkit fit` with this command leaves, as far as a sweep looks at it."""
    words = list(command)

    def value(name: str) -> str | None:
        return words[words.index(name) + 1] if name in words else None

    plugin, name = str(value("--plugin")), str(value("--name"))
    corpus = "-".join(filter(None, (value("--data.corpus"), value("--data.variant"))))
    place = Path(str(value("--runs_dir"))) / plugin / corpus / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(f"plugin: {plugin}\n")
    (place / "best.ckpt").write_bytes(b"")
    (place / "relevance.jsonl").write_bytes(b"")  # what a run that needs this one reads
    found: dict[str, Any] = {"f1": f1, "precision": f1 / 2}
    content = {"protocol": {"corpus": "probe"}, "test": found, "dev": found, "seconds": {"train": 2.0}}
    (place / "metrics.json").write_text(json.dumps(content))
    return RunFolder(place)


class Pretend:
    """An executor that does runs in no time, and notes them; some fail, and it can be cut off."""

    jobs = 1

    def __init__(self, failing: Sequence[str] = (), stop_after: int | None = None) -> None:
        self.failing, self.stop_after = failing, stop_after
        self.done: list[str] = []

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        for task in tasks:
            if self.stop_after is not None and len(self.done) >= self.stop_after:
                raise KeyboardInterrupt
            command = task.command
            if any(word in command for word in self.failing):
                yield Outcome(task.name, 0.1, "mnerkit: no memory")
                continue
            if command[0] != "fit":  # a figure, say
                yield Outcome(task.name, 0.1)
                continue
            finish(command)
            self.done.append(task.name)
            yield Outcome(task.name, 0.1)


def within(seconds: float, ready: Callable[[], Any]) -> Any:
    """What `ready` says once that is true; it fails the test where that takes longer."""
    end = time.time() + seconds
    while time.time() < end:
        if found := ready():
            return found
        time.sleep(0.1)
    raise AssertionError("not in time")


def alive(pid: int) -> bool:
    """Whether a process goes on (Linux)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
