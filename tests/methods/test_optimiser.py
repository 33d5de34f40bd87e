"""AdamW in one pass: the same sums as torch's own, for whole towers alone, and also in runs that go on."""

from __future__ import annotations

import copy
import types
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from written_out_steps import adamw, linear_from_zero, three_steps

from mnerkit.cli import main
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods import checkpoint, optimiser
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.optimiser import bert_adam, parameter_groups
from mnerkit.runs.run_folder import RunFolder

FIT = ["fit", "--plugin", "bert", "--data.limit", "24", "--data.batch_size", "8"]
FIT += ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1"]


class Small(lightning.LightningModule):
    """A network of 49 weights, in matrices and vectors, trained by mnerkit's AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def training_step(self, batch: Tensor, _index: int) -> Tensor:
        return (self.network(batch) - batch.sum(1, keepdim=True)).square().mean()

    def configure_optimizers(self) -> Any:
        groups = optimiser.parameter_groups({"all": ([self.network], 1e-2)}, self, 0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        adamw, schedule = optimiser.adamw(groups, "linear", 0.1, steps)
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def trained(module: Small, epochs: int = 3, last: Path | None = None, **options: Any) -> lightning.Trainer:
    """Train `module`, or go on from `last`."""
    trainer = lightning.Trainer(
        accelerator=options.pop("accelerator", "cpu"),
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        **options,
    )
    data = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(data, batch_size=4), ckpt_path=last, weights_only=True)  # type: ignore[arg-type]
    return trainer


def passes(trainer: lightning.Trainer) -> set[Any]:
    """What the groups of the optimiser say of fusing."""
    return {group["fused"] for group in trainer.optimizers[0].param_groups}


def fuse_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few weights be as many as those of a tower."""
    monkeypatch.setattr(optimiser, "FUSED", 49)


@pytest.mark.filterwarnings("ignore")
def test_one_pass_takes_the_steps_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    few = Small()
    many, mixed = copy.deepcopy(few), copy.deepcopy(few)
    assert passes(trained(few)) == {None}
    fuse_all(monkeypatch)
    assert passes(trained(many)) == {True}
    torch.testing.assert_close(list(many.parameters()), list(few.parameters()), rtol=1e-5, atol=1e-6)
    # Lightning refuses to clip what an optimiser made with `fused=True` steps in mixed precision
    assert passes(trained(mixed, precision="bf16-mixed")) == {True}
    torch.testing.assert_close(list(mixed.parameters()), list(few.parameters()), rtol=0.2, atol=0.05)


def test_one_pass_is_taken_on_cuda_always_and_on_a_cpu_for_whole_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(*devices: str) -> bool:
        weights = [types.SimpleNamespace(device=torch.device(device), numel=lambda: 30) for device in devices]
        return optimiser.takes_fused_step(weights)  # type: ignore[arg-type]

    assert takes("cuda:0") and takes("cuda:0", "cuda:1") and not takes("cuda:0", "cpu")
    assert not takes("cpu", "cpu") and not takes("mps") and not takes()
    fuse_all(monkeypatch)
    assert takes("cpu", "cpu") and not takes("cpu") and not takes("cuda:0", "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore")
