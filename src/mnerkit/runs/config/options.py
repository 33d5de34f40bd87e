"""Options of training, of stopping early and of Weights & Biases. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mnerkit.data.options import DataOptions
from mnerkit.errors import UsageError
from mnerkit.options import COUNT, POSITIVE, WEIGHT, Options, Range, option

Precision = Literal[
    64, 32, 16, "transformer-engine", "transformer-engine-float16", "16-true", "16-mixed", "bf16-true", "bf16-mixed",
    "32-true", "64-true", "64", "32", "16", "bf16",
]  # fmt: skip


# precisions for which Lightning converts the input, and refuses the frozen dataclass that a batch is
NO_BATCHES = ("64", "64-true", "16-true", "bf16-true")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions(Options):
    """Lightning's Trainer, without what mnerkit sets itself (run folder, loggers, callbacks, sampler).

    A test holds names and defaults to Lightning's signature, but for the two that the text of an option names, and for
    `matmul_precision`, which is torch's.
    """

    section: ClassVar[str] = "trainer"

    accelerator: str = option("auto", "cpu, gpu, tpu, mps or auto")
    strategy: str = option("auto", "how several devices share the work: auto, ddp, ...")
    devices: list[int] | str | int = option("auto", "number of devices, their indices, -1 for all, or auto")
    num_nodes: int = option(1, "number of nodes", COUNT)
    precision: Precision | None = option(None, "32-true, 16-mixed, bf16-mixed, ...")
    matmul_precision: Literal["highest", "high"] = option(
        "highest",
        "how a GPU multiplies float32 matrices; high: in TF32, several times as fast, with 10 of the factors' 23 bits",
        since=("0.1.0", "highest"),
    )
    fast_dev_run: int | bool = option(False, "not of use here: it keeps no checkpoint")
    max_epochs: int | None = option(None, "stop after this many epochs; -1: never", Range(-1))
    min_epochs: int | None = option(None, "train for at least this many epochs", WEIGHT)
    max_steps: int = option(-1, "stop after this many steps; -1: no limit", Range(-1))
    min_steps: int | None = option(None, "train for at least this many steps", WEIGHT)
    max_time: str | dict[str, int] | None = option(None, "stop after this time, as DD:HH:MM:SS")
    limit_train_batches: int | float | None = option(None, "share or number of training batches an epoch", WEIGHT)
    limit_val_batches: int | float | None = option(None, "share or number of dev batches", WEIGHT)
    limit_test_batches: int | float | None = option(None, "share or number of test batches", WEIGHT)
    limit_predict_batches: int | float | None = option(None, "share or number of batches that are predicted", WEIGHT)
    overfit_batches: int | float = option(0.0, "not of use here: give --data.limit for a few posts", WEIGHT)
    val_check_interval: int | float | str | dict[str, int] | None = option(
        None, "how often dev is scored in an epoch", POSITIVE
    )
    check_val_every_n_epoch: int | None = option(1, "dev is scored after every epoch, since it selects the best")
    num_sanity_val_steps: int | None = option(
        0, "dev batches that are tried before training (Lightning's default: 2)", Range(-1)
    )
    log_every_n_steps: int | None = option(None, "how often to log within an epoch", WEIGHT)
    enable_progress_bar: bool | None = option(None, "show progress")
    enable_model_summary: bool | None = option(False, "print the modules before training (Lightning's default: true)")
    accumulate_grad_batches: int = option(1, "batches whose gradients make one step", COUNT)
    gradient_clip_val: int | float | None = option(None, "clip gradients at this value; default: no clipping", WEIGHT)
    gradient_clip_algorithm: str | None = option(None, "norm or value")
    deterministic: bool | Literal["warn"] | None = option(None, "use deterministic algorithms alone")
    benchmark: bool | None = option(None, "let cuDNN look for the fastest algorithms")
    inference_mode: bool = option(True, "evaluate under torch.inference_mode, else under no_grad")
    profiler: str | None = option(None, "simple, advanced or pytorch")
    detect_anomaly: bool = option(False, "look for the operation that made a NaN")
    barebones: bool = option(False, "switch off all that costs time; it keeps no checkpoint, so it is not of use here")
    sync_batchnorm: bool = option(False, "share the statistics of batch norms among devices")
    reload_dataloaders_every_n_epochs: int = option(0, "make the data loaders anew after so many epochs", WEIGHT)
    enable_autolog_hparams: bool = option(True, "log hyper-parameters at the start")
    model_registry: str | None = option(None, "name of the model for Lightning's model hub")

    def check(self) -> None:
        """Refuse what would leave training without a dev score after each epoch: there would be no best checkpoint."""
        if self.limit_train_batches == 0:
            raise UsageError("--trainer.limit_train_batches 0: nothing would be trained; give at least 1")
        for name, useless in (("limit_val_batches", (0, 0.0)), ("max_epochs", (0,)), ("max_steps", (0,))):
            value = getattr(self, name)
            if value is not None and value in useless:
                raise UsageError(f"--trainer.{name} {value}: dev has to be scored after at least one epoch")
        if self.check_val_every_n_epoch != 1:
            raise UsageError(
                "--trainer.check_val_every_n_epoch: dev is scored after every epoch, since it selects the best"
            )
        if self.fast_dev_run:
            raise UsageError("--trainer.fast_dev_run keeps no checkpoint; for a quick try give --data.limit 50")
        if self.overfit_batches:
            raise UsageError("--trainer.overfit_batches can't cut batches of like length; give --data.limit 50")
        if self.precision is not None and str(self.precision) in NO_BATCHES:
            raise UsageError(
                f"--trainer.precision {self.precision}: Lightning can't convert a batch of mnerkit's; give 32-true,"
                " bf16-mixed or 16-mixed"
            )


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingOptions(Options):
    """Stopping early."""

    section: ClassVar[str] = "early_stopping"

    patience: int | None = option(None, "stop after so many epochs without a better dev score", COUNT)


@dataclass(frozen=True, kw_only=True)
class WandbOptions(Options):
    """Weights & Biases (`--logger wandb`)."""

    section: ClassVar[str] = "wandb"

    project: str = option("mnerkit", "project of the run")
    entity: str | None = option(None, "user or team")
    group: str | None = option(None, "group of the run, for instance an experiment")
    job_type: str | None = option(None, "kind of run within its group, for instance a variant")
    tags: list[str] | None = option(None, "tags of the run (default: plugin, corpus)")
    cells: dict[str, Any] | None = option(None, "cells of tables that the run fills, as `reproduce` notes them")
    mode: Literal["online", "offline"] = option("online", "offline: write files for `wandb sync`")


# sections beside `model`, whose options are the plugin's and the head's
CLASSES: dict[str, type[Options]] = {
    "data": DataOptions,
    "trainer": TrainerOptions,
    "early_stopping": EarlyStoppingOptions,
    "wandb": WandbOptions,
}
SECTIONS = ("model", *CLASSES)
