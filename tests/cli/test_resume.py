"""A run that is killed continues to the figures of one that was left alone."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ranks import prepared

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder
from tests.cli import reported_fit

FIT = ["--plugin", "bert", "--data.limit", "120", "--data.batch_size", "8", "--trainer.max_epochs", "4"]
FIT += ["--model.lr", "5e-3", "--model.head.dropout", "0.2", "--trainer.enable_progress_bar", "false"]
SEED = int(os.environ.get("MNERKIT_KILL_SEED") or random.SystemRandom().randrange(10**6))
# nothing is learnt, so patience runs out after the second epoch of six
STUCK = ["--plugin", "bert", "--data.limit", "40", "--trainer.max_epochs", "6", "--early_stopping.patience", "1"]
STUCK += ["--model.lr", "1e-9", "--trainer.enable_progress_bar", "false"]


class Fit:
    """A training in a process of its own, in the run folder `runs/bert/probe/NAME`."""

    def __init__(self, runs: Path, name: str, options: list[str]) -> None:
        self.folder = RunFolder(runs / "bert" / "probe" / name)
        self.file = runs / f"{name}.steps"
        self.options = [*options, "--name", name, "--runs_dir", str(runs)]

    def steps(self) -> list[str]:
        """What it has begun, in order: training steps, scored batches, checkpoints ..."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    def begun(self, mode: str) -> Any:
        """The process of a training that begins."""
        process = prepared().Process(target=reported_fit.work, args=(self.file, mode, self.options))
        process.start()
        return process

    def to_its_end(self) -> list[str]:
        """Run, or continue; returns the steps of this process."""
        self.file.unlink(missing_ok=True)
        process = self.begun("go")
        process.join(timeout=300)
        assert process.exitcode == 0, self.file.with_suffix(".log").read_text()[-2000:]
        return self.steps()

    def killed(self, at: Callable[[list[str]], bool], delay: float = 0.0) -> list[str]:
        """Run until `at` holds of the steps, then `delay` seconds more, then kill -9; returns the steps until then."""
        self.file.unlink(missing_ok=True)
        process = self.begun("hold")
        until = time.monotonic() + 240
        while not at(self.steps()):
            assert process.exitcode is None, "the run ended before it could be killed"
            assert time.monotonic() < until, f"the run is stuck after {self.steps()[-1:]}"
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was alive until it was killed"
        assert not self.folder.finished
        return self.steps()


def dev_curve(run: RunFolder) -> list[tuple[str, str]]:
    """F1 of dev of each epoch, in the order of the file."""
    with (run.path / "curve" / "metrics.csv").open(newline="") as file:
        return [(row["epoch"], row["dev/f1"]) for row in csv.DictReader(file) if row["dev/f1"]]


def same_result(one: RunFolder, other: RunFolder) -> None:
    """Equal figures, curves of all epochs and byte-equal predictions; times may differ."""
    assert dev_curve(one) == dev_curve(other)
    found, wanted = one.metrics(), other.metrics()
    assert {**found, "seconds": None} == {**wanted, "seconds": None}
    assert (one.path / "predictions.dev.jsonl").read_bytes() == (other.path / "predictions.dev.jsonl").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[str]]:
    """A run that was left alone, and its steps."""
    fit = Fit(tmp_path_factory.mktemp("runs"), "whole", FIT)
    return fit.folder, fit.to_its_end()


# `make bench-resume` asks for ten
@pytest.mark.parametrize("moment", range(int(os.environ.get("MNERKIT_KILLS", "2"))))
def test_a_killed_run_resumes_to_the_same_result(
    undisturbed: tuple[RunFolder, list[str]], moment: int, tmp_path: Path
) -> None:
    whole, steps = undisturbed
    draw = random.Random(f"{SEED} {moment}")
    # the first moment comes after an epoch, so that there is something to continue from; others come at any time
    first = 1 + steps.index("save_checkpoint") if moment == 0 else 1
    number, delay = draw.randint(first, len(steps)), draw.uniform(0.0, 0.05)
    cut = Fit(tmp_path, "cut", [*FIT, "--checkpoint_minutes", "0.000001" if moment % 2 else "10"])
    until = cut.killed(lambda begun: len(begun) >= number, delay)
    resumed = cut.to_its_end()
    print(
        f"MNERKIT_KILL_SEED={SEED} moment {moment}: killed in {until[-1]}, step {len(until)} of {len(steps)},"
        f" after {until.count('training_step')} of {steps.count('training_step')} training steps;"
        f" {resumed.count('training_step')} after that"
    )
    if until.count("save_checkpoint") > 2:  # best and last of the first epoch were written
        assert resumed.count("training_step") < steps.count("training_step")
    if moment % 2:  # a checkpoint was written after each step
        assert resumed.count("training_step") <= steps.count("training_step") - until.count("training_step") + 1
    same_result(cut.folder, whole)


def test_a_run_killed_after_its_patience_ran_out_trains_no_further_epoch(tmp_path: Path) -> None:
    whole, cut = Fit(tmp_path, "whole", STUCK), Fit(tmp_path, "cut", STUCK)
    steps = whole.to_its_end()
    epochs = whole.folder.metrics()["epochs"]
    assert epochs == 2
    until = cut.killed(lambda begun: "score" in begun)
    assert until.count("training_step") == steps.count("training_step") > 0
    assert "training_step" not in cut.to_its_end()
    same_result(cut.folder, whole.folder)


def test_a_damaged_checkpoint_is_told_of_and_the_run_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--plugin", "bilstm", "--data.limit", "24", "--trainer.max_epochs", "1"]
    fit += ["--trainer.enable_progress_bar", "false", "--runs_dir", str(tmp_path), "--name", "a"]
    assert main(fit) == 0
    run = RunFolder(tmp_path / "bilstm" / "probe" / "a")
    before = run.metrics()
    assert not run.last.exists()
    run.metrics_file.unlink()
    run.last.write_bytes(b"garbage")
    capsys.readouterr()
    assert main([*fit, "--keep_last"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("mnerkit: ") and line.endswith("; the run begins anew")]
    assert {**run.metrics(), "seconds": None} == {**before, "seconds": None}
    assert run.last.exists()
    assert main(fit) == 0  # finished already; a kill may have come before the file went
    assert not run.last.exists()
