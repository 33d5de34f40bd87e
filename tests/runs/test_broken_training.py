"""Trainings that end another way than after their last epoch: a loss that is no number, a step or time limit."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mnerkit.cli import main
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.errors import TrainingError
from mnerkit.methods.finite_loss import FiniteLosses, StopAtBrokenLoss, broken_weights
from mnerkit.methods.method import Method
from mnerkit.methods.tagger import Tagger
from mnerkit.runs import build
from mnerkit.runs.identity import BEHAVIOUR, BEHAVIOUR_OF_STEPS, behaviours
from mnerkit.runs.run_folder import RunFolder

SMALL = ["--data.limit", "40", "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]


def fit(runs: Path, *options: str) -> int:
    return main(["fit", "--plugin", "bert", "--name", "r", "--runs_dir", str(runs), *SMALL, *options])


def folder_of(runs: Path) -> RunFolder:
    return RunFolder(runs / "bert" / "probe" / "r")


def dev_rows(folder: RunFolder) -> list[tuple[int, int]]:
    """Epoch and step of each dev score of the curve."""
    with (folder.path / "curve" / "metrics.csv").open(newline="") as file:
        return [(int(row["epoch"]), int(row["step"])) for row in csv.DictReader(file) if row["dev/f1"]]


def broken_from(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int, value: float, name: str = "head") -> None:
    """Make a loss `value` from a step of an epoch on."""
    losses_of = Tagger.losses_of

    def losses(self: Tagger, *inputs: Any) -> dict[str, torch.Tensor]:
        made = losses_of(self, *inputs)
        late = (self.current_epoch, self.trainer.fit_loop.batch_idx) >= (epoch, step)
        return {**made, name: made["head"] * value} if late else {**made, name: made["head"]}

    monkeypatch.setattr(Tagger, "losses_of", losses)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training_and_the_line_names_step_and_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    with monkeypatch.context() as patched:
        broken_from(patched, 1, 1, value)
        unclipped = ["--data.batch_size", "10", "--trainer.gradient_clip_val", "null"]
        assert fit(tmp_path, *unclipped) == 1
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and line.startswith("mnerkit: training stopped in epoch 1, step 1 (both from 0)")
        assert "the loss head is nan or infinite" in line and "--model.lr" in line
        assert "--trainer.gradient_clip_val 1" in line and "precision" not in line
        folder = folder_of(tmp_path)
        assert not folder.finished and folder.last.is_file() and dev_rows(folder) == [(0, 3)]
        assert fit(tmp_path, *unclipped) == 1  # goes on from the sound epoch, and breaks there again
        assert "epoch 1, step 1" in capsys.readouterr().err
    assert fit(tmp_path, *unclipped) == 0
    assert folder.finished and dev_rows(folder) == [(0, 3), (1, 7)]


def test_only_the_losses_that_broke_first_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_from(monkeypatch, 0, 0, float("nan"), name="other")
    options = ["--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1"]
    assert fit(tmp_path, *options) == 1
    line = capsys.readouterr().err
    assert "epoch 0, step 0 (both from 0): the loss other is nan" in line
    assert "--trainer.precision 32-true (now bf16-mixed)" in line and "clip" not in line


def test_weights_that_are_no_numbers_stop_training_though_the_losses_were_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # one step an epoch: its loss is of the weights before it
    assert fit(tmp_path, "--model.lr", "1e30", "--data.batch_size", "40", "--trainer.max_epochs", "3") == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "the losses were finite, but" in line and "(now 1e+30)" in line
    assert not folder_of(tmp_path).finished


def test_counting_costs_at_most_five_operations_a_step_and_no_read_of_the_host() -> None:
    class Counted(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.operations: Counter[str] = Counter()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.operations[str(func)] += 1
            return func(*args, **(kwargs or {}))

    losses, value = FiniteLosses(), torch.ones(3, requires_grad=True) * 2
    losses.count(["a", "b", "c"], value, 0)
    with Counted() as counted:
        losses.count(["a", "b", "c"], value, 1)
    assert 0 < counted.operations.total() <= 5
    assert not [name for name in counted.operations if "local_scalar" in name or "copy" in name]


def test_the_first_broken_step_is_found_over_losses_that_come_and_go() -> None:
    losses = FiniteLosses()
    nan, inf = float("nan"), float("inf")
    for step, values in enumerate([{"a": 1.0}, {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": inf}, {"a": nan}, {"a": 1.0}]):
        losses.count(list(values), torch.tensor(list(values.values())), step)
    assert losses.first_broken() == (2, ["b"])
    losses.clear()
    assert losses.first_broken() is None


def test_steps_that_a_gradient_scaler_skips_are_no_fault_unless_all_are_skipped() -> None:
    losses = FiniteLosses()
    losses.skips = True
    for step, value in enumerate([float("inf"), 1.0, float("inf")]):
        losses.count(["a"], torch.tensor([value]), step)
    assert losses.first_broken() is None
    losses.clear()
    losses.count(["a"], torch.tensor([float("inf")]), 0)
    assert losses.first_broken() == (0, ["a"])
    losses.continued = True  # those before it were sound
    assert losses.first_broken() is None


def test_broken_weights_are_those_that_are_trained_and_buffers_with_nan() -> None:
    first, norm, frozen = torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2)
    model = torch.nn.Sequential(first, norm, frozen.requires_grad_(False))
    frozen.weight.fill_(float("inf"))
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    assert broken_weights(model) == []
    with torch.no_grad():
        first.weight[1, 1] = float("inf")
        norm.running_mean = torch.tensor([0.0, float("nan")])
    assert broken_weights(model) == ["0.weight", "1.running_mean"]


def test_the_line_names_the_first_broken_step_of_any_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnerkit.methods.finite_loss.of_all_ranks", lambda *_: [(None, []), ((3, ["a"]), [])])
    trainer: Any = build.lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(TrainingError, match=r"step 3 \(both from 0\): the loss a is"):
        StopAtBrokenLoss()._check(trainer, Method())


@pytest.mark.parametrize(
    ("options", "scored"),
    [
        (["--trainer.max_steps", "2"], [(0, 1)]),
        (["--trainer.max_steps", "5"], [(0, 3), (1, 4)]),
        (["--trainer.max_steps", "2", "--trainer.min_epochs", "2"], [(1, 2)]),
        (["--trainer.val_check_interval", "00:01:00:00"], [(2, 8)]),
        (["--trainer.limit_train_batches", "1"], [(0, 0), (1, 1)]),
        (["--trainer.max_time", "00:00:00:00"], [(0, 0)]),
    ],
)
def test_dev_is_scored_at_the_end_whatever_ends_the_training(
    tmp_path: Path, options: list[str], scored: list[tuple[int, int]]
) -> None:
    assert fit(tmp_path, "--data.batch_size", "10", *options) == 0
    folder = folder_of(tmp_path)
    assert folder.finished and folder.best.is_file() and dev_rows(folder) == scored


def test_a_folder_that_a_step_limit_left_without_a_best_checkpoint_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data.batch_size", "10", "--trainer.max_steps", "2"]

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build._ScoreLastStep, "on_train_batch_end", lambda *_: None)
        patched.setattr(build.Assembly, "settle", die)
        assert fit(tmp_path, *options) == 130
    folder = folder_of(tmp_path)
    assert folder.last.is_file() and not folder.best.is_file() and not folder.finished
    assert fit(tmp_path, *options) == 0
    assert folder.finished and folder.best.is_file()


def test_no_training_batches_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--trainer.limit_train_batches", "0") == 2
    assert "--trainer.limit_train_batches 0" in capsys.readouterr().err
    assert not folder_of(tmp_path).path.exists()


def test_runs_with_a_number_of_steps_are_told_from_those_that_did_not_score_a_last_epoch_in_part() -> None:
    whole, cut = (
        configuration_of(["fit", "--plugin", "bert", *argv]).content for argv in ([], ["--trainer.max_steps", "5"])
    )
    assert (behaviours(whole)["core"], behaviours(cut)["core"]) == (BEHAVIOUR, BEHAVIOUR_OF_STEPS)
    assert BEHAVIOUR < BEHAVIOUR_OF_STEPS
