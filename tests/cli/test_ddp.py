"""Two processes on a CPU do what one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mnerkit.runs.run_folder import RunFolder

TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def fit(tmp_path: Path, name: str, *argv: str) -> RunFolder:
    command = [sys.executable, "-m", "mnerkit", "fit", "--name", name, "--runs_dir", str(tmp_path)]
    command += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(RunFolder(path.parent) for path in tmp_path.glob(f"*/*/{name}/metrics.json"))


def rescored(tmp_path: Path, run: RunFolder, *argv: str) -> dict:
    command = [
        sys.executable,
        "-m",
        "mnerkit",
        "test",
        "--ckpt_path",
        str(run.best),
        "--trainer.enable_progress_bar",
        "false",
        *argv,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return run.metrics()


@pytest.mark.parametrize("head", ["struct", "finetune"])
def test_two_ranks_tag_by_a_support_what_one_process_tags(head: str, tmp_path: Path) -> None:
    few = ["--data.variant", "fewshot", "--data.limit", "120", "--data.dev_episodes", "5", "--data.eval_episodes", "7"]
    own = ["--model.head.steps", "3", "--model.head.scope", "all"] if head == "finetune" else []
    run = fit(tmp_path, "two", "--plugin", "bert", "--model.head", head, *own, *few, *TWO)
    two = rescored(tmp_path, run, *TWO)
    said = (run.path / "predictions.test.jsonl").read_bytes()
    one = rescored(tmp_path, run, "--trainer.devices", "1", "--trainer.strategy", "auto")
    assert one["test"] == two["test"] and len(said.decode().strip().split("\n")) == 7
    assert (run.path / "predictions.test.jsonl").read_bytes() == said


@pytest.mark.parametrize("plugin", ["bert", "mousing"])
def test_two_ranks_score_what_one_process_scores(plugin: str, tmp_path: Path) -> None:
    few = [
        "--data.limit",
        "300",
        "--data.episodes_per_epoch",
        "8",
        "--data.dev_episodes",
        "9",
        "--data.eval_episodes",
        "11",
    ]
    plain = ["--data.limit", "101"]
    run = fit(tmp_path, "two", "--plugin", plugin, *(few if plugin == "mousing" else plain), *TWO)
    two = rescored(tmp_path, run, *TWO)
    said = (run.path / "predictions.test.jsonl").read_bytes()
    one = rescored(tmp_path, run, "--trainer.devices", "1", "--trainer.strategy", "auto")
    assert one["test"] == two["test"]
    assert (run.path / "predictions.test.jsonl").read_bytes() == said
    lines = said.decode().strip().split("\n")
    assert len(lines) == (11 if plugin == "mousing" else 101)


def test_episodes_that_the_ranks_do_not_divide_are_refused(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mnerkit",
        "fit",
        "--plugin",
        "mousing",
        "--runs_dir",
        str(tmp_path),
        "--data.episodes_per_epoch",
        "7",
    ]
    done = subprocess.run([*command, *TWO], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (1, 2)
    assert "episodes_per_epoch" in done.stderr and "Traceback" not in done.stderr
