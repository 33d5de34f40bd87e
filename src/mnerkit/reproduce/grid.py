"""The grid: experiments at the size of a profile become cells and runs, and identical runs are one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, reduce
from itertools import product
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.data.corpus.catalogue import find_corpus
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.reproduce.cells import Cell, Grid, Run, Table
from mnerkit.reproduce.experiments.experiment import Experiment, Group, Metric, Row, column_name
from mnerkit.reproduce.experiments.profiles import TOWER, VISION, Profile, Settings, is_papers, papers_model, tower_name
from mnerkit.reproduce.training import Training, dotted, merged
from mnerkit.runs.config.configuration import Configuration
from mnerkit.runs.identity import digest_of, reads_of
from mnerkit.runs.run_folder import Place

# `--root` among what the command line gives
ROOT = "<root>"
# stands for the file of another run, whose folder a run's digest must not depend on
FIRST = "<first>"
# a row of a table, and in a sweep its group; a group's figure, or in a sweep the figure at a point
Line = tuple[Row, Group | None]
Column = tuple[Group | None, Metric, Any]


class Builder:
    """Makes a grid.

    Attributes:
        grid: the tables and runs of the experiments that were added.
    """

    def __init__(
        self,
        profile: Profile,
        out: Path = Path("runs"),
        root: str | None = None,
        tower: str | None = None,
        vision: str | None = None,
        seeds: Sequence[int] | None = None,
        dashboards: bool = False,
    ) -> None:
        """Keep what all runs share.

        Args:
            profile: the size.
            out: the folder of the sweep.
            root: the folder of the corpora.
            tower: the text tower, where the profile leaves it open.
            vision: the vision tower; None lets captions stand in for pictures where the profile does.
            seeds: in place of the profile's.
            dashboards: whether each run reads a file of settings of its W&B dashboard, `dashboards/<digest>.yaml`.
        """
        self.profile, self.root, self.tower, self.vision = profile, root, tower, vision
        self.dashboards = dashboards
        self.seeds = tuple(dict.fromkeys(seeds or ()))
        self.grid = Grid(profile, out)
        self._used: set[str] = set()  # of root, tower and vision tower those that some run reads
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}
        self._digests: dict[tuple[Any, ...], str] = {}

    def add(self, experiments: Iterable[Experiment]) -> None:
        """Add experiments.

        Raises:
            DataError: an option of one does not exist, or does not take its value.
            UsageError: one reads corpora, and no root was given.
        """
        for experiment in experiments:
            self.grid.tables[experiment.name] = self._table(experiment)

    def _table(self, experiment: Experiment) -> Table:
        points = experiment.sweep.points(self.profile.points) if experiment.sweep else ()
        # groups are lines of a sweep, and columns of another table
        groups, none = list(experiment.groups), [None]
        of_lines, of_columns = (groups, none) if experiment.sweep else (none, groups)
        lines: list[Line] = list(product(experiment.rows, of_lines))
        columns: list[Column] = list(product(of_columns, experiment.metrics, points or [None]))
        cells: dict[tuple[int, int], Cell] = {}
        for number, (row, of_line) in enumerate(lines):
            # means come after what they are of
            for place, (of_column, metric, point) in sorted(enumerate(columns), key=_is_mean):
                group = of_column or of_line
                assert group is not None
                parts = experiment.parts(group) if group.mean else []
                inner = [(number, columns.index((part, metric, None))) for part in parts]
                digests: tuple[str, ...] = ()
                reason = self._reason(row) or next((cells[spot].reason for spot in inner if cells[spot].reason), None)
                if reason is None and not inner:
                    try:
                        digests = self._runs(experiment, row, group, point)
                    except _Absent as error:
                        reason = str(error)
                figure, of = experiment.figure(row, group, metric), tuple(inner) if reason is None else ()
                differs = tuple(dict.fromkeys(self._differs(experiment, row, group)))
                cells[number, place] = Cell(
                    number, place, figure, metric.metric, metric.split, digests, of, reason, differs
                )
        in_order = tuple(cells[spot] for spot in sorted(cells))
        rows = [_row(line, [cell for cell in in_order if cell.row == number]) for number, line in enumerate(lines)]
        heads = [_column(column, experiment) for column in columns]
        return Table(experiment, tuple(rows), tuple(heads), points, in_order)

    def check_used(self, tower: bool) -> None:
        """Refuse what was given and is read by no run of the experiments that were added.

        Args:
            tower: whether the text tower was given, and is not the profile's own.

        Raises:
            UsageError: with the option.
        """
        given = {"--root": self.root is not None, "--tower": tower, "--vision": self.vision is not None}
        for (option, is_given), value in zip(given.items(), (ROOT, TOWER, VISION), strict=True):
            if is_given and value not in self._used:
                what = "has a corpus below it" if value == ROOT else "leaves that tower open"
                raise UsageError(
                    f"{option} has no effect: in profile {self.profile.name} no run of these experiments {what}; "
                    "leave it out, or choose another --profile"
                )

    def _settings(self, plugin: str | None) -> Settings:
        return self.profile.plugins.get(str(plugin)) or Settings()

    def _reason(self, row: Row) -> str | None:
        """Why a row has printed figures alone; None where it has runs."""
        if row.plugin is None:
            return row.missing
        if row.only and self.profile.name not in row.only:
            return row.why
        if row.plugin not in self.profile.plugins:
            return f"profile {self.profile.name} has no settings for plugin {row.plugin}"
        settings = self._settings(row.plugin)
        return row.why if row.pictures and self._reads_captions(settings) else settings.missing

    def _reads_captions(self, settings: Settings) -> bool:
        """Whether captions stand in for the pictures of a plugin."""
        return bool(settings.captions) and not self.vision

    def _differs(self, experiment: Experiment, row: Row, group: Group) -> Iterator[str]:
        """Why figures of a row in a group can't be compared with the printed ones; some more than once."""
        profile, settings = self.profile, self._settings(row.plugin)
        yield from (*profile.differs, *profile.differs_on.get(experiment.data, ()), *experiment.differs, *row.differs)
        if (count := len(self._seeds(experiment))) < len(experiment.seeds):
            yield f"seeds: {count}, not {len(experiment.seeds)}"
        yield from settings.differs
        options = reduce(merged, [settings.options, _ablation(row.plugin, row.ablation), row.options])
        for part in experiment.parts(group):
            papers = papers_model(profile.folder, str(row.plugin), part.corpus, experiment.paper)
            towers = {"text": self.tower if TOWER in options.values() else None}
            towers["vision"] = self.vision if VISION in settings.vision.values() else None
            for kind, tower in towers.items():
                if tower is not None and not is_papers(tower, papers.get(kind)):
                    yield f"{kind} tower: {tower_name(tower)}, not the paper's"
            if self._reads_captions(settings):
                yield "pictures: their captions in place of them"

    def _seeds(self, experiment: Experiment) -> tuple[int, ...]:
        return self.seeds or (experiment.seeds if self.profile.seeds == "paper" else self.profile.seeds)

    def _runs(self, experiment: Experiment, row: Row, group: Group, point: Any) -> tuple[str, ...]:
        """Digests of the runs of a cell, one a seed.

        Raises:
            _Absent: its corpus is missing.
        """
        where = f"{experiment.file}: {row.name}, {group.name}"
        first = self._settings(row.plugin).first
        last = {experiment.sweep.option: point} if experiment.sweep else {}
        training = self._training(experiment, row, group, {**last, first.option: FIRST} if first else last)
        if first is None:
            return tuple(self._run(replace(training, seed=seed), where) for seed in self._seeds(experiment))
        needed = self._training(experiment, Row(name=first.plugin, plugin=first.plugin), group, {})
        digests = []
        for seed in self._seeds(experiment):
            before = self._run(replace(needed, seed=seed), where)
            digests.append(self._run(replace(training, seed=seed), where, (before, first.file)))
        return tuple(digests)

    def _training(self, experiment: Experiment, row: Row, group: Group, last: Mapping[str, Any]) -> Training:
        file = self._settings(row.plugin).config(group.corpus, experiment.paper)
        options = self.overrides(experiment, row, group, last)
        return Training(row.plugin, row.ablation, (file,) if file else (), options)

    def _run(self, training: Training, where: str, first: tuple[str, str] | None = None) -> str:
        """Add a run to the grid; returns its digest."""
        self._check_corpus(str(training.options.get("data.corpus", "probe")), where)
        key = (training.command, first)
        if key in self._digests:
            return self._digests[key]
        config = self._config(training, where)
        digest = self._digests[key] = digest_of(config, first[0] if first is not None else None)
        options, command = training.options, replace(training, seed=None).command
        if first is not None:
            file = str(self.grid.runs[first[0]].folder.path / first[1])
            options = {name: file if value == FIRST else value for name, value in options.items()}
        dashboard = str(self.grid.out / "dashboards" / f"{digest}.yaml") if self.dashboards else None
        place = Place(digest, str(self.grid.runs_dir), test=True)
        training = replace(training, options=options, dashboard=dashboard, place=place)
        folder = place.folder(Configuration(config, {}))
        run = Run(digest, config["plugin"], config["seed"], training, folder, first, reads_of(config))
        run = replace(run, unseeded=self._unseeded(config, command, first))
        # of several commands for one thing the shortest
        self.grid.runs[digest] = min(self.grid.runs.get(digest, run), run, key=_length)
        return digest

    def _unseeded(self, config: dict[str, Any], command: tuple[str, ...], first: tuple[str, str] | None) -> str:
        """Digest of a run without its seed, and without that of the run before; `command`: that without them."""
        before = None if first is None else self.grid.runs[first[0]].unseeded
        if (command, before) not in self._digests:
            self._digests[command, before] = digest_of({**config, "seed": 0}, before)
        return self._digests[command, before]

    def overrides(self, experiment: Experiment, row: Row, group: Group, last: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run, by their dotted names: of the profile, the data, then of the experiment's own parts.

        Args:
            experiment: the experiment.
            row: whose method it is.
            group: whose corpus it is.
            last: options that win over all others.

        Raises:
            UsageError: the run reads a corpus or a tower that was not given.
        """
        settings = self._settings(row.plugin)
        stand_in = self.profile.corpora.get(experiment.data)
        layers: list[Mapping[str, Any]] = [settings.options, getattr(settings, experiment.data)]
        layers.append(settings.vision if self.vision else settings.captions)
        layers.append(settings.by_ablation.get(str(row.ablation), {}))
        if settings.vision != settings.captions:
            self._used.add(VISION)
        if stand_in is not None:
            layers += [self.profile.options, stand_in]
        elif self.root is None:
            raise UsageError(
                f"profile {self.profile.name} reads {group.corpus}: give the folder that holds it as --root DIR"
            )
        else:
            layers += [settings.by_corpus.get(str(group.corpus), {}), self.profile.options]
            layers.append({"data.corpus": group.corpus, "data.root": self.root})
            self._used.add(ROOT)
        # as options, too: what the experiment and the row set wins over the ablation, what the profile sets does not
        layers.append(_ablation(row.plugin, row.ablation))
        layers += [experiment.options, row.options, group.options if stand_in is None else {}, last]
        options: Mapping[str, Any] = reduce(merged, layers)
        return {name: self._filled(value) for name, value in options.items()}

    def _filled(self, value: Any) -> Any:
        """A value of a profile, or what the command line gives in place of `TOWER` and `VISION`."""
        if value not in (TOWER, VISION):
            return value
        if value == TOWER and self.tower is None:
            raise UsageError(f"profile {self.profile.name} leaves the text tower open: give it as --tower NAME")
        self._used.add(value)
        return self.tower if value == TOWER else self.vision

    def _check_corpus(self, corpus: str, where: str) -> None:
        """Refuse a corpus that can't be read, and, naming the row that needs it (`where`), one that does not exist."""
        if corpus not in self.grid.absent and corpus != "probe":
            try:
                find_corpus(corpus, self.root)
            except DataError as error:
                self.grid.absent[corpus] = error
            except UsageError as error:
                raise DataError(f"{where}: {error}") from None
        if corpus in self.grid.absent:
            raise _Absent(str(self.grid.absent[corpus]).split("\n")[0])

    def _config(self, training: Training, where: str) -> dict[str, Any]:
        """The configuration of a training; resolving one takes a tenth of a second, and is the same for all seeds."""
        key = replace(training, seed=None).command
        if key not in self._configs:
            try:
                self._configs[key] = training.configuration().content
            except MnerkitError as error:
                raise DataError(f"{where}: {error}") from None
        return {**self._configs[key], "seed": training.seed}


class _Absent(Exception):
    """A corpus is missing: its cells have printed figures alone."""


@cache
def _ablation(plugin: str | None, name: str | None) -> dict[str, Any]:
    return {} if plugin is None or name is None else dotted(registry.get(plugin).ablations[name])


def _length(run: Run) -> tuple[int, tuple[str, ...]]:
    return len(run.training.command), run.training.command


def _is_mean(place: tuple[int, Column]) -> bool:
    """Whether a numbered column is the mean of others."""
    group = place[1][0]
    return group is not None and bool(group.mean)


def _row(line: Line, cells: Sequence[Cell]) -> dict[str, Any]:
    """What `table.json` holds of a row, and the reason if all its cells are as printed."""
    row, group = line
    name = f"{row.name}, {group.name}" if group is not None and group.name else row.name
    reason = cells[0].reason if all(cell.reason for cell in cells) else None
    return {"name": name, "plugin": row.plugin, "ablation": row.ablation, "printed_only": row.missing or reason}


def _column(column: Column, experiment: Experiment) -> dict[str, Any]:
    """What `table.json` holds of a column."""
    group, metric, point = column
    if group is not None:
        name = column_name(group, metric)
    else:
        name = f"{experiment.sweep.label} = {point}" if experiment.sweep else ""
        name += f" {metric.name}" if len(experiment.metrics) > 1 else ""
    corpus = group.corpus if group is not None else None
    return {"name": name, "corpus": corpus, "split": metric.split, "metric": metric.metric}
