"""One run put together from its configuration: data, method and Trainer, with its curve where it goes on."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mnerkit.atomic_files import write_lines
from mnerkit.data.batches.loading import TrainEpisodeSampler
from mnerkit.data.datamodule import MnerData
from mnerkit.errors import DataError, MnerkitError, Stopped, UsageError
from mnerkit.methods import checkpoint, evaluation, tensorboard_logging, wandb_logging
from mnerkit.methods.checkpoint import AtomicCheckpoints
from mnerkit.methods.finite_loss import StopAtBrokenLoss
from mnerkit.methods.method import Method
from mnerkit.methods.parameter_counts import within_memory
from mnerkit.methods.tagger import Tagger, make_method
from mnerkit.methods.warm_start import warm_start
from mnerkit.runs.run_folder import Place, RunFolder
from mnerkit.runs.trainer import launched_ranks, slurm
from mnerkit.runs.trainer.continuation import CheckpointsWithinEpochs
from mnerkit.runs.trainer.epoch_progress import EpochBar, progress_callback
from mnerkit.runs.trainer.training_log import TrainingLog
from mnerkit.towers.frozen.cached_inputs import KnownPictures, keep_on_disk


class _Patience(EarlyStopping):
    """Early stopping that a resumed run remembers: killed after the last epoch, it trains no further one."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop at once where patience had run out."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _ScoreLastStep(lightning.Callback):
    """Has dev scored after the last of `max_steps`, wherever in an epoch that falls, as after any other stop.

    Lightning scores dev only after a whole epoch or where `should_stop` is set.
    """

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop at the last step."""
        if 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class _RanksEndToo(lightning.Callback):
    """A signal that stops the process that started the ranks ends all of them: none is left waiting for the rest."""

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Kill them, since a rank that waits for another one hears no other signal."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, Stopped) and isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGKILL)
            launcher.procs.clear()  # Lightning's observer kills this process, too, where one of its ranks was killed


def _replace_handlers(trainer: lightning.Trainer) -> None:
    """Let SIGTERM do what the command has set, at once and with its exit code, and SLURM's signal what `slurm` says.

    Lightning's own handler of SIGTERM ends the training with exit code 0 after the batch, and first sends a message to
    all ranks, for which it waits for ever where one of them waits for another message.
    """
    handlers = {"_slurm_sigusr_handler_fn": _requeue}
    if callable(signal.getsignal(signal.SIGTERM)):
        handlers["_sigterm_notifier_fn"] = _leave_to_the_command
    for name, handler in handlers.items():
        setattr(trainer._signal_connector, name, handler)


# functions of the module, since the strategy `ddp_spawn` pickles the Trainer
def _requeue(*_: Any) -> None:
    for handle in slurm.handlers().values():
        handle()


def _leave_to_the_command(*_: Any) -> None:
    """Do nothing: the command's own handler is called after this one."""


