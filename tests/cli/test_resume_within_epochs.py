"""A training that is cut within an epoch goes on from there to the figures of one that was left alone."""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mnerkit.cli import main
from mnerkit.errors import UsageError
from mnerkit.runs.run_folder import Place, RunFolder
from mnerkit.runs.trainer.continuation import WITHIN, CheckpointsWithinEpochs, _random_state, _restore_random_state
from mnerkit.towers.interface import Encoder
from tests.cli.cut import steps_of

ALWAYS = ["--checkpoint_minutes", "0.000001"]
QUIET = ["--trainer.enable_progress_bar", "false"]
POSTS = ["--data.limit", "40", "--data.batch_size", "8", "--model.lr", "5e-3"]
TINY = ["fit", "--plugin", "bert", *POSTS, *QUIET]
BERT = [*TINY, "--model.head.dropout", "0.2"]
EPISODES = ["--model.head", "prototype", "--data.episodes_per_epoch", "6", "--data.dev_episodes", "5"]
EPOCHS = ["--trainer.max_epochs", "2"]
# by name: the command, and the training batches of an epoch
COMMANDS = {
    "posts, workers": ([*BERT, *EPOCHS, "--trainer.accumulate_grad_batches", "2", "--data.workers", "1"], 5),
    "steps": ([*BERT, "--trainer.max_steps", "9", "--trainer.val_check_interval", "0.5"], 5),
    "episodes": ([*TINY, *EPOCHS, *EPISODES, "--data.limit", "100"], 6),
}


def folder(runs: Path) -> RunFolder:
    """The only run below a folder."""
    (path,) = runs.glob("*/*/*")
    return RunFolder(path)


def assert_same_result(one: RunFolder, other: RunFolder) -> None:
    """Equal figures, and byte-equal losses, dev scores and predictions."""
    assert {**one.metrics(), "seconds": None} == {**other.metrics(), "seconds": None}
    for file in ("curve/metrics.csv", "predictions.dev.jsonl"):
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes()
    weights = [torch.load(run.best, weights_only=True)["state_dict"] for run in (one, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_training_goes_on_within_an_epoch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    command, batches = COMMANDS[name]
    whole, cut = ([*command, "--runs_dir", str(tmp_path / place), "--name", "a"] for place in ("whole", "cut"))
    steps = steps_of([*whole, "--checkpoint_minutes", "0"])
    after = random.SystemRandom().randrange(2, steps)
    steps_of([*cut, *ALWAYS], cut_after=after)
    begun = list[int]()
    monkeypatch.setattr(Encoder, "begin_epoch", lambda _, epoch: begun.append(epoch))
    left = steps_of([*cut, *ALWAYS])
    # one more where dev is scored next, or a step of the optimiser takes another batch
    assert left - (steps - after) in (0, 1), f"cut after {after}"
    assert begun == [1, 2][after // batches :]
    assert not [warning for warning in recwarn if "resum" in str(warning.message)]
    assert_same_result(folder(tmp_path / "cut"), folder(tmp_path / "whole"))


def test_all_generators_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    device, on_device = torch.device("cuda", 1), {"state": torch.tensor([1, 2], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda where: on_device["state"] if where == device else None)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, where: on_device.update({"state": state, "at": where})
    )
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=device))

    def draws() -> list[float]:
        return [random.random(), random.gauss(), np.random.normal(), np.random.random(), float(torch.rand(()))]

    draws()  # both normal generators now hold the second of two numbers
    state = _random_state(trainer)
    before = draws()
    on_device["state"] = torch.zeros(2, dtype=torch.uint8)
    assert draws() != before
    _restore_random_state(trainer, state)
    assert draws() == before
    assert on_device["state"].tolist() == [1, 2] and on_device["at"] == device


class Paced:
    """As much of a Trainer as the callback needs here, of three ranks."""

    world_size = 3

    def __init__(self) -> None:
        self.strategy, self.looks = self, 0

    def broadcast(self, value: Any) -> Any:
        self.looks += 1
        return value


def test_ranks_seldom_look_at_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    callback, trainer = CheckpointsWithinEpochs(tmp_path / "last.ckpt", 10), Paced()
    for done in range(1, 10_000):
        now += 0.25
        if callback._is_time(trainer, done):  # type: ignore[arg-type]
            break
    assert 2400 <= done <= 2402 and trainer.looks < 40  # 600 seconds


def test_another_number_of_ranks_is_refused(tmp_path: Path) -> None:
    callback = CheckpointsWithinEpochs(tmp_path / "last.ckpt", 10)
    with pytest.raises(UsageError, match="within an epoch by 2 processes, and this training has 3: go on with as many"):
        callback.on_load_checkpoint(Paced(), None, {WITHIN: {"ranks": [{}, {}]}})  # type: ignore[arg-type]
    callback.on_load_checkpoint(Paced(), None, {})  # type: ignore[arg-type]


def test_minutes_are_a_number_from_0_on(capsys: pytest.CaptureFixture[str]) -> None:
    for minutes in ("-1", "nan", "inf", "soon", "9" * 5000):
        assert main(["fit", "--plugin", "bert", f"--checkpoint_minutes={minutes}"]) == 2
        error = capsys.readouterr().err
        assert error == f"mnerkit: --checkpoint_minutes {minutes[:20]}: give a number of minutes; 0 turns it off\n"
    with pytest.raises(UsageError, match="--checkpoint_minutes None"):
        Place(checkpoint_minutes=None)  # type: ignore[arg-type]
