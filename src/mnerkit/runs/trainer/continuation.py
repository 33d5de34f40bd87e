"""Going on with an interrupted training: its last checkpoint, also within an epoch, and its curve.

Lightning restores weights, optimiser, schedule, scores and counters. What it lacks within an epoch is kept here: which
batches are done, so that the sampler skips them; the random state of every rank; and the sums of the losses so far.
Order and content of batches depend on (seed, epoch) alone.
"""

from __future__ import annotations

import csv
import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from mnerkit.errors import CheckpointError, UsageError
from mnerkit.methods import checkpoint
from mnerkit.methods.finite_loss import of_all_ranks
from mnerkit.methods.method import Method
from mnerkit.printable import complain
from mnerkit.runs.run_folder import is_first_rank
from mnerkit.runs.trainer import slurm

WITHIN = "within_epoch"  # key of what a checkpoint holds that was written within an epoch
STEP = "training_step"


class CheckpointsWithinEpochs(lightning.Callback):
    """Writes `last.ckpt` within an epoch once some minutes have passed, and has a training go on from there.

    It is written after a step of the optimiser, except where dev is scored next: what a checkpoint holds is then out of
    step with Lightning's own counters. The clock starts with each epoch, since one is also written at its end. In a job
    of SLURM a single process also writes it before the job is requeued; several ranks get that signal at other steps.

    Args:
        path: of the checkpoint.
        minutes: after how many minutes another one is written; 0: never.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.seconds = path, minutes * 60 or float("inf")
        self._loaded: dict[str, Any] | None = None  # the checkpoint that the training goes on from, until it does
        self._max_steps: int | None = None
        self._writing = False
        self._start_clock()

    def _start_clock(self) -> None:
        self._since, self._from, self._look = time.monotonic(), 0, 0

    # ------------------------------------------------------------------ writing

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._start_clock()
        slurm.defer(trainer.world_size == 1)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Leave the signal to itself while dev is scored, which may take long."""
        slurm.defer(False)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the signal to itself."""
        slurm.defer(False)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is time."""
        done, every = batch_idx + 1, trainer.val_check_batch or float("inf")
        scored_next = done == trainer.num_training_batches or trainer.should_stop or done % every == 0
        if scored_next:  # a checkpoint of the whole epoch comes, or dev is scored within it
            slurm.defer(False)
            return
        slurm.defer(trainer.world_size == 1)  # again, after dev was scored within the epoch
        if done % trainer.accumulate_grad_batches or not (slurm.is_deferred() or self._is_time(trainer, done)):
            return
        self._writing = True
        try:
            trainer.save_checkpoint(self.path, weights_only=False)
        finally:
            self._writing = False
        slurm.defer(False)
        slurm.defer(trainer.world_size == 1)
        self._start_clock()

    def _is_time(self, trainer: lightning.Trainer, done: int) -> bool:
        """Whether it is time, by the clock of the first rank.

        The ranks agree in advance at which batch they look at it again, halfway at the pace so far, so that few steps
        wait for each other.
        """
        if done < self._look:
            return False
        if not self._look:
            self._from = done - 1
        passed = time.monotonic() - self._since
        ahead = (done - self._from) * min(1.0, (self.seconds - passed) / (2 * passed + 1e-9))
        time_has_come, self._look = trainer.strategy.broadcast((passed >= self.seconds, done + max(1, int(ahead))))
        return time_has_come

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not keep; called on every rank."""
        if self._writing:
            ranks = of_all_ranks(trainer, {**_random_state(trainer), "losses": _loss_sums(trainer)})
            checkpoint[WITHIN] = {"batches": trainer.fit_loop.batch_idx + 1, "ranks": ranks}

    # ------------------------------------------------------------------ going on

    def on_load_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take what `on_save_checkpoint` added.

        Raises:
            UsageError: the checkpoint was written within an epoch by another number of processes.
        """
        self._loaded = {WITHIN: checkpoint.get(WITHIN)}
        ranks = len(checkpoint[WITHIN]["ranks"]) if WITHIN in checkpoint else trainer.world_size
        if ranks != trainer.world_size:
            raise UsageError(
                f"{self.path} was written within an epoch by {ranks} processes, and this training has "
                f"{trainer.world_size}: go on with as many, or begin anew with --overwrite"
            )

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Hide the number of steps while Lightning restores its counters.

        With it Lightning takes a whole epoch for one that was interrupted, and does not begin the next one rightly.
        """
        if self._loaded is not None:
            self._max_steps, trainer.fit_loop.epoch_loop.max_steps = trainer.max_steps, -1

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Skip the batches that are done, and begin the epoch, which Lightning takes for begun."""
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None
        if self._loaded is None or self._loaded[WITHIN] is None:
            return
        loader: Any = trainer.train_dataloader
        loader.sampler.done = {trainer.current_epoch: self._loaded[WITHIN]["batches"]}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_train_epoch_start(trainer, pl_module)
        pl_module.on_train_epoch_start()
        pl_module.finite_losses.continued = True

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Restore random state and losses, just before the first step."""
        within, self._loaded = (self._loaded or {}).get(WITHIN), None
        if within is not None:
            state = within["ranks"][trainer.global_rank]
            _restore_losses(trainer, pl_module, state["losses"])
            _restore_random_state(trainer, state)


def _random_state(trainer: lightning.Trainer) -> dict[str, Any]:
    """The state of this process's generators, as tensors and numbers."""
    numpy: Any = np.random.get_state(legacy=False)
    _, numbers, own_normal = random.getstate()
    device = trainer.strategy.root_device
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": torch.tensor([*numpy["state"]["key"].tolist(), numpy["state"]["pos"]]),
        "numpy_normal": numpy["gauss"] if numpy["has_gauss"] else None,
        "python": torch.tensor(numbers),
        "python_normal": own_normal,
    }


