"""Run folders, `runs/<plugin>/<corpus>/<name>/`, and where a configuration's run is kept. Nothing here imports torch.

config.yaml               the resolved configuration; written first
env.json                  versions, device, behaviour numbers, digests of the corpus's splits and of other files
metrics.json              scores, protocol, times; written last, so its absence marks an unfinished run
predictions.<split>.jsonl one line a post
best.ckpt                 the best epoch's weights
last.ckpt                 what an unfinished run continues from; removed at the end (`--keep_last`)
curve/                    metrics of every epoch (CSV)
tensorboard/              what `--logger tensorboard` writes
.lock                     while a process writes here: its number and machine
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import existing_above, lock, remove_leftovers, write_text
from mnerkit.errors import DataError, RunBusy, UsageError, did_you_mean
from mnerkit.plain_yaml import read_yaml, yaml_text
from mnerkit.runs.config.configuration import Configuration, filled
from mnerkit.strict_json import read_json

LOGGERS = ("csv", "wandb", "tensorboard")  # the first one is always on
UNKNOWN_CORPUS = "unknown"  # of an imported run for which none was given
# locked by the process that writes into a run folder
LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def best(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def started(self) -> bool:
        """Whether a run was ever begun here."""
        return self.config_file.is_file()

    def existing(self) -> RunFolder:
        """The folder itself, where a run was ever begun.

        Raises:
            DataError: none was.
        """
        if not self.started:
            raise DataError(f"no run {self.path}; `mnerkit runs --json` shows the paths of runs")
        return self

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.metrics_file.is_file()

    @property
    def origin(self) -> str:
        """Where its weights or predictions come from: `trained` here, `imported` weights, or `foreign` predictions."""
        return origin_of(self.metrics()) if self.finished else "trained"

    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        return read_yaml(self.config_file)

    def metrics(self) -> dict[str, Any]:
        """Its `metrics.json`."""
        content = read_json(self.metrics_file)
        if not isinstance(content, dict):
            raise DataError(f"{self.metrics_file}: not a metrics file")
        return content

    def environment(self) -> dict[str, Any]:
        """Its `env.json`; empty where there is none that can be read."""
        try:
            content = read_json(self.path / "env.json")
        except DataError:
            return {}
        return content if isinstance(content, dict) else {}

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from writing into the folder, until the block ends or this process dies.

        Raises:
            UsageError: another process is writing into it, or it can't be a folder.
        """
        above = existing_above(self.path)
        if not above.is_dir():
            raise UsageError(f"run folder {self.path}: {above} is a file; give another --runs_dir or --name")
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / LOCK
        handle = _locked(file)
        remove_leftovers(self.path)
        if handle is None:
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a folder may have become read-only
                file.unlink()  # still locked: whoever waits for this very file looks again
            os.close(handle)

    def taken(self) -> bool:
        """Whether this process sees that another one writes into the folder.

        The process that writes must not call this: closing the file would give up its own lock.
        """
        try:
            handle = os.open(self.path / LOCK, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return lock(handle, of_process=True) is False
        finally:
            os.close(handle)

    def tidy(self) -> None:
        """Remove what a finished run needs no more, and what dead processes left; not while one writes here."""
        if self.last.exists() or (self.path / LOCK).exists():
            with contextlib.suppress(RunBusy), self.writing():
                self.last.unlink(missing_ok=True)
        else:
            remove_leftovers(self.path)

    def clear(self) -> None:
        """Remove all but the lock, which this process holds.

        Scores go first, then what a run continues from, and the configuration last: what a kill leaves is a run that
        begins anew, and can be cleared again.
        """
        self.metrics_file.unlink(missing_ok=True)
        self.last.unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (LOCK, self.config_file.name):
                path.unlink()
        self.config_file.unlink(missing_ok=True)

    def start(self, config: Mapping[str, Any], overwrite: bool) -> str:
        """Make the folder ready for a run with `config`: returns `new`, `resume` or `done`; inside `writing`.

        Args:
            config: every option's value.
            overwrite: replace a run that is there.

        Raises:
            UsageError: the folder holds a run with another configuration, or files that are no run's.
        """
        # a hidden file is what a kill left of writing config.yaml
        others = self.path.exists() and any(not path.name.startswith(".") for path in self.path.iterdir())
        if others and not self.started:
            raise UsageError(f"{self.path} holds files that are not a run's; give another --name")
        if self.started and overwrite:
            self.clear()
        if self.started:
            if self.origin != "trained" or deciding(filled(self.config())) != deciding(config):
                raise UsageError(
                    f"{self.path} holds a run with another configuration; another --name, or --overwrite, is needed"
                )
            return "done" if self.finished else "resume"
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.config_file, yaml_text(as_written(config)))
        return "new"

    def follow(self, overwrite: bool) -> str:
        """What `start` returns on the first rank of a run, for the other ranks, which touch nothing.

        A launcher may start them long before the first rank has looked, or after; until all train together nothing
        but `overwrite` changes what there is.
        """
        return "new" if overwrite else "done" if self.finished else "resume"


def origin_of(metrics: Mapping[str, Any]) -> str:
    """What `RunFolder.origin` is by a run's metrics."""
    return next((origin for origin in ("imported", "foreign") if metrics.get(origin)), "trained")


