"""Training a run, from the command line, from Python or in a sweep: the same folder, resume, locks and refusals."""

from __future__ import annotations

import contextlib
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json
from mnerkit.errors import MnerkitError, UsageError
from mnerkit.printable import complain, show
from mnerkit.release import RELEASE
from mnerkit.runs import files_read, identity
from mnerkit.runs.config.configuration import Configuration, resolve
from mnerkit.runs.reporting import Report, quiet, summary
from mnerkit.runs.run import Run
from mnerkit.runs.run_folder import Place, RunFolder, is_first_rank, writing
from mnerkit.runs.tiny_towers import warning


def fit(
    plugin: str | None = None,
    *,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    early_stopping: Mapping[str, Any] | None = None,
    wandb: Mapping[str, Any] | None = None,
    config: str | Path | Sequence[str | Path] = (),
    ablation: str | None = None,
    seed: int | None = None,
    test: bool = False,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    overwrite: bool = False,
    logger: str | Sequence[str] | None = None,
    keep_last: bool = False,
    checkpoint_minutes: float = Place.checkpoint_minutes,
    report: Report = show,
) -> Run:
    """Train a method, or continue an unfinished run; dev selects. `mnerkit fit` from Python.

    Args:
        plugin: name of the method (`mnerkit plugins`).
        model: options of the method; `head` is a name, or a mapping with a name and the head's options.
        data: options of corpus, pictures, batches and episodes.
        trainer: options of Lightning's Trainer.
        early_stopping: options of stopping early.
        wandb: options of Weights & Biases.
        config: configuration files, or names of those that come with mnerkit (`twitter2017-bert`).
        ablation: a named set of overrides of the plugin.
        seed: of weights, data order and episodes.
        test: look at the test split once, with the best checkpoint, when training is over.
        name: of the run's folder; default: a digest of what is given, and the seed.
        runs_dir: where run folders lie.
        overwrite: replace a run of that name.
        logger: `csv` (always written), and besides `wandb`, `tensorboard` or both.
        keep_last: keep `last.ckpt`, from which an unfinished run goes on, when the run is finished.
        checkpoint_minutes: after how many minutes `last.ckpt` is written within an epoch; 0: never.
        report: called with lines and tables of progress.

    Returns:
        The finished run.

    Raises:
        UsageError: an unknown option or name, or the folder holds a run with another configuration.
        RunBusy: another process writes into the folder.
        DataError: files that are missing or malformed.

    Examples:
        A tiny run on the built-in probe corpus. The same call again returns it without training.

        >>> small = {"data": {"limit": 40}, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
        >>> run = mnerkit.fit("bilstm", **small, test=True, report=lambda line: None)
        >>> run.finished, run.metrics["plugin"], "f1" in run.metrics["test"]
        (True, 'bilstm', True)
    """
    sections = {"model": model, "data": data, "trainer": trainer, "early_stopping": early_stopping, "wandb": wandb}
    configuration = resolve(
        plugin,
        files=[config] if isinstance(config, str | Path) else config,
        ablation=ablation,
        values=sections,
        seed=seed,
    )
    place = Place(name, runs_dir, overwrite, test, logger, keep_last, checkpoint_minutes)
    return fit_configured(configuration, place, report)


def fit_configured(
    configuration: Configuration, place: Place, report: Report = show, callbacks: Sequence[Any] = ()
) -> Run:
    """Train the run of a configuration, and score the best checkpoint on dev (and once on test where asked for).

    `callbacks`: callbacks of Lightning's Trainer that watch it.
    """
    quiet()
    loggers, folder = place.loggers(configuration), place.folder(configuration)
    if "wandb" in loggers:
        try:
            str(folder.path.absolute()).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{folder.path} is not UTF-8, as W&B needs: give another --name or --runs_dir") from None
    if "tensorboard" in loggers:
        from mnerkit.methods.tensorboard_logging import check_installed

        check_installed()
    online = "wandb" in loggers and (configuration.content.get("wandb") or {}).get("mode") != "offline"
    if online and is_first_rank() and (place.overwrite or not folder.finished):
        from mnerkit.methods.wandb_logging import check_login

        check_login()
    with writing(folder):
        first = is_first_rank()
        state = folder.start(configuration.content, place.overwrite) if first else folder.follow(place.overwrite)
        if state != "done":
            _train(configuration, folder, loggers, place, state, report, callbacks)
        if first and not place.keep_last:
            folder.last.unlink(missing_ok=True)
        if state != "done":
            return Run(folder.path)
    metrics = folder.metrics()
    for note in files_read.check_finished(folder, place.test):
        if first:
            complain(note.began)
    if place.test and "test" not in metrics:
        from mnerkit.runs.score import score

        score(folder.best, "test", report=report)
    elif first:
        report(f"already finished: {folder.path} (--overwrite trains it again)")
        report(summary(metrics))
        if line := warning(configuration.content):
            report(line)
    return Run(folder.path)


