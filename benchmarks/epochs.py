"""Seconds of an epoch of training, Trainer included."""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback

from mnerkit.data.datamodule import MnerData
from mnerkit.methods.method import Method


class _Clock(Callback):
    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds: list[float] = []
        self.clock = clock

    def on_train_epoch_start(self, *_: object) -> None:
        self.started = self.clock()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds.append(self.clock() - self.started)


def epoch_seconds(
    method: Method, data: MnerData, epochs: int = 1, clock: Callable[[], float] = time.perf_counter, **options: Any
) -> list[float]:
    """Train on the CPU and score nothing; seconds of each epoch.

    Args:
        method: what is trained.
        data: with what.
        epochs: how many.
        clock: what tells the seconds; `time.process_time` is disturbed less by other work on the machine.
        options: the Trainer's.
    """
    measured = _Clock(clock)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[measured],
        **options,
    )
    trainer.fit(method, data)
    return measured.seconds
