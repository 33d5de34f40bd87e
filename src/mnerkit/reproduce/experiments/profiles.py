"""Profiles: at what size experiments are run, `experiments/profiles/<name>.yaml` (README.md of the experiments)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.errors import DataError, UsageError, did_you_mean
from mnerkit.reproduce.experiments.experiment import DATA
from mnerkit.reproduce.experiments.experiment_files import PROFILES
from mnerkit.reproduce.experiments.strict import Key, check, one_of, read

# values that the command line fills in
TOWER, VISION = "<tower>", "<vision>"
# the profile of the papers' own settings
PAPER = "paper"

_MAP, _TEXTS = Key((dict,)), Key((list,), inner=str)
PROFILE = {
    "about": Key((str,), needed=True),
    "seeds": Key((list, str), needed=True, choices=("paper",)),
    "points": Key((int,), least=1),
    "cap": Key((str,)),
    "seconds": Key((int, float)),
    "tower": Key((str,)),
    "differs": _TEXTS,
    "differs_on": _MAP,
    "options": _MAP,
    "corpora": Key((dict,), inner=dict),
    "plugins": Key((dict,), needed=True),
}
PLUGIN = {
    "options": _MAP,
    "by_corpus": Key((dict,), inner=dict),
    "configs": Key((dict,), inner=str),
    **{kind: _MAP for kind in DATA},
    "captions": _MAP,
    "vision": _MAP,
    "first": _MAP,
    "differs": _TEXTS,
    "missing": Key((str,)),
}
FIRST = {"plugin": Key((str,), needed=True), "file": Key((str,), needed=True), "option": Key((str,), needed=True)}


@dataclass(frozen=True)
class First:
    """A run that has to be done before another one, which reads a file that it leaves."""

    plugin: str
    file: str
    option: str


@dataclass(frozen=True)
class Settings:
    """What a profile says of a plugin.

    Attributes:
        options: of all its runs.
        kinds: of its runs on `posts`, `fewshot` or `multi`.
        captions: where captions stand in for pictures.
        vision: where a vision tower was given.
        by_corpus: of its runs on a corpus, by the corpus's name.
        configs: a file for `--config`, by corpus; `*` for all others.
        first: a run that it needs, if any.
        missing: why it isn't run in this profile, if so.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    captions: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)
    by_corpus: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    first: First | None = None
    differs: tuple[str, ...] = ()
    missing: str | None = None

    def config(self, corpus: str | None) -> str | None:
        """The `--config` file for a corpus."""
        return self.configs.get(str(corpus), self.configs.get("*"))


@dataclass(frozen=True)
class Profile:
    """The size at which experiments are run.

    Attributes:
        seeds: of every run; None for those that the experiments name, the papers'.
        points: most points of a sweep; None for all.
        cap: what bounds a run, in words.
        seconds: what a run takes, roughly, before one was measured.
        tower: the text tower where none is given.
        differs: why our figures can't be compared with the printed ones.
        differs_on: kind of data -> more of that, for experiments with it.
        options: of all runs.
        corpora: kind of data -> the options that stand in for an experiment's corpora; empty where these are read.
    """

    name: str
    folder: Path
    about: str
    seeds: tuple[int, ...] | None
    points: int | None
    cap: str | None
    seconds: float | None
    tower: str | None
    differs: tuple[str, ...]
    differs_on: Mapping[str, tuple[str, ...]]
    options: Mapping[str, Any]
    corpora: Mapping[str, Mapping[str, Any]]
    plugins: Mapping[str, Settings]


def load(name: str, folder: Path) -> Profile:
    """Read a profile: one of `<folder>/profiles`, or a file of one's own.

    Raises:
        UsageError: there is none of that name.
        DataError: the file is wrong.
    """
    path = folder / PROFILES / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif not path.is_file():
        known = sorted(each.stem for each in path.parent.glob("*.yaml"))
        raise UsageError(
            f"no profile {name!r}: {', '.join(known) or 'none'} in {path.parent}.{did_you_mean(name, known)}"
        )
    where = str(path)
    content = check(read(path), PROFILE, where)
    plugins = {
        plugin: _settings(plugin, each, folder, f"{where}: plugins: {plugin}")
        for plugin, each in content["plugins"].items()
    }
    corpora, differs_on = content.get("corpora") or {}, content.get("differs_on") or {}
    for key, kinds in {"corpora": corpora, "differs_on": differs_on}.items():
        for kind in kinds:
            one_of(kind, dict.fromkeys(DATA), "kind of data", f"{where}: {key}")
    check(differs_on, dict.fromkeys(DATA, _TEXTS), f"{where}: differs_on")
    seeds = content["seeds"]
    if isinstance(seeds, list) and not (seeds and all(isinstance(seed, int) and seed >= 0 for seed in seeds)):
        raise DataError(f"{where}: seeds must be whole numbers, or 'paper', got {seeds!r}")
    return Profile(
        name=path.stem,
        folder=folder,
        about=" ".join(content["about"].split()),
        seeds=tuple(seeds) if isinstance(seeds, list) else None,
        points=content.get("points"),
        cap=content.get("cap"),
        seconds=content.get("seconds"),
        tower=content.get("tower"),
        differs=tuple(content.get("differs") or ()),
        differs_on={kind: tuple(said) for kind, said in differs_on.items()},
        options=content.get("options") or {},
        corpora=corpora,
        plugins=plugins,
    )


def _settings(plugin: str, content: Any, folder: Path, where: str) -> Settings:
    one_of(plugin, registry.plugins(), "plugin", where)
    content = check(content or {}, PLUGIN, where)
    configs = {str(corpus): str(folder / name) for corpus, name in (content.get("configs") or {}).items()}
    for file in configs.values():
        if not Path(file).is_file():
            raise DataError(f"{where}: configs: no file {file}")
    by_corpus = content.get("by_corpus") or {}
    for corpus in by_corpus:
        one_of(corpus, CORPORA, "corpus", f"{where}: by_corpus")
    first = content.get("first")
    if first is not None:
        check(first, FIRST, f"{where}: first")
        one_of(first["plugin"], registry.plugins(), "plugin", f"{where}: first")
    return Settings(
        options=content.get("options") or {},
        kinds={kind: content[kind] for kind in DATA if content.get(kind)},
        captions=content.get("captions") or {},
        vision=content.get("vision") or {},
        by_corpus=by_corpus,
        configs=configs,
        first=First(**first) if first else None,
        differs=tuple(content.get("differs") or ()),
        missing=content.get("missing"),
    )
