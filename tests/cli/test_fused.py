"""AdamW in one pass: the same sums as torch's own, for whole towers alone, and also in runs that go on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mnerkit.cli import fused, main
from mnerkit.runs import RunFolder
from mnerkit.tagging import checkpoint
from mnerkit.tagging.optimiser import adamw, parameter_groups

FIT = ["fit", "--plugin", "bert", "--data.limit", "24", "--data.batch_size", "8"]
FIT += ["--trainer.enable_progress_bar", "false"]


class Small(lightning.LightningModule):
    """A network with matrices and vectors, trained by mnerkit's AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        return (self.network(batch) - batch.sum(1, keepdim=True)).square().mean()

    def configure_optimizers(self) -> Any:
        groups = parameter_groups({"all": ([self.network], 1e-2)}, self, 0.01)
        optimiser, schedule = adamw(groups, "linear", 0.1, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def trained(
    module: Small, callbacks: list[lightning.Callback], epochs: int = 3, last: Path | None = None
) -> lightning.Trainer:
    """Train `module`, or go on from `last`."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    data = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(data, batch_size=4), ckpt_path=last, weights_only=True)  # type: ignore[arg-type]
    return trainer


def passes(trainer: lightning.Trainer) -> set[Any]:
    """What the groups of the optimiser say of fusing."""
    return {group["fused"] for group in trainer.optimizers[0].param_groups}


@pytest.mark.filterwarnings("ignore")
def test_one_pass_takes_the_steps_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain = Small()
    few, many = copy.deepcopy(plain), copy.deepcopy(plain)
    assert passes(trained(plain, [])) == {None}
    assert passes(trained(few, [fused.FusedAdamW()])) == {None}
    assert all(map(torch.equal, plain.parameters(), few.parameters())), "few weights: torch's own, to the bit"
    monkeypatch.setattr(fused, "MANY", 40)
    assert passes(trained(many, [fused.FusedAdamW()])) == {True}
    torch.testing.assert_close(list(many.parameters()), list(plain.parameters()), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_goes_on_takes_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    begun = Small()
    last = tmp_path / "last.ckpt"
    trained(begun, [], epochs=2).save_checkpoint(last)
    own, one = Small(), Small()
    trained(own, [], epochs=4, last=last)
    monkeypatch.setattr(fused, "MANY", 40)
    assert passes(trained(one, [fused.FusedAdamW()], epochs=4, last=last)) == {True}
    torch.testing.assert_close(list(one.parameters()), list(own.parameters()), rtol=1e-5, atol=1e-6)
    assert not any(map(torch.equal, one.parameters(), begun.parameters()))


def test_fit_takes_one_pass_for_many_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fused_groups(name: str) -> set[Any]:
        assert main([*FIT, "--trainer.max_epochs", "1", "--name", name, "--runs_dir", str(tmp_path)]) == 0
        kept = checkpoint.read(RunFolder(tmp_path / "bert" / "probe" / name).last)
        return {group["fused"] for group in kept["optimizer_states"][0]["param_groups"]}

    assert fused_groups("few") == {None}
    monkeypatch.setattr(fused, "MANY", 40)
    assert fused_groups("many") == {True}
