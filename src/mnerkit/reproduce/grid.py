"""The grid: experiments at the size of a profile become cells and runs, and identical runs are one run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.reproduce.cells import FIRST, Cell, Grid, Run
from mnerkit.reproduce.experiments.experiment import Experiment, Group, Row
from mnerkit.reproduce.experiments.layers import dotted, merged, text_of
from mnerkit.reproduce.experiments.profiles import TOWER, VISION, First, Profile, Settings
from mnerkit.reproduce.experiments.table_layout import Layout, is_mean
from mnerkit.reproduce.experiments.tower_names import is_papers, papers_model, tower_name
from mnerkit.runs.config.requests import configuration_of
from mnerkit.runs.identity import digest_of, reads_of

# `--root` among what the command line gives
ROOT = "<root>"


class Builder:
    """Makes a grid."""

    def __init__(
        self,
        profile: Profile,
        root: str | None = None,
        tower: str | None = None,
        vision: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """Keep what all runs share.

        Args:
            profile: the size.
            root: the folder of the corpora.
            tower: the text tower, where the profile leaves it open.
            vision: the vision tower; None lets captions stand in for pictures where the profile does.
            seeds: in place of the profile's.
        """
        self.profile, self.root, self.tower, self.vision = profile, root, tower, vision
        self.seeds = tuple(dict.fromkeys(seeds or ()))
        self.grid = Grid()
        self._read: set[str] = set()  # of root, tower and vision tower those that some run reads
        self._resolved: dict[str, dict[str, Any]] = {}
        self._digests: dict[str, tuple[str, str]] = {}

    def add(self, experiment: Experiment) -> None:
        """Add an experiment.

        Raises:
            DataError: a command of it is none of mnerkit's.
            UsageError: it reads corpora, and no root was given.
        """
        points = experiment.sweep.points(self.profile.points) if experiment.sweep else ()
        made = Layout(experiment, points)
        for place, (row, group) in enumerate(made.lines):
            reason = self._reason(row)
            # means come after what they are of
            for number, (column, metric, point) in sorted(enumerate(made.places), key=is_mean):
                here = column or group
                assert here is not None
                where = f"{experiment.file}: {row.name}, {here.name}"
                figure = experiment.figure(row, here, metric)
                why = reason
                digests: tuple[str, ...] = ()
                of: tuple[tuple[int, int], ...] = ()
                if here.mean and not reason:
                    spots = [made.spot(place, name, metric) for name in here.mean]
                    inner = [made.cells[spot] for spot in spots]
                    why = next((each.reason for each in inner if each.reason), None)
                    of = tuple(spots) if why is None else ()
                elif not reason:
                    digests, why = self._runs(experiment, row, here, point, where)
                parts = [each for each in experiment.groups if each.name in here.mean] or [here]
                reasons = [each for part in parts for each in self._differs(experiment, row, part.corpus)]
                differs = tuple(dict.fromkeys(reasons))
                made.cells[place, number] = Cell(
                    place, number, figure, metric.metric, metric.split, digests, of, why, differs
                )
        self.grid.tables[experiment.name] = made.table()

    def check_used(self, tower: bool) -> None:
        """Refuse what was given and is read by no run of the experiments that were added.

        Args:
            tower: whether the text tower was given, and is not the profile's own.

        Raises:
            UsageError: with the option.
        """
        given = {
            "--root": ROOT if self.root is not None else None,
            "--tower": TOWER if tower else None,
            "--vision": VISION if self.vision is not None else None,
        }
        for option, value in given.items():
            if value is not None and value not in self._read:
                what = "has a corpus below it" if value == ROOT else "leaves that tower open"
                raise UsageError(
                    f"{option} has no effect: in profile {self.profile.name} no run of these experiments {what}; "
                    "leave it out, or choose another --profile"
                )

    def _reason(self, row: Row) -> str | None:
        """Why a row is as printed alone, if it is."""
        if row.plugin is None:
            return row.missing
        if row.only and self.profile.name not in row.only:
            return row.why
        if row.plugin not in self.profile.plugins:
            return f"profile {self.profile.name} has no settings for plugin {row.plugin}"
        settings = self.profile.plugins[row.plugin]
        return row.why if row.pictures and self._reads_captions(settings) else settings.missing

    def _reads_captions(self, settings: Settings) -> bool:
        """Whether captions stand in for the pictures of a plugin."""
        return bool(settings.captions) and not self.vision

    def _differs(self, experiment: Experiment, row: Row, corpus: str | None) -> list[str]:
        """Why figures of a row on a corpus can't be compared with the printed ones."""
        profile = self.profile
        said = [*profile.differs, *profile.differs_on.get(experiment.data, ()), *experiment.differs, *row.differs]
        seeds = self._seeds(experiment)
        if len(seeds) < len(experiment.seeds):
            said.append(f"seeds: {len(seeds)}, not {len(experiment.seeds)}")
        settings = self.profile.plugins.get(row.plugin or "")
        if settings is not None:
            said += settings.differs
            papers = papers_model(self.profile.folder, str(row.plugin), corpus)
            towers = {"text": self.tower if TOWER in settings.options.values() else None}
            towers["vision"] = self.vision if VISION in settings.vision.values() else None
            for kind, tower in towers.items():
                if tower is not None and not is_papers(tower, papers.get(kind)):
                    said.append(f"{kind} tower: {tower_name(tower)}, not the paper's")
            if self._reads_captions(settings):
                said.append("pictures: their captions in place of them")
        return said

    def _seeds(self, experiment: Experiment) -> tuple[int, ...]:
        return self.seeds or (experiment.seeds if self.profile.seeds == "paper" else self.profile.seeds)

    def _runs(
        self, experiment: Experiment, row: Row, group: Group, point: Any, where: str
    ) -> tuple[tuple[str, ...], str | None]:
        """Digests of the runs of a cell, one a seed, or why there are none."""
        assert row.plugin is not None
        settings = self.profile.plugins[row.plugin]
        last = {experiment.sweep.option: point} if experiment.sweep else {}
        try:
            digests = []
            for seed in self._seeds(experiment):
                first = None
                if settings.first is not None:
                    needed = Row(name=settings.first.plugin, plugin=settings.first.plugin)
                    first = self._run(experiment, needed, group, {}, seed, where, None)
                digests.append(self._run(experiment, row, group, last, seed, where, (settings.first, first)))
            return tuple(digests), None
        except _Absent as error:
            return (), str(error)

    def _run(
        self,
        experiment: Experiment,
        row: Row,
        group: Group,
        point: Mapping[str, Any],
        seed: int,
        where: str,
        first: tuple[First | None, str | None] | None,
    ) -> str:
        """Note one run; its digest."""
        assert row.plugin is not None
        asked, before = first or (None, None)
        chosen = self.overrides(experiment, row, group, point)
        if asked is not None:
            chosen = merged(chosen, {asked.option: FIRST})
        corpus = chosen.get("data.corpus", "probe")
        self._check_corpus(str(corpus), where)
        config_file = None
        if row.plugin in self.profile.plugins:
            config_file = self.profile.plugins[row.plugin].config(group.corpus)
        words = ["fit", "--plugin", row.plugin]
        words += ["--ablation", row.ablation] if row.ablation else []
        words += ["--config", config_file] if config_file else []
        words += [word for name, value in chosen.items() for word in (f"--{name}", text_of(value))]
        config = {**self._config(words, where), "seed": seed}
        key = json.dumps([words, seed, before])
        if key not in self._digests:
            self._digests[key] = digest_of(config, before), reads_of(config)
        digest, reads = self._digests[key]
        data = config.get("data") or {}
        name = Path(str(data.get("corpus", "probe"))).name
        run = Run(
            digest,
            row.plugin,
            f"{name}-{data['variant']}" if data.get("variant") else name,
            seed,
            (*words, "--seed", str(seed), "--test", "--trainer.enable_progress_bar", "false"),
            (before, asked.file) if asked is not None and before is not None else None,
            reads=reads,
        )
        known = self.grid.runs.get(digest)
        # of several commands for one thing the shortest
        if known is None or (len(run.words), run.words) < (len(known.words), known.words):
            self.grid.runs[digest] = run
        return digest

    def overrides(self, experiment: Experiment, row: Row, group: Group, point: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run, by their dotted names: of the profile, the data, then of the experiment's own parts."""
        assert row.plugin is not None
        settings = self.profile.plugins.get(row.plugin)
        layers: list[Mapping[str, Any]] = []
        stand_in = self.profile.corpora.get(experiment.data)
        if settings is not None:
            layers += [settings.options, getattr(settings, experiment.data)]
            layers.append(settings.vision if self.vision else settings.captions)
            layers.append(settings.by_corpus.get(str(group.corpus), {}) if stand_in is None else {})
            if settings.vision != settings.captions:
                self._read.add(VISION)
        layers.append(self.profile.options)
        if stand_in is not None:
            layers.append(stand_in)
        else:
            if self.root is None:
                raise UsageError(
                    f"profile {self.profile.name} reads {group.corpus}: give the folder that holds it as --root DIR"
                )
            layers.append({"data.corpus": group.corpus, "data.root": self.root})
            self._read.add(ROOT)
        # said as options, too: what the experiment and the row say wins over it, the profile does not
        layers.append(_ablation(row.plugin, row.ablation) if row.ablation else {})
        layers += [experiment.options, row.options]
        layers += [group.options] if stand_in is None else []
        chosen: dict[str, Any] = {}
        for layer in (*layers, point):
            chosen = merged(chosen, layer)
        return {name: self._filled(value) for name, value in chosen.items()}

    def _filled(self, value: Any) -> Any:
        if value == TOWER:
            if self.tower is None:
                raise UsageError(f"profile {self.profile.name} leaves the text tower open: give it as --tower NAME")
            self._read.add(TOWER)
            return self.tower
        if value == VISION:
            self._read.add(VISION)
            return self.vision
        return value

    def _check_corpus(self, corpus: str, where: str) -> None:
        """Refuse a corpus that can't be read, and, with the place `where` it is asked for, one that nobody knows."""
        if corpus not in self.grid.absent and corpus != "probe":
            from mnerkit.data.corpus.catalogue import find_corpus

            try:
                find_corpus(corpus, self.root)
            except DataError as error:
                self.grid.absent[corpus] = error
            except UsageError as error:
                raise DataError(f"{where}: {error}") from None
        if corpus in self.grid.absent:
            raise _Absent(str(self.grid.absent[corpus]).split("\n")[0])

    def _config(self, words: Sequence[str], where: str) -> dict[str, Any]:
        key = json.dumps(words)
        if key not in self._resolved:
            try:
                self._resolved[key] = configuration_of(words).content
            except MnerkitError as error:
                raise DataError(f"{where}: {error}") from None
        return self._resolved[key]


@cache
def _ablation(plugin: str, name: str) -> dict[str, Any]:
    return dotted(registry.get(plugin).ablations[name])


class _Absent(Exception):
    """A corpus is not there: its cells are as printed."""


def build(builder: Builder, experiments: Iterable[Experiment]) -> Grid:
    """The grid of some experiments."""
    for experiment in experiments:
        builder.add(experiment)
    return builder.grid
