"""Runs on frozen episodes: what any number of workers and ranks predict, and files that change under a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder

EPISODES = ["--limit", "200", "--variant", "fewshot", "--train-types", "PER+LOC+ORG+MISC", "--test-types"]
EPISODES += ["VEH+ANI+FOOD+MUS"]
FIT = [
    "fit",
    "--plugin",
    "mousing",
    "--data.limit",
    "200",
    "--data.episodes_per_epoch",
    "4",
    "--data.dev_episodes",
    "3",
]
FIT += ["--data.eval_episodes", "9", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def freeze(out: Path, split: str, count: int, *argv: str) -> Path:
    more = ["--split", split, "--episodes", str(count), "--out", str(out), "--overwrite", *argv]
    assert main(["data", "episodes", "probe", *EPISODES, *more]) == 0
    return out


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    runs = tmp_path_factory.mktemp("runs")
    assert main([*FIT, "--test", "--name", "drawn", "--runs_dir", str(runs)]) == 0
    return RunFolder(runs / "mousing" / "probe-fewshot" / "drawn")


def test_a_few_shot_run_reports_both_f1s_with_intervals(drawn: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = drawn.metrics()["test"]
    assert found["f1_low"] <= found["f1"] <= found["f1_high"] and found["episodes"] == 9
    assert found["f1_episode_low"] <= found["f1_episode"] <= found["f1_episode_high"]
    rows = [json.loads(line) for line in (drawn.path / "predictions.test.jsonl").read_text().strip().split("\n")]
    assert all(len(row["support"]) == 5 and row["id"] not in row["support"] for row in rows)
    assert main([*FIT, "--test", "--name", "drawn", "--runs_dir", str(drawn.path.parents[2])]) == 0
    assert "test, 9 episodes: F1" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [[], ["--data.workers", "2"], TWO], ids=["alone", "two workers", "two ranks"])
def test_replayed_episodes_give_the_predictions_of_drawn_ones(
    drawn: RunFolder, tmp_path: Path, extra: list[str], two_ranks: Callable[[Sequence[str]], None]
) -> None:
    file = freeze(tmp_path / "test.jsonl", "test", 9)
    before = set(drawn.path.iterdir())
    argv = ["test", "--ckpt_path", str(drawn.best), "--data.episode_file", str(file), *extra]
    argv += ["--trainer.enable_progress_bar", "false"]
    if extra == TWO:
        two_ranks(argv)
    else:
        assert main(argv) == 0
    (said,) = set(drawn.path.iterdir()) - before
    assert said.read_bytes() == (drawn.path / "predictions.test.jsonl").read_bytes()
    key = said.name.removeprefix("predictions.").removesuffix(".jsonl")
    assert drawn.metrics()[key] == drawn.metrics()["test"]


def test_a_run_is_not_continued_or_scored_with_a_changed_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # `freeze` draws as the run does, so this run meets the episodes of any other one
    files = [freeze(tmp_path / f"{split}.jsonl", split, 4) for split in ("dev", "test")]
    given = [*FIT, "--data.episode_file", ",".join(map(str, files)), "--name", "kept", "--runs_dir", str(tmp_path)]
    assert main(given) == 0
    run = RunFolder(tmp_path / "mousing" / "probe-fewshot" / "kept")
    assert run.metrics()["protocol"]["queries"] == {"dev": 4, "test": 4}
    assert len(run.config()["data"]["episode_digest"].split(",")) == 2
    freeze(files[1], "test", 4, "--seed", "5")
    capsys.readouterr()
    assert main(given) == 2
    assert "another configuration" in capsys.readouterr().err
    assert main(["test", "--ckpt_path", str(run.best)]) == 1
    assert "another content than the run was started with" in capsys.readouterr().err
    # said anew, they are other files
    assert main(["test", "--ckpt_path", str(run.best), "--data.episode_file", str(files[1])]) == 0