def _restore_random_state(trainer: lightning.Trainer, state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    device = trainer.strategy.root_device
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    *keys, place = state["numpy"].tolist()
    normal = state["numpy_normal"]
    np.random.set_state(("MT19937", keys, place, int(normal is not None), normal or 0.0))
    random.setstate((3, tuple(state["python"].tolist()), state["python_normal"]))


def _loss_sums(trainer: lightning.Trainer) -> dict[str, dict[str, Any]]:
    """By name, what this rank's training steps have logged in the epoch so far: sum, number of posts, and how."""
    return {
        metric.meta.name: {
            "sum": float(metric.value),
            "posts": int(metric.cumulated_batch_size),
            "how": {name: bool(getattr(metric.meta, name)) for name in ("prog_bar", "logger", "on_step", "on_epoch")}
            | {"sync_dist": bool(metric.meta.sync.should)},
        }
        for metric in trainer.fit_loop.epoch_loop._results.values()
        if metric.meta.fx == STEP and metric.is_tensor and metric.meta.is_mean_reduction and not metric.has_reset
    }


def _restore_losses(trainer: lightning.Trainer, method: Method, losses: dict[str, dict[str, Any]]) -> None:
    """Have the means of the epoch begin with these sums."""
    method._current_fx_name = STEP  # else they would be means of this hook, beside those of the steps
    for name, logged in losses.items():
        method.log(name, torch.zeros((), device=method.device), batch_size=0, **logged["how"])
        metric = trainer.fit_loop.epoch_loop._results[f"{STEP}.{name}"]
        metric.value = metric.value + logged["sum"]
        metric.cumulated_batch_size = metric.cumulated_batch_size + logged["posts"]


def progress(last: Path) -> tuple[int, int] | None:
    """How many epochs and steps a checkpoint holds from which a run can go on; None without one.

    A damaged one is reported, and the run begins anew.
    """
    if not last.is_file():
        return None
    try:
        content = checkpoint.read(last)
    except CheckpointError as problem:
        if is_first_rank():
            complain(f"{problem}; the run begins anew")
        return None
    return int(content["epoch"]) + (WITHIN not in content), int(content.get("global_step", 0))


def carry_on(loggers: Iterable[Logger], done: tuple[int, int]) -> None:
    """Have the loggers of a run that goes on keep the rows of what is done; later ones come again.

    Lightning's logger of CSV begins anew and deletes what a former process wrote. Call this on the first rank, before
    anything is logged.

    Args:
        loggers: of the trainer; those of CSV and TensorBoard are meant.
        done: how many epochs and steps the checkpoint holds from which the run goes on.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger._kwargs["purge_step"] = done[1]  # TensorBoard hides what a former process wrote from there on
        if not isinstance(logger, CSVLogger):
            continue
        path = Path(logger.log_dir) / "metrics.csv"
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="\n") as file:
            rows = [row for row in csv.DictReader(file) if (_number(row.get("epoch")), _number(row.get("step"))) < done]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it deletes the file, and does
            writer = logger.experiment
        writer.metrics = rows
        writer.save()


def _number(text: str | None) -> float:
    """The epoch or step of a row; one that was cut off belongs to none that is done."""
    try:
        return int(text or "")
    except ValueError:
        return float("inf")