@dataclass
class Assembly:
    """Trainer, method and data of one run."""

    trainer: lightning.Trainer
    method: Method
    data: MnerData
    config: dict[str, Any]

    @classmethod
    def of(
        cls,
        config: dict[str, Any],
        folder: RunFolder | None = None,
        loggers: Collection[str] = (),
        checkpoint_minutes: float = Place.checkpoint_minutes,
    ) -> Assembly:
        """Make the parts from a resolved configuration.

        Args:
            config: every option's value.
            folder: the run's, for metrics of every epoch and checkpoints; None where nothing is trained.
            loggers: besides `csv`, which is always written: `wandb`, `tensorboard`.
            checkpoint_minutes: see `Place`.
        """
        # hints and the list of accelerators; set here since importing Lightning sets its own level
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        launched_ranks.end_with_launcher()
        lightning.seed_everything(config["seed"], workers=True, verbose=False)
        trainer, data = dict(config["trainer"]), MnerData(seed=config["seed"], **config["data"])
        torch.set_float32_matmul_precision(trainer.pop("matmul_precision", "highest"))
        method = make_method(config)
        if method.tunes:
            trainer["inference_mode"] = False  # answering takes gradients
        trainer |= {"use_distributed_sampler": False, "enable_checkpointing": folder is not None, "logger": False}
        if folder is not None:
            trainer |= _record(config, folder, loggers, method.monitor, checkpoint_minutes)
        trainer["callbacks"] = [*trainer.get("callbacks", ()), _RanksEndToo()]
        if trainer.get("enable_progress_bar") is not False:
            trainer["callbacks"].append(shown := progress_callback())
            trainer["enable_progress_bar"] = isinstance(shown, EpochBar)
        try:
            made = lightning.Trainer(**trainer)
        except MnerkitError:
            raise
        except Exception as error:
            raise UsageError(f"--trainer: {' '.join(str(error).split())[:300]}") from error
        _check_processes(made)
        _replace_handlers(made)
        if method.train_mode == "episodic":
            # refuses a number of episodes that the ranks do not divide, before anything is read
            TrainEpisodeSampler(data.options.episodes_per_epoch, made.world_size)
        # `predict` and `validate` are given loaders, so Lightning attaches no data; ranks share the work all the same
        data.trainer = made
        data.reads_support = method.reads_support
        method.config, method.seed = config, config["seed"]
        return cls(made, method, data, config)

    @classmethod
    def of_checkpoint(cls, content: dict[str, Any], config: dict[str, Any], tower_dir: str | None) -> Assembly:
        """The parts of a checkpoint, ready to tag and to be scored.

        Args:
            content: of the checkpoint (`checkpoint.read`).
            config: its configuration, and what differs from it here.
            tower_dir: folder with a frozen tower's weights, where its own name can't be reached.
        """
        assembly = cls.of(config)
        with within_memory():
            checkpoint.restore(assembly.method, content, tower_dir)
        assembly.data.split_posts.trained_on = frozenset(assembly.method.trained_on)
        assembly.connect()
        return assembly

    def prepare(self) -> None:
        """Read the corpus, build the towers (training tiny ones that will be frozen), and connect both."""
        self._check_mode()
        self._check_entities()
        self.data.rehearse(self.method.train_mode)
        with within_memory():
            self.method.build(self.data.facts, n_way=self.data.options.n_way)
        warm_start(self.method, self.data, show=self.trainer.is_global_zero)
        self.connect()
        self.method.trained_on = self.data.split_posts.training_keys()
        self.method.repeats = self.data.split_posts.repeats(frozenset(self.method.trained_on))
        self.method.prepare(self.data)

    def connect(self) -> None:
        """Let the data build what the tagger needs; a label that it does not know is refused."""
        self._check_mode()
        plain = self.method.train_mode == "plain"
        unknown = sorted(set(self.data.facts.types) - set(self.method.facts.types))
        if unknown and plain and not self.method.reads_support:
            raise DataError(
                f"corpus {self.data.options.corpus!r} has the type {unknown[0]}, which the checkpoint does not know "
                f"({', '.join(self.method.facts.types)})"
            )
        towers = list(self.method.towers.values())
        keep_on_disk(towers, self.data.feature_folder, self.data.inputs, self.data.options.features)
        frozen = [tower for tower in towers if tower.constant and tower.memory is not None]
        # what a tower returns depends on the precision: the collator is to ask for what the Trainer will compute
        with self.trainer.precision_plugin.forward_context():
            pictures = KnownPictures.of(towers)
            for tower in frozen:
                tower.memory.reading(tower)  # so that no step waits for the digest of its weights
        types = self.method.facts.types if plain else None
        self.data.windows = evaluation.reads_windows(self.method, predicting=False)
        self.data.connect(self.method.needs(), self.method.train_mode, types, pictures, keyed=bool(frozen))

    def _check_entities(self) -> None:
        """Refuse training posts without any entity of the types to be learnt."""
        types, plain = self.data.facts.types, self.method.train_mode == "plain"
        posts = self.data.plain_posts() if plain else self.data.posts("train")
        if not any(tag[2:] in types for post in posts for tag in post.tags or () if tag != "O"):
            of_types = f" of the types {', '.join(types)}" if types else ""
            left = len(posts) < len(self.data.posts("train"))
            option, _ = self.data.options.out_of_play_in("train")
            dropped = f", as {option} drop_sentence leaves them," if left else ""
            where = f"the {len(posts)} training posts of {self.data.options.corpus}{dropped}"
            raise DataError(f"{where} hold no entity{of_types}: there is nothing to learn")

    def check_unseen(self, split: str) -> None:
        """Refuse dev or test posts that the model was trained with, whatever corpus they are in (`SplitPosts`)."""
        method = self.method
        self.data.split_posts.check_unseen(split, frozenset(method.trained_on), frozenset(method.repeats))

    def _check_mode(self) -> None:
        """Refuse episodes for a head that reads no support: it would name their types by the numbers of others."""
        options = self.data.options
        option = "train_types" if options.train_types is not None else "episode_file"
        if not self.method.reads_support and (options.train_types is not None or options.episode_file):
            name = f"head {self.method.head.name!r}" if isinstance(self.method, Tagger) else self.method.plugin
            raise UsageError(
                f"--data.{option} makes dev and test episodes, and {name} learns nothing from a support:"
                " take one that does (--model.head prototype, prototype_crf, nearest, struct or finetune), or"
                f" --data.{option} null"
            )

    def settle(self, folder: RunFolder, report: Callable[[str], None]) -> None:
        """Score dev with the weights as they are and keep them as best.

        In place of training where nothing learns (prototypes of frozen states: dev chooses their settings), and after
        a training in which dev was never scored.
        """
        if self.trainer.is_global_zero and not self.method.trainable_parameters():
            report("nothing of this model is trained: its towers are frozen and its head has no weights")
        self.trainer.validate(self.method, self.data, verbose=False)
        self.trainer.save_checkpoint(folder.best, weights_only=True)

    def truncation(self, *splits: str) -> dict[str, dict[str, Any]]:
        """By split, what the length limit of the text tower takes from posts."""
        return {split: self.data.truncation(split).record() for split in splits}

    def score(self, split: str, folder: RunFolder | None, key: str | None = None) -> dict[str, Any]:
        """Score a split and write its predictions; clear and ambiguous entities of generated corpora also apart."""
        key = key or split
        figures, self._last = evaluation.scored(self.trainer, self.method, self.data, split)
        if folder is not None and self.trainer.is_global_zero:
            write_lines(folder.path / f"predictions.{key}.jsonl", self.method.rows(self._last))
        return {f"{key}{part}": content for part, content in figures.items()}

    def selection(self) -> dict[str, Any]:
        """The epoch (from 0) that dev selected, and by which figure, for `metrics.json`; None where nothing was."""
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
                epoch, score = checkpoint.read(callback.best_model_path)["epoch"], callback.best_model_score
                figure = None if score is None else {callback.monitor: float(score)}
                return {"best_epoch": int(epoch), "selected_by": figure}
        return {"best_epoch": None, "selected_by": None}

    def log_final(self, metrics: dict[str, Any]) -> None:
        """Final scores, predictions, pictures and confusions to the dashboards that are on."""
        wandb_logging.log_results(self.trainer.loggers, metrics, self._last)
        loggers, step = self.trainer.loggers, self.trainer.global_step
        tensorboard_logging.log_results(loggers, self.config, metrics, self._last, step)


