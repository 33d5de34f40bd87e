"""Progress of training and scoring: a bar in a terminal, and one line an epoch where the output is no terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar

from mnerkit.printable import show


def progress_callback() -> lightning.Callback:
    """What shows progress on standard error."""
    return EpochBar() if sys.stderr.isatty() else EpochLines()


def epoch_name(trainer: lightning.Trainer) -> str:
    """The epoch, counted from 1: `epoch 3 of 10`; `epoch 3` where training has no last epoch."""
    limit = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f" of {limit}" if limit is not None and limit > 0 else "")


def pass_name(method: lightning.LightningModule) -> str:
    """The pass over posts that are scored: `scoring dev, shuffled pictures`."""
    return f"scoring {getattr(method, 'scored_pass', '') or 'posts'}"


class EpochBar(TQDMProgressBar):
    """Lightning's bar, with epochs counted from 1 and passes of scoring named."""

    _pass_name = "scoring posts"

    @property
    def validation_description(self) -> str:
        """Name of the pass over dev after each epoch."""
        return "scoring dev"

    @property
    def predict_description(self) -> str:
        """Name of the pass that is running."""
        return self._pass_name

    def on_train_epoch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        """Begin the bar of an epoch."""
        super().on_train_epoch_start(trainer, *rest)
        self.train_progress_bar.set_description(epoch_name(trainer))

    def on_validation_batch_start(self, trainer: lightning.Trainer, *rest: Any, **named: Any) -> None:
        """Go on with the bar of dev, whose name stays."""
        super().on_validation_batch_start(trainer, *rest, **named)
        self.val_progress_bar.set_description(self.validation_description)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the bar of a pass."""
        self._pass_name = pass_name(pl_module)
        super().on_predict_start(trainer, pl_module)

    def on_predict_batch_start(self, trainer: lightning.Trainer, *rest: Any, **named: Any) -> None:
        """Go on with the bar of a pass, whose name stays."""
        super().on_predict_batch_start(trainer, *rest, **named)
        self.predict_progress_bar.set_description(self._pass_name)

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """What stands beside the bar: the last score of dev, no version of a logger."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class EpochLines(lightning.Callback):
    """A line for each epoch with its loss, the score of dev and its seconds, and one for each pass of scoring."""

    def __init__(self) -> None:
        self._began = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Look at the clock."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the line of an epoch."""
        logged, monitor = trainer.callback_metrics, getattr(pl_module, "monitor", "")
        parts = [f"loss {float(logged['train/loss']):.4g}"] if "train/loss" in logged else []
        if monitor in logged:
            score = float(logged[monitor])
            parts.append(f"{monitor} {score:.2f}" + (" (best so far)" if score > _best(trainer) else ""))
        parts.append(f"{time.monotonic() - self._began:.1f} s")
        _print(trainer, f"{epoch_name(trainer)}: {', '.join(parts)}")

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the name of a pass."""
        _print(trainer, pass_name(pl_module))


def _best(trainer: lightning.Trainer) -> float:
    """The best score of dev in earlier epochs; checkpoints are written after callbacks like these have run."""
    scores = [each.best_model_score for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    return max((float(score) for score in scores if score is not None), default=float("-inf"))


def _print(trainer: lightning.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        show(line, to=sys.stderr)
