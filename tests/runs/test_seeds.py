"""`mnerkit fit --seeds`: one configuration with several seeds, and the paired difference to a baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnerkit.cli import main
from mnerkit.runs.run import load_run
from mnerkit.scoring.intervals import mean_interval

QUICK = ["--data.limit", "48", "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]


def fit(plugin: str, runs: Path, *more: str) -> int:
    return main(["fit", "--plugin", plugin, *QUICK, "--runs_dir", str(runs), *more])


def test_seeds_are_trained_once_averaged_and_compared_with_a_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("bilstm", tmp_path, "--seeds", "3", "5", "--name", "one") == 0
    said = capsys.readouterr().out
    runs = [load_run(tmp_path / "bilstm" / "probe" / f"one-s{seed}") for seed in (3, 5)]
    assert [run.config["seed"] for run in runs] == [3, 5]
    scores = [run.metrics["dev"]["f1"] for run in runs]
    found = mean_interval(scores)
    row = next(line for line in said.splitlines()[::-1] if line.startswith("dev"))
    assert row.split()[1:4] == [f"{value:.2f}" for value in (*scores, found.mean)]
    before = [(run.path / "metrics.json").read_bytes() for run in runs]
    # the other seed of the baseline lies beside the one that is named; finished runs are not trained again
    argv = ["--seeds", "3", "5", "--name", "one", "--baseline", str(runs[0].path)]
    assert fit("bilstm", tmp_path, *argv) == 0
    said = capsys.readouterr().out
    assert said.count("already finished") == 2
    assert "B - A: +0.00" in said and f"{runs[0].path} and 1 more" in said.replace("\n", " ")
    assert [(run.path / "metrics.json").read_bytes() for run in runs] == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "0", "0"], "each only once"),
        (["--seeds", "a"], "whole numbers"),
        (["--seeds", "0", "--seed", "1"], "give one"),
        (["--baseline", "x"], "goes with --seeds"),
        (["--seeds", "0", "--baseline", "nowhere"], "no run nowhere"),
    ],
)
def test_a_mistake_about_seeds_ends_in_one_line(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("bilstm", tmp_path, *more) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(tmp_path.rglob("metrics.json"))