def _check_processes(trainer: lightning.Trainer) -> None:
    """Refuse more processes on the CPU than this process may use cores; a launcher's processes are its own matter.

    Of other devices Lightning itself refuses more than there are.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    launched = environment is not None and environment.creates_processes_externally
    if not isinstance(trainer.accelerator, CPUAccelerator) or launched:
        return
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    if trainer.num_devices > max(cores, 1):
        raise UsageError(
            f"--trainer.devices {trainer.num_devices}: this process may use {cores} CPU"
            f" core{'' if cores == 1 else 's'}; give at most {cores}"
        )


def _record(
    config: dict[str, Any], folder: RunFolder, loggers: Collection[str], monitor: str, checkpoint_minutes: float
) -> dict[str, Any]:
    """What the Trainer needs to write a run's folder: loggers, callbacks, checkpoints."""
    made: list[Logger] = [CSVLogger(folder.path, name="", version="curve")]
    if "wandb" in loggers:
        made.append(wandb_logging.logger_of(config, folder.path))
    if "tensorboard" in loggers:
        made.append(tensorboard_logging.logger_of(folder.path))
    shared: dict[str, Any] = {"dirpath": folder.path, "enable_version_counter": False, "save_on_train_epoch_end": True}
    callbacks: list[lightning.Callback] = [
        StopAtBrokenLoss(),
        _ScoreLastStep(),
        CheckpointsWithinEpochs(folder.last, checkpoint_minutes),
        ModelCheckpoint(filename="best", monitor=monitor, mode="max", save_weights_only=True, **shared),
        ModelCheckpoint(filename="last", monitor=None, **shared),
    ]
    if len(made) > 1:
        callbacks.append(TrainingLog())
    patience = (config.get("early_stopping") or {}).get("patience")
    if patience is not None:
        callbacks.insert(0, _Patience(monitor, mode="max", patience=patience, check_on_train_epoch_end=True))
    return {
        "default_root_dir": str(folder.path),
        "logger": made,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpoints()],
    }
