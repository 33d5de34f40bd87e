"""Run folders as a report reads them: whole or refused in one line, whatever their files hold."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError, MnerkitError, first_line
from mnerkit.plain_yaml import checked_text
from mnerkit.release import RELEASE
from mnerkit.runs.config.configuration import filled, is_whole
from mnerkit.runs.run_folder import RunFolder, deciding, find, origin_of
from mnerkit.strict_json import Unreadable, read_json

ResultT = TypeVar("ResultT")


class OtherVersion(DataError):
    """A finished run that another version of mnerkit wrote."""


@dataclass(frozen=True, eq=False)
class Record:
    """A finished run.

    Attributes:
        path: its folder.
        config: the configuration that it was started with.
        metrics: its scores and protocol.
        env: versions, device and command; empty where they were not kept.
    """

    path: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    env: Mapping[str, Any]

    @property
    def plugin(self) -> str:
        """Name of the method."""
        return str(self.config.get("plugin") or "?")

    @property
    def ablation(self) -> str | None:
        """Name of the ablation, if it is one."""
        return str(self.config["ablation"]) if self.config.get("ablation") else None

    @property
    def seed(self) -> int:
        """The seed."""
        seed = self.config.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The configuration with every option's value: one of an older version leaves defaults out.

        Unchanged where its plugin is not installed, or no longer takes its values.
        """
        try:
            return self.config if is_whole(self.config) else filled(self.config)
        except (MnerkitError, AttributeError, KeyError, TypeError, ValueError):
            return self.config

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What its scores were measured on."""
        return mapping(self.metrics.get("protocol"))

    @property
    def corpus(self) -> str:
        """Name of the corpus, with its variant where that is not the default one."""
        return corpus_name(self.protocol, self.path)

    @property
    def origin(self) -> str:
        """`trained`, `imported` or `foreign`."""
        return origin_of(self.metrics)

    @property
    def seconds(self) -> float | None:
        """How long it was trained and scored; None where that was not kept."""
        parts = [value for value in mapping(self.metrics.get("seconds")).values() if is_figure(value)]
        return sum(parts) if parts else None

    @property
    def parameters(self) -> int | None:
        """Number of the model's parameters; None where that was not kept."""
        count = self.metrics.get("parameters")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def date(self) -> str:
        """The day on which its scores were written, as the file system has it."""
        return datetime.fromtimestamp((self.path / "metrics.json").stat().st_mtime).date().isoformat()

    @property
    def label(self) -> str:
        """Its name in a list of runs."""
        types = "+".join(map(str, sequence(self.protocol.get("train_types"))))
        origin = f"seed {self.seed}" if self.origin == "trained" else self.origin
        parts = (self.plugin, self.ablation, self.corpus, types, origin, self.path.name)
        return " · ".join(part for part in parts if part)

    @property
    def configuration(self) -> str:
        """Eight hex digits that name the configuration, the seed apart."""
        options = {key: value for key, value in deciding(self.settings).items() if key != "seed"}
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]

    def splits(self) -> list[str]:
        """Splits of which it has scores: test, dev, then others."""
        splits = [key for key, value in self.metrics.items() if "f1" in mapping(value)]
        return sorted(splits, key=lambda split: (split != "test", split != "dev", split))

    def figure(self, split: str, metric: str) -> float:
        """One of its scores; `a/b` names what is inside of `a` where no score has that whole name.

        Raises:
            DataError: it has no such score, or that is no number.
        """
        score: Any = self.metrics.get(split)
        if not isinstance(score, Mapping):
            splits = ", ".join(self.splits()) or "none"
            raise DataError(f"run {self.path} has no scores of {split!r} (it has: {splits})")
        for part in [metric] if metric in score else metric.split("/"):
            score = mapping(score).get(part)
        if not is_figure(score):
            raise DataError(f"run {self.path} has no score {metric!r} of {split!r}")
        return float(score)


def corpus_name(protocol: Mapping[str, Any], run: Path) -> str:
    """The corpus that a protocol names, else the folder above the run's, with the variant where there is one."""
    name = str(protocol.get("corpus") or run.parent.name)
    variant = protocol.get("variant") or "default"
    return name if variant == "default" else f"{name}-{variant}"


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list | tuple) else ()


def read(path: Path) -> Record:
    """Read a finished run of this version.

    Raises:
        OtherVersion: it is of another version.
        Unreadable: the system does not let us read it.
        DataError: it is not finished, or damaged; in one line.
    """
    run = RunFolder(path)
    if not run.started:
        raise DataError(f"run {path}: no config.yaml, so it is no run folder")
    if not run.finished:
        raise DataError(f"run {path} is not finished; the command that began it continues it")
    config = _config(run)
    metrics = read_json(run.metrics_file)
    env = read_json(path / "env.json") if (path / "env.json").is_file() else {}
    for name, content in {"metrics.json": metrics, "env.json": env}.items():
        if not isinstance(content, dict):
            raise DataError(f"run {path}: {name} is damaged: it holds no mapping")
    if not isinstance(config.get("plugin"), str):
        raise DataError(f"run {path}: config.yaml names no plugin")
    if "test" in metrics and not isinstance(metrics["test"], Mapping):
        raise DataError(f"run {path}: metrics.json is damaged: its 'test' holds no scores")
    version = env.get("mnerkit")
    if version is not None and str(version).split(".")[:2] != RELEASE.split(".")[:2]:
        raise OtherVersion(f"run {path} was written by mnerkit {str(version)[:20]}; this is {RELEASE}")
    if metrics.get("imported") and not mapping(metrics.get("protocol")):
        raise DataError(f"run {path} was imported and is not scored yet: `mnerkit test --ckpt_path {path}` scores it")
    if not mapping(metrics.get("protocol")):
        raise DataError(f"run {path}: metrics.json has no protocol, so nobody knows what its scores were taken on")
    return Record(path, config, metrics, env)


def _config(run: RunFolder) -> dict[str, Any]:
    """Read a configuration; one with aliases is refused, since a few of them unfold to gigabytes."""
    path = run.config_file
    try:
        checked_text(path, aliases=False)
        config = run.config()
        deciding(config)
        return config
    except OSError as problem:
        raise Unreadable(f"{path} can't be read: {problem.strerror}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(f"{path} is damaged: {first_line(problem)}") from None


def once(results: dict[Path, ResultT | DataError], path: Path, read: Callable[[], ResultT]) -> ResultT:
    """The result of reading a path, or the error that reading it raised; no path is read twice.

    Args:
        results: the results of the paths that were read before; this one is added.
        path: the path.
        read: reads it.

    Raises:
        DataError: reading it failed, now or before.
    """
    if path not in results:
        try:
            results[path] = read()
        except DataError as problem:
            results[path] = problem
    result = results[path]
    if isinstance(result, DataError):
        raise result
    return result


def run_folders(arguments: Iterable[str]) -> list[Path]:
    """Run folders that are named, or matched by a pattern, or lie below a folder that is named; each once.

    Raises:
        DataError: an argument leads to no run.
    """
    paths: dict[Path, Path] = {}
    for argument in arguments:
        tops = [argument] if Path(argument).is_dir() else sorted(glob.glob(argument))
        runs = [run.path for top in tops for run in find(Path(top))]
        if not runs:
            raise DataError(f"no run at {argument}; `mnerkit runs --json` tells the paths of runs")
        for run in runs:
            paths.setdefault(run.resolve(), run)
    return list(paths.values())
