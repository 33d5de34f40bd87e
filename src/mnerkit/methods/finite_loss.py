"""Stops a training whose losses or weights are no longer numbers, in one line.

A training step only counts, on the device: four operations and no read of the host. The counts are read where training
waits anyway: before dev is scored, at the end of an epoch, and before a checkpoint is written. So no checkpoint ever
holds the weights of a broken epoch, and a run goes on from its last sound one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from mnerkit.errors import TrainingError


class FiniteLosses:
    """Counts, for each named loss of an epoch, the steps before it became nan or infinite.

    Attributes:
        skips: whether the gradient scaler of 16-bit floats skips steps that overflow. Such a step changes no weight, so
            that a loss is broken only if none of its steps is sound.
        continued: whether a former process has taken sound steps of the epoch.
    """

    def __init__(self) -> None:
        self.skips = self.continued = False
        self._counts: dict[tuple[str, ...], tuple[Tensor, Tensor, list[int]]] = {}

    def clear(self) -> None:
        """Forget all steps; called when an epoch begins."""
        self._counts.clear()
        self.continued = False

    @torch.no_grad()
    def count(self, names: Sequence[str], losses: Tensor, step: int) -> None:
        """Take in the losses of a step, without waiting for the device.

        Args:
            names: of the losses.
            losses: (N,) their values in that order.
            step: number of the batch in the epoch.
        """
        key = tuple(names)
        if key not in self._counts:
            zeros = losses.new_zeros(len(key), dtype=torch.float32)
            self._counts[key] = zeros, zeros.long(), []
        broken, sound, steps = self._counts[key]
        steps.append(step)
        difference = losses - losses  # (N,) 0 where finite, else nan
        if not self.skips:
            difference = broken.add_(difference)  # once nan, always nan
        sound.add_(difference == 0)

    def first_broken(self) -> tuple[int, list[str]] | None:
        """The first step of the epoch with a broken loss, and the losses that broke in it; None if all are sound."""
        found: dict[int, list[str]] = {}
        for names, (_, sound, steps) in self._counts.items():
            for name, count in zip(names, sound.tolist(), strict=True):
                if count < len(steps) and not (self.skips and (count or self.continued)):
                    found.setdefault(steps[count], []).append(name)
        return min(found.items()) if found else None


def broken_weights(model: nn.Module) -> list[str]:
    """Names of the trainable weights that hold nan or infinity, and of the buffers that hold nan."""
    checks = {name: torch.isfinite(weight).all() for name, weight in model.named_parameters() if weight.requires_grad}
    checks |= {name: ~buffer.isnan().any() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    if not checks:
        return []
    sound = torch.stack([check.to(next(iter(checks.values())).device) for check in checks.values()]).tolist()
    return [name for name, fine in zip(checks, sound, strict=True) if not fine]


class StopAtBrokenLoss(lightning.Callback):
    """Ends the training of a `Method`, on all ranks, once a loss or a weight is no number."""

    def __init__(self) -> None:
        self._checked: tuple[int, int] | None = None

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Begin to count."""
        precision = trainer.precision_plugin
        pl_module.finite_losses.skips = isinstance(precision, MixedPrecision) and precision.scaler is not None
        pl_module.finite_losses.clear()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Check before dev is scored: broken weights have no tags."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Check before a checkpoint is called best: callbacks that write checkpoints come last."""
        self._check(trainer, pl_module)

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Check before a checkpoint from which training can go on is written."""
        if trainer.state.fn == "fit":
            self._check(trainer, pl_module)

    def _check(self, trainer: lightning.Trainer, method: Any) -> None:
        """Stop if anything is broken; the same weights are checked once.

        Raises:
            TrainingError: a loss or a weight is nan or infinite, on whatever rank.
        """
        now = (trainer.current_epoch, trainer.fit_loop.total_batch_idx)
        if self._checked == now:
            return
        self._checked = now
        step = method.finite_losses.first_broken()
        weights = [] if step else broken_weights(method)
        faults = [fault for fault in of_all_ranks(trainer, (step, weights)) if any(fault)]
        if not faults:
            return
        steps = [broken for broken, _ in faults if broken]
        raise TrainingError(_message(trainer, method, min(steps) if steps else None, faults[0][1]))


def of_all_ranks(trainer: lightning.Trainer, value: Any) -> list[Any]:
    """What each rank has, in their order."""
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _message(
    trainer: lightning.Trainer, method: Any, step: tuple[int, list[str]] | None, weights: Sequence[str]
) -> str:
    """What broke, where, and what to try."""
    if step:
        names = step[1]
        what = f"the loss {names[0]} is" if len(names) == 1 else f"the losses {', '.join(names)} are"
        where = f"epoch {trainer.current_epoch}, step {step[0]} (both from 0)"
    else:
        what = f"{weights[0]}{f' and {len(weights) - 1} other weights' if weights[1:] else ''}"
        what = f"the losses were finite, but {what} {'are' if weights[1:] else 'is'}"
        where = f"epoch {trainer.current_epoch} (from 0)"
    rate = getattr(method.options, "lr", None)
    tries = [f"a lower --model.lr{'' if rate is None else f' (now {rate:g})'}"]
    if not trainer.gradient_clip_val:
        tries.append("--trainer.gradient_clip_val 1")
    if "16" in str(trainer.precision):
        tries.append(f"--trainer.precision 32-true (now {trainer.precision})")
    way = f"{', '.join(tries[:-1])} or {tries[-1]}" if tries[1:] else tries[0]
    return f"training stopped in {where}: {what} nan or infinite; the run is not finished. Try {way}"