def is_first_rank() -> bool:
    """Whether this process is the first of its run; before Lightning knows, the launchers' variables say so."""
    return all(int(os.environ.get(name) or 0) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def writing(folder: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Keep other processes out of a run's folder; the first rank does it for all."""
    return folder.writing() if is_first_rank() else contextlib.nullcontext()


def _locked(file: Path) -> int | None:
    """An open, locked file that names this process; None where the system or the file system has no locks.

    Raises:
        RunBusy: another process holds it.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        ours = lock(handle, of_process=True)
        if ours:
            try:
                current = os.path.samestat(os.fstat(handle), os.stat(file))
            except FileNotFoundError:
                current = False
            if current:
                with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
                    os.ftruncate(handle, 0)
                    os.write(handle, f"process {os.getpid()} on {platform.node()}\n".encode())
                return handle
        holder = os.read(handle, 200).decode("utf-8", "replace").strip() or "another process"
        os.close(handle)
        if ours is None:
            return None
        if not ours:
            raise RunBusy(f"run {file.parent} is being written by {holder}", file.parent, holder)
        # else the one who held it removed it in between


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides the result, as plain data.

    No loggers, names, progress bar, cache or workers, nor where its values came from (`defaults`).
    """
    decisive = {key: value for key, value in config.items() if key not in ("wandb", "logger", "name", "defaults")}
    trainer = config.get("trainer") or {}
    decisive["trainer"] = {key: value for key, value in trainer.items() if not key.startswith("enable_")}
    if isinstance(model := config.get("model"), Mapping):
        # checkpointing gives the same gradients, and only `predict` distinguishes auto and cut
        decisive["model"] = {key: value for key, value in model.items() if key != "checkpointing"}
        if model.get("long_posts") == "auto":
            decisive["model"]["long_posts"] = "cut"
    if isinstance(config.get("data"), Mapping):
        places = ("cache", "picture_cache", "workers")
        decisive["data"] = {key: value for key, value in config["data"].items() if key not in places}
    return json.loads(json.dumps(decisive, default=str))


def dotted(content: Any, name: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted names: `{"model": {"lr": 1}}` becomes `{"model.lr": 1}`."""
    if not isinstance(content, Mapping) or not content:
        return {name: content} if name else {}
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        leaves |= dotted(value, f"{name}.{key}" if name else str(key))
    return leaves


def as_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.yaml` holds of a configuration: all but its loggers."""
    return json.loads(json.dumps({key: value for key, value in config.items() if key not in ("wandb", "logger")}))


def find(root: Path) -> Iterator[RunFolder]:
    """All runs at and below a folder, at any depth, in order of their paths; what lies in a run folder is no run."""
    for folder, inner, files in os.walk(root):
        inner.sort()
        if "config.yaml" in files:
            yield RunFolder(Path(folder))
            inner.clear()


@dataclass(frozen=True)
class Place:
    """Where a run is kept, and what is done besides training it.

    Attributes:
        name: of the run's folder; default: the configuration's, else a digest of what is given, and the seed.
        runs_dir: where run folders lie.
        overwrite: replace a run of that name.
        test: look at the test split once, with the best checkpoint, when training is over.
        logger: names of `LOGGERS`; default: the configuration's.
        keep_last: keep `last.ckpt` of a finished run, which is three times as large as `best.ckpt`.
        dry_run: read everything and report what would be done; no run is left.
        checkpoint_minutes: after how many minutes `last.ckpt` is written within an epoch; 0: at its end alone.

    Raises:
        UsageError: the minutes are no number, or below 0; a dry run that would replace a run.
    """

    name: str | None = None
    runs_dir: str | Path = "runs"
    overwrite: bool = False
    test: bool = False
    logger: str | Sequence[str] | None = None
    keep_last: bool = False
    checkpoint_minutes: float = 10.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        try:
            minutes = float(self.checkpoint_minutes)
        except (TypeError, ValueError):
            minutes = -1.0
        if not 0 <= minutes < float("inf"):
            shown = str(self.checkpoint_minutes)[:20]
            raise UsageError(f"--checkpoint_minutes {shown}: give a number of minutes; 0 turns it off")
        object.__setattr__(self, "checkpoint_minutes", minutes)
        if self.dry_run and self.overwrite:
            raise UsageError("--dry-run leaves everything as it is, and --overwrite removes a run: give one of them")

    def folder(self, configuration: Configuration) -> RunFolder:
        """The folder of a run: by plugin, corpus and variant, and its name.

        Raises:
            UsageError: the name is no plain folder name.
        """
        content = configuration.content
        data = content["data"]
        corpus = Path(str(data["corpus"])).name or "corpus"
        name = self.name or content.get("name") or f"{digest(configuration.given)}-s{configuration.seed}"
        if Path(name).name != name or name.startswith(".") or "\0" in name:
            raise UsageError(f"--name {name[:80]!r} must be a plain folder name")
        if "\0" in str(self.runs_dir):
            raise UsageError(f"--runs_dir {str(self.runs_dir)[:80]!r}: no folder has a NUL in its name")
        variant = data["variant"]
        return RunFolder(
            Path(self.runs_dir) / content["plugin"] / (f"{corpus}-{variant}" if variant else corpus) / name
        )

    def loggers(self, configuration: Configuration) -> list[str]:
        """Names of the loggers.

        Raises:
            UsageError: there is no such logger.
        """
        given = self.logger or configuration.content.get("logger") or "csv"
        names = [name.strip() for name in (given.strip("[]").split(",") if isinstance(given, str) else map(str, given))]
        if not all(names):
            raise UsageError(f"--logger: no name is given. Loggers: csv (always written), {', '.join(LOGGERS[1:])}")
        if unknown := [name for name in names if name not in LOGGERS]:
            near = did_you_mean(unknown[0], LOGGERS)
            raise UsageError(f"no logger {unknown[0]!r}.{near} Loggers: csv (always written), {', '.join(LOGGERS[1:])}")
        return names


def digest(given: Mapping[str, Any]) -> str:
    """Eight hex digits that name what is given, seed apart; what does not change a result is left out."""
    decisive = {key: value for key, value in deciding(given).items() if key != "seed"}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]
