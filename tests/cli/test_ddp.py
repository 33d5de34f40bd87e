"""Two processes on a CPU do what one does."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder
from mnerkit.runs.trainer.continuation import WITHIN
from tests.cli.test_resume_within_epochs import ALWAYS, BERT, assert_same_result, folder

KEPT_TOWER = Path(__file__).resolve().parents[1] / "kept" / "towers" / "bert"
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


ONE = ["--trainer.devices", "1", "--trainer.strategy", "auto", "--trainer.enable_progress_bar", "false"]


Ranks = Callable[[Sequence[str]], None]


def by_lightning(command: Sequence[str]) -> None:
    """A command whose second rank Lightning starts."""
    words = [sys.executable, "-m", "mnerkit", *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def fitted(ranks: Ranks, tmp_path: Path, *argv: str) -> RunFolder:
    """A run of one epoch, trained and scored by two ranks."""
    command = ["fit", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--test"]
    ranks([*command, "--name", "two", "--runs_dir", str(tmp_path / "runs"), *argv, *TWO])
    (path,) = tmp_path.glob("runs/*/*/two")
    return RunFolder(path)


def scored_by_one(run: RunFolder) -> tuple[dict[str, Any], bytes]:
    """Figures and predictions of the test split, as this process alone computes them."""
    predictions = run.path / "predictions.test.jsonl"
    predictions.unlink()
    assert main(["test", "--ckpt_path", str(run.best), *ONE]) == 0
    return run.metrics()["test"], predictions.read_bytes()


@pytest.mark.parametrize("head", ["struct", "finetune"])
def test_two_ranks_tag_by_a_support_what_one_process_tags(head: str, tmp_path: Path, two_ranks: Ranks) -> None:
    few = ["--data.variant", "fewshot", "--data.limit", "120", "--data.dev_episodes", "5", "--data.eval_episodes", "7"]
    own = ["--model.head.steps", "3", "--model.head.scope", "all"] if head == "finetune" else []
    run = fitted(two_ranks, tmp_path, "--plugin", "bert", "--model.head", head, *own, *few)
    of_two = run.metrics()["test"], (run.path / "predictions.test.jsonl").read_bytes()
    assert len(of_two[1].splitlines()) == 7
    assert scored_by_one(run) == of_two


@pytest.mark.parametrize("plugin", ["bert", "mousing"])
def test_two_ranks_score_what_one_process_scores(plugin: str, tmp_path: Path, two_ranks: Ranks) -> None:
    few = ["--data.limit", "300", "--data.episodes_per_epoch", "8", "--data.dev_episodes", "9"]
    few += ["--data.eval_episodes", "11"]
    windows = ["--model.text", "tiny-bert", "--model.max_tokens", "12", "--model.long_posts", "windows"]
    own = few if plugin == "mousing" else ["--data.limit", "101", *windows]
    run = fitted(by_lightning if plugin == "bert" else two_ranks, tmp_path, "--plugin", plugin, *own)
    of_two = run.metrics()["test"], (run.path / "predictions.test.jsonl").read_bytes()
    assert len(of_two[1].splitlines()) == (11 if plugin == "mousing" else 101)
    if plugin == "bert":
        assert run.metrics()["truncation"]["test"]["long_posts"] > 50
        (run.path / "predictions.test.jsonl").unlink()
        two_ranks(["test", "--ckpt_path", str(run.best), *TWO, "--trainer.enable_progress_bar", "false"])
        assert (run.metrics()["test"], (run.path / "predictions.test.jsonl").read_bytes()) == of_two
    assert scored_by_one(run) == of_two


def test_two_ranks_lose_what_one_process_loses_over_two_batches(tmp_path: Path, two_ranks: Ranks) -> None:
    tower = tmp_path / "tower"
    shutil.copytree(KEPT_TOWER, tower)
    config = json.loads((tower / "config.json").read_text("utf-8"))
    off = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (tower / "config.json").write_text(json.dumps({**config, **off}), "utf-8")
    command = [
        "fit",
        "--plugin",
        "bert",
        "--model.text",
        f"random:{tower}",
        "--model.dropout",
        "0",
        "--trainer.max_epochs",
    ]
    command += ["3", "--data.limit", "64", "--data.batch_size", "8", "--runs_dir", str(tmp_path / "runs")]
    command += ["--trainer.enable_progress_bar", "false"]
    assert main([*command, "--name", "one", "--trainer.accumulate_grad_batches", "2"]) == 0
    two_ranks([*command, "--name", "two", *TWO])
    one, two = (_losses(tmp_path / "runs" / "bert" / "probe" / name) for name in ("one", "two"))
    assert len(one) == 3 and one[2] < one[1] < one[0]
    assert two == pytest.approx(one, rel=1e-5)


def _losses(run: Path) -> list[float]:
    """The training loss of each epoch."""
    with (run / "curve" / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]


@pytest.mark.filterwarnings("ignore")
def test_two_ranks_go_on_within_an_epoch(tmp_path: Path, two_ranks: Callable[..., None]) -> None:
    command = [*BERT, "--trainer.max_epochs", "2", *TWO, "--name", "a"]
    whole, cut = ([*command, "--runs_dir", str(tmp_path / place)] for place in ("whole", "cut"))
    two_ranks(whole)
    two_ranks([*cut, *ALWAYS], cut_after=4)  # of 3 steps an epoch
    content = torch.load(folder(tmp_path / "cut").last, weights_only=True)
    states = [rank["torch"] for rank in content[WITHIN]["ranks"]]
    assert content[WITHIN]["batches"] == 1 and len(states) == 2 and not torch.equal(*states)
    two_ranks(cut)
    assert_same_result(folder(tmp_path / "cut"), folder(tmp_path / "whole"))


def test_episodes_that_the_ranks_do_not_divide_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mnerkit", "fit", "--plugin", "mousing", "--runs_dir", str(tmp_path)]
    command += ["--data.episodes_per_epoch", "7", *TWO]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (1, 2)
    assert "episodes_per_epoch" in done.stderr and "Traceback" not in done.stderr