def test_one_pass_on_a_gpu_takes_the_steps_of_many_on_the_cpu() -> None:
    torch.manual_seed(0)
    few = Small()
    many, mixed = copy.deepcopy(few), copy.deepcopy(few)
    trained(few)
    for module, options in ((many, {}), (mixed, {"precision": "16-mixed"})):  # 16-mixed: with clipping
        assert passes(trained(module, **{"accelerator": "gpu", "devices": 1, **options})) == {True}
    torch.testing.assert_close(list(many.cpu().parameters()), list(few.parameters()), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_goes_on_steps_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    begun, whole, half = Small(), Small(), Small()
    half.load_state_dict(begun.state_dict())
    whole.load_state_dict(begun.state_dict())
    last = tmp_path / "last.ckpt"
    fuse_all(monkeypatch)
    trained(whole, epochs=4)

    class Stop(lightning.Callback):
        def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    trained(half, epochs=4, callbacks=[Stop()]).save_checkpoint(last)
    again = Small()
    assert passes(trained(again, epochs=4, last=last)) == {True}
    assert all(map(torch.equal, again.parameters(), whole.parameters()))
    assert not any(map(torch.equal, half.parameters(), whole.parameters()))


def test_fit_takes_one_pass_for_many_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(name: str) -> set[Any]:
        assert main([*FIT, "--keep_last", "--name", name, "--runs_dir", str(tmp_path)]) == 0
        kept = checkpoint.read(RunFolder(tmp_path / "bert" / "probe" / name).last)
        return {group["fused"] for group in kept["optimizer_states"][0]["param_groups"]}

    assert fused("few") == {None}
    fuse_all(monkeypatch)
    assert fused("many") == {True}


def test_berts_first_adam_takes_the_steps_of_its_formula() -> None:
    """Three steps of a matrix, a bias, a norm and a vector that is none, against the formula, written out."""

    class Parts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)
            self.start_transitions = torch.nn.Parameter(torch.ones(2))

    torch.manual_seed(0)
    model = Parts()
    groups = parameter_groups({"all": ([model], 0.1)}, model, 0.01, "all_but_bias")
    optimiser, schedule = bert_adam(groups, warmup=0.25, total_steps=8)
    weights = {name: each.detach().clone() for name, each in model.named_parameters()}
    mean = {name: torch.zeros_like(each) for name, each in weights.items()}
    square = {name: torch.zeros_like(each) for name, each in weights.items()}
    for rate in (0.0, 0.1 * 0.5, 0.1 * 0.75):  # warm-up to share 1/4, then 1 - share
        assert optimiser.param_groups[0]["lr"] == pytest.approx(rate)
        for name, each in model.named_parameters():
            each.grad = torch.randn_like(each) * 3
            gradient = each.grad * min(1.0, 1 / (float(each.grad.norm()) + 1e-6))
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.999 * square[name] + 0.001 * gradient**2
            step = mean[name] / (square[name].sqrt() + 1e-6)
            if name in ("linear.weight", "start_transitions"):
                step = step + 0.01 * weights[name]
            weights[name] = weights[name] - rate * step
        optimiser.step()
        schedule.step()
        for name, each in model.named_parameters():
            torch.testing.assert_close(each.detach(), weights[name], rtol=1e-5, atol=1e-6)
    assert [bert_adam_rate(share) for share in (0.125, 0.25, 0.5, 1.0)] == pytest.approx([0.5, 0.75, 0.5, 0.0])


def bert_adam_rate(share: float) -> float:
    """The factor of the learning rate at a share of 8 steps with a warm-up over a quarter."""
    weight = torch.nn.Parameter(torch.ones(1))
    _, schedule = bert_adam([{"params": [weight], "lr": 1.0, "weight_decay": 0.0}], 0.25, 8)
    return schedule.lr_lambdas[0](round(8 * share))


def test_three_steps_of_structshots_first_stage_are_those_of_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW at one rate, falling from the first step on, without decay, gradients clipped to 1, written out."""
    from mnerkit_plugins.bert.tagger import BertTagger

    lr, steps = 3e-3, 8
    made = BertTagger(
        head=load_head_class("struct")(), text="tiny-bert", dropout=0.0, lr=lr, head_lr=lr, weight_decay=0.0,
        warmup=0.0, schedule="linear_from_zero",
    )  # fmt: skip
    posts = [
        Post("0", ("Ann", "sees", "Rome"), ("B-PER", "O", "B-LOC")),
        Post("1", ("Bo", "Li", "left"), ("B-PER", "I-PER", "O")),
    ]
    facts = CorpusFacts.of(("LOC", "PER"), posts)
    torch.manual_seed(0)
    made.build(facts)
    batch = Collator(made.eval().needs(), None, TagSet(facts.types))(posts)
    update = adamw(lambda step, _: lr * linear_from_zero(step, steps, 0.0), lambda _: 0.0)
    weights = three_steps(made, batch, steps, update, monkeypatch, clip=1.0)
    for name, weight in weights.items():
        if not name.endswith("key.bias"):  # it moves no softmax, so its gradients are rounding
            torch.testing.assert_close(made.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name)
