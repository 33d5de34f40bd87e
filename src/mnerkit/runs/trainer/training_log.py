"""Scalars of a training for dashboards: learning rates, the norm of the gradient, seconds of training and scoring."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import CSVLogger


class TrainingLog(lightning.Callback):
    """Logs, to all loggers but that of CSV, whose rows are a run's curve.

    Learning rates and the gradient's norm (of all trained weights, before clipping) are logged every
    `--trainer.log_every_n_steps` steps, the first one included. Only then is the norm computed and read
    from the device.
    """

    def __init__(self) -> None:
        self._epoch_began = self._scoring_began = self._scored = 0.0

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Log rates and norm, if it is their turn."""
        every = getattr(trainer, "log_every_n_steps", 0)
        if not every or trainer.global_step % every or not trainer.is_global_zero:
            return
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        rates = {
            f"rate/{group.get('name', number)}": group["lr"] for number, group in enumerate(optimizer.param_groups)
        }
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.zeros(())
        self._log(trainer, {**rates, "gradient/norm": float(norm)})

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._epoch_began, self._scored = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock of scoring."""
        self._scoring_began = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop the clock of scoring."""
        self._scored += time.perf_counter() - self._scoring_began

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Log the times of the epoch."""
        whole = time.perf_counter() - self._epoch_began
        seconds = {"train": whole - self._scored, "dev": self._scored}
        self._log(trainer, {f"seconds/{part}": value for part, value in seconds.items()})

    def _log(self, trainer: lightning.Trainer, values: Mapping[str, float]) -> None:
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_metrics({**values, "epoch": trainer.current_epoch}, trainer.global_step)