def _train(
    configuration: Configuration,
    folder: RunFolder,
    loggers: list[str],
    place: Place,
    state: str,
    report: Report,
    callbacks: Sequence[Any],
) -> None:
    """Train a `new` run, or continue one (`resume`), and score it."""
    config = configuration.content
    cells, others = dict[str, Any](), list[files_read.Note]()
    splits = ("dev", "test") if place.test else ("dev",)
    started = time.time()
    from mnerkit.data.batches.truncation import sentence
    from mnerkit.methods import checkpoint, wandb_logging
    from mnerkit.runs.build import Assembly
    from mnerkit.runs.trainer.continuation import carry_on, progress
    from mnerkit.runs.trainer.trainer_refusals import check_batches, lightning_refusals
    from mnerkit.towers import lora

    try:
        if "wandb" in loggers:
            config, cells = wandb_logging.account(config, folder.path.parts[-2])
        assembly = Assembly.of(config, folder, loggers, place.checkpoint_minutes)
        assembly.trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]
        assembly.prepare()
        # here, so that types, shots or files that can't be scored are refused before hours of training
        for split in splits:
            assembly.data.posts(split)
        for split in ("dev", "test"):
            assembly.check_unseen(split)
        assembly.data.split_posts.check_pictures_and_captions()
        check_batches(assembly.trainer, assembly.data, splits)
        cut = assembly.truncation("train", *splits)
        protocol = assembly.data.protocol()
        files, pictures = files_read.files_of(assembly), files_read.pictures_of(assembly)
        if state == "resume":
            others = files_read.check_resumed(folder, files, assembly.data.content, pictures)
    except MnerkitError:
        _forget(folder, state)
        raise
    trainer, method, data = assembly.trainer, assembly.method, assembly.data
    if is_first_rank():
        report(f"{'continuing' if state == 'resume' else 'run'} {folder.path}")
        record = {"behaviours": identity.behaviours(config), "corpus": assembly.data.content.digests}
        record |= {"files": [note._asdict() for note in files], "pictures": pictures}
        write_json(folder.path / "env.json", environment(trainer) | record)
        for note in others:
            complain(note.began)
        adapted = lora.sentence(assembly.method.towers.values())
        cut_posts = sentence(cut, "long_posts" in config["model"])
        for line in filter(None, (method.reading(), cut_posts, adapted, warning(config))):
            report(line)
    cost = method.cost(data, splits)
    if place.dry_run:
        posts = ", ".join(f"{split} {len(data.posts(split)):,}" for split in ("train", *splits))
        report(f"{method.trainable_parameters():,} weights to train; posts: {posts}")
    if cost and is_first_rank():
        report(cost)
    if place.dry_run:
        _forget(folder, state)
        return
    if cells:
        wandb_logging.note(trainer.loggers, cells=cells)
    ready = time.time()
    if method.trainable_parameters():
        done = progress(folder.last) if state == "resume" else None
        if done is not None and trainer.is_global_zero:
            carry_on(trainer.loggers, done)
        last = None if done is None else folder.last
        try:
            with lightning_refusals(config):
                trainer.fit(method, data, ckpt_path=last, weights_only=True)
        except UsageError:
            _forget(folder, state)
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    # all ranks look before the first one writes
    unscored = trainer.strategy.reduce_boolean_decision(not folder.best.is_file(), all=False)
    if unscored or not method.trainable_parameters():
        assembly.settle(folder, report)
    trained = time.time()
    method.load_weights(checkpoint.read(folder.best)["state_dict"])
    metrics: dict[str, Any] = {
        "plugin": config["plugin"],
        "ablation": config.get("ablation"),
        "seed": configuration.seed,
        "epochs": trainer.current_epoch,
        **assembly.selection(),
        "parameters": method.trainable_parameters(),
        "protocol": protocol,
        "truncation": cut,
        **method.notes,
    }
    for split in splits:
        metrics |= assembly.score(split, folder)
    metrics["looks_at_test"] = int("test" in metrics)
    method.export(trainer, data, folder.path)
    metrics["seconds"] = {
        "prepare": round(ready - started, 2),
        "train": round(trained - ready, 2),
        "score": round(time.time() - trained, 2),
    }
    if trainer.is_global_zero:
        assembly.log_final(metrics)
        write_json(folder.metrics_file, metrics)
        report(summary(metrics))
        if line := warning(config):
            report(line)
        report(f"run {folder.path}")


def _forget(folder: RunFolder, state: str) -> None:
    """Remove a new run of which no epoch is done: a mistake leaves none behind, and its name free."""
    if state == "new" and is_first_rank() and not folder.last.exists():
        shutil.rmtree(folder.path, ignore_errors=True)


def environment(trainer: Any = None) -> dict[str, Any]:
    """Versions and device: what a figure depends on besides its configuration; those of a trainer where one trains."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    packages = {}
    for name in ("torch", "lightning", "transformers", "pytorch-crf", "torchvision", "numpy", "pillow"):
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
        packages.setdefault(name, "absent")
    return {
        "mnerkit": RELEASE,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        **({"world_size": trainer.world_size, "precision": str(trainer.precision)} if trainer is not None else {}),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
