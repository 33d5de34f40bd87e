"""Options of the Trainer that can't be meant end in a line before training, and leave no run behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mnerkit import cli
from mnerkit.cli import main
from mnerkit.errors import DataError, MnerkitError, TrainingError
from mnerkit.methods.tagger import Tagger
from mnerkit.runs.trainer import trainer_refusals


def fit(runs: Path, *options: str) -> int:
    command = ["fit", "--plugin", "bilstm", "--runs_dir", str(runs), "--name", "r", "--data.limit", "40"]
    return main([*command, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", *options])


@pytest.mark.parametrize(
    ("option", "value", "rest"),
    [
        ("val_check_interval", "3", "an epoch has 2 batches; give at most 2, or a share of an epoch (0.5: twice"),
        ("limit_train_batches", "0.001", "an epoch has 2 batches, so none would be left; give a number of batches, or"),
        ("limit_val_batches", "0.001", "dev has 1 batch, so none would be left; give a number of batches, or a share"),
        ("limit_predict_batches", "0.001", "dev has 1 batch, so none would be left; give a number of batches, or a"),
        ("val_check_interval", "0", "give"),
        ("accumulate_grad_batches", "0", "give at least 1"),
        ("precision", "bf16-true", "Lightning can't convert a batch of mnerkit's; give 32-true, bf16-mixed or"),
    ],
)
def test_an_option_that_leaves_nothing_to_do_is_refused_with_a_way_out(
    option: str, value: str, rest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, f"--trainer.{option}", value) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mnerkit: --trainer.{option} {value}: {rest}") and error.count("\n") == 1
    assert not list(tmp_path.rglob("config.yaml"))


def test_what_the_line_advises_is_taken(tmp_path: Path) -> None:
    advised = ["--trainer.val_check_interval", "2", "--trainer.limit_train_batches", "1.0"]
    assert fit(tmp_path, *advised, "--trainer.limit_predict_batches", "1.0", "--trainer.limit_val_batches", "1.0") == 0
    checkpoint = str(tmp_path / "bilstm" / "probe" / "r" / "best.ckpt")
    assert main(["validate", "--ckpt_path", checkpoint, "--trainer.limit_predict_batches", "0.001"]) == 2


def test_whatever_lightning_refuses_at_the_start_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_refusals, "check_batches", lambda *_: None)
    assert fit(tmp_path, "--trainer.val_check_interval", "3") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mnerkit: --trainer.val_check_interval 3: `val_check_interval` (3) must be less than")
    assert fit(tmp_path, "--trainer.limit_val_batches", "0.001") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mnerkit: --trainer.limit_val_batches 0.001: You requested to check 0.001")
    assert not list(tmp_path.rglob("config.yaml"))


def wrong(problem: Exception) -> Callable[..., Any]:
    def step(*_: Any) -> None:
        raise problem

    return step


@pytest.mark.parametrize("problem", [MisconfigurationException("of a method"), ValueError("of a method")])
def test_a_mistake_of_a_method_keeps_its_traceback(
    problem: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tagger, "training_step", wrong(problem))
    with pytest.raises(type(problem), match="of a method"):
        fit(tmp_path)


@pytest.mark.parametrize(("error", "lines"), [(TrainingError("nan"), 0), (DataError("no file"), 1)])
def test_what_all_ranks_raise_the_first_one_reports(
    error: MnerkitError, lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_run", wrong(error))
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == f"mnerkit: {error}\n"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["fit"]) == 1
    assert capsys.readouterr().err.count("\n") == lines
