"""The files of experiments: `experiments/<paper>/<table or figure>.yaml`."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

from mnerkit.errors import DataError, UsageError, did_you_mean
from mnerkit.plain_yaml import read_yaml
from mnerkit.reproduce.experiments.experiment import Experiment
from mnerkit.validation import validated

PROFILES = "profiles"


def load(path: Path, folder: Path) -> Experiment:
    """Read an experiment file, strictly.

    Args:
        path: the file.
        folder: the folder of all experiments.

    Raises:
        DataError: a key, plugin, ablation or printed figure that does not exist, with the nearest one.
    """
    profiles = [file.stem for file in (folder / PROFILES).glob("*.yaml")]
    return validated(Experiment, read_yaml(path), path, file=path, folder=folder, profiles=profiles)


def load_all(folder: Path) -> dict[str, Experiment]:
    """All experiments of a folder, by name, in the order of their names.

    Raises:
        DataError: there are none, or one of them is wrong.
    """
    files = sorted(path for path in folder.glob("*/*.yaml") if path.parent.name != PROFILES)
    if not files:
        raise DataError(
            f"no experiments in {folder}: run this in a checkout of mnerkit, or give its folder as --experiments DIR"
        )
    return {experiment.name: experiment for experiment in (load(path, folder) for path in files)}


def matching(patterns: Sequence[str], experiments: Mapping[str, Experiment]) -> list[Experiment]:
    """The experiments that any of the patterns names: `mousing/table2`, `mousing`, `*/table*`; all without patterns.

    Raises:
        UsageError: a pattern names none.
    """
    chosen: set[str] = set()
    for pattern in patterns or ["*"]:
        plain = pattern.rstrip("/")
        names = [name for name in experiments if fnmatch.fnmatchcase(name, plain) or name.startswith(f"{plain}/")]
        if not names:
            papers = {experiment.paper for experiment in experiments.values()}
            near = did_you_mean(plain, [*experiments, *papers])
            raise UsageError(f"no experiment matches {pattern!r}.{near} There are: {', '.join(experiments)}")
        chosen.update(names)
    return [experiment for name, experiment in experiments.items() if name in chosen]
