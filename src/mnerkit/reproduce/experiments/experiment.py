"""What an experiment is: the runs that make one table or figure of a paper, and what the paper prints there.

The classes describe the content of `experiments/<paper>/<table or figure>.yaml`; README.md there explains the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mnerkit import registry
from mnerkit.reproduce.experiments.printed import Erratum, Figure, Printed
from mnerkit.runs.figure_file import KINDS
from mnerkit.validation import Content, ListOf, Place, Text, one_of
from mnerkit.validation import Figure as Number

# values of `draw`; tables, bars and curves are drawn of every table that has them
DRAWN = ("table", "bars", "curve", "counts", *KINDS)
SECTIONS = ("model", "data", "trainer", "early_stopping")
NO_OPTIONS: dict[Any, Any] = {}


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name.partition(".")[0] not in SECTIONS:
            raise ValueError(f"options are named as on the command line (model.lr, data.k_shot), not {name!r}")
    return options


# which data an experiment needs: posts with one picture, few-shot splits of them, posts with several pictures
DataKind = Literal["posts", "fewshot", "multi"]
PluginName = Annotated[str, AfterValidator(lambda name: one_of(name, registry.plugins(), "plugin"))]
Drawing = Annotated[str, AfterValidator(lambda name: one_of(name, DRAWN, "figure to draw"))]
# a text over several lines of the file, as one line
Line = Annotated[Text, AfterValidator(lambda text: " ".join(text.split()))]
# options of `mnerkit fit`, by their dotted names
RunOptions = Annotated[dict[str, Any], AfterValidator(_check_options)]


class Row(Content):
    """One method, or one variant of it.

    Attributes:
        printed: what the paper's table calls it; true: as it is called here, false: it is not in it.
        missing: why mnerkit can't run it; None where it can.
        only: profiles in which it is run; in others it is as printed, because of `why`.
        pictures: whether it is as printed, because of `why`, where captions stand in for pictures.
        differs: why our figures can't be compared with the printed ones, in any profile.
    """

    name: Text
    plugin: PluginName | None = None
    ablation: Text | None = None
    options: RunOptions = NO_OPTIONS
    printed: Text | bool = True
    missing: Text | None = None
    only: ListOf[Text] = ()
    pictures: bool = False
    why: Text | None = None
    differs: ListOf[Text] = ()

    @model_validator(mode="after")
    def _check(self) -> Row:
        if (self.plugin is None) == (self.missing is None):
            raise ValueError("a row has either a plugin or the reason why it is missing")
        if self.plugin is not None and self.ablation is not None:
            one_of(self.ablation, registry.get(self.plugin).ablations, "ablation")
        if (bool(self.only) or self.pictures) != (self.why is not None):
            raise ValueError("'only' or 'pictures: true' and 'why' belong together")
        for profile in self.only:
            one_of(profile, self._context["profiles"], "profile")
        return self

    @property
    def printed_name(self) -> str | None:
        """What the paper's table calls it; None where it is not in it."""
        return self.printed if isinstance(self.printed, str) else (self.name if self.printed else None)


class Group(Content):
    """Columns of one corpus, or the means of others.

    Attributes:
        where: what stands in the lines of the printed figures; None where the paper prints none.
        mean: the groups whose mean it is; empty for a corpus.
    """

    name: Text = ""
    corpus: Text | None = None
    options: RunOptions = NO_OPTIONS
    where: dict[str, str | int | float] | None = None
    mean: ListOf[Text] = ()

    @model_validator(mode="after")
    def _check(self) -> Group:
        if (self.corpus is None) == (not self.mean):
            raise ValueError("a group has either a corpus or the groups whose mean it is")
        return self


class Metric(Content):
    """One figure of a run: its name in the table, its key in `metrics.json`, its column among the printed figures."""

    name: Text
    metric: Text
    printed: Text | None = None
    split: Literal["dev", "test"] = "test"


class Sweep(Content):
    """One option, and the values that it takes; `best` is the paper's choice."""

    option: Text
    label: Text = Field(default_factory=lambda keys: keys.get("option", ""))
    values: ListOf[Any]
    best: int | Number | Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Sweep:
        if not self.values or any(value in self.values[:place] for place, value in enumerate(self.values)):
            raise ValueError(f"values must be some, and different: {list(self.values)}")
        if self.best is not None and self.best not in self.values:
            raise ValueError(f"best {self.best!r} is not among the values")
        _check_options({self.option: None})
        return self

    def points(self, count: int | None) -> tuple[Any, ...]:
        """All values, or at most `count` of them: the ends, the best, then those between, in order."""
        if count is None or count >= len(self.values):
            return self.values
        last = len(self.values) - 1
        best = [self.values.index(self.best)] if self.best in self.values else []
        by_worth = dict.fromkeys([0, last, *best, last // 2, *range(last)])
        return tuple(self.values[place] for place in sorted(list(by_worth)[:count]))


class Experiment(Content):
    """A file of `experiments/`, not yet at the size of a profile."""

    title: Text
    what: Literal["table", "sweep", "curve", "figure"]
    note: Line
    data: DataKind
    seeds: ListOf[Place] = Field(min_length=1)
    options: RunOptions = NO_OPTIONS
    printed: Printed | None = None
    errata: ListOf[Erratum] = ()
    baseline: Text | None = None
    draw: ListOf[Drawing] = ()
    x: Text | None = None
    sweep: Sweep | None = None
    groups: ListOf[Group]
    metrics: ListOf[Metric]
    rows: ListOf[Row]
    differs: ListOf[Text] = ()

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        rows, groups = [row.name for row in self.rows], [group.name for group in self.groups]
        for kind, names in (("row", rows), ("group", groups), ("metric", [metric.name for metric in self.metrics])):
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise ValueError(f"two {kind}s are called {twice[0]!r}")
        for name in (name for group in self.groups for name in group.mean):
            one_of(name, [group.name for group in self.groups if not group.mean], "group")
        if (self.sweep is not None) != (self.what == "sweep"):
            raise ValueError(f"what {self.what!r} and the key 'sweep' do not fit")
        if self.sweep is not None and any(group.mean for group in self.groups):
            raise ValueError("groups of a sweep are corpora, not means")
        if self.baseline is not None:
            if self.sweep is not None:
                raise ValueError("baseline: a sweep has none, since each of its lines is a row in one group")
            one_of(self.baseline, rows, "row")
        for erratum in self.errata:
            one_of(erratum.row, rows, "row")
            if erratum.column is not None:
                one_of(erratum.column, [column_name(*column) for column in self.columns], "column")
        for row in self.rows:
            for group, metric in self.columns:
                self.figure(row, group, metric)  # each must exist, or be declared as missing
        return self

    @property
    def file(self) -> Path:
        """Where it stands."""
        return self._context["file"]

    @property
    def name(self) -> str:
        """Its paper's folder and its file, without suffix: `mousing/table2`."""
        return self.file.relative_to(self._context["folder"]).with_suffix("").as_posix()

    @property
    def paper(self) -> str:
        """The folder of its paper."""
        return self.name.partition("/")[0]

    @property
    def columns(self) -> Sequence[tuple[Group, Metric]]:
        """The columns of its table, unless it is a sweep."""
        return [(group, metric) for group in self.groups for metric in self.metrics]

    def parts(self, group: Group) -> list[Group]:
        """The groups whose mean a group is; itself, where it is one of a corpus."""
        groups = {part.name: part for part in self.groups}
        return [groups[name] for name in group.mean] or [group]

    @property
    def baseline_row(self) -> int | None:
        """The number of the row that others are compared with."""
        return None if self.baseline is None else [row.name for row in self.rows].index(self.baseline)

    def figure(self, row: Row, group: Group, metric: Metric) -> Figure:
        """What the paper prints there, if anything, and all errata of the figure and of its row."""
        if self.printed is None or row.printed_name is None or metric.printed is None or group.where is None:
            return Figure()
        where = {key: str(value) for key, value in group.where.items()}
        figure = self.printed.figure(row.printed_name, where, metric.printed)
        mine = [erratum for erratum in self.errata if erratum.row == row.name]
        errata = [erratum for erratum in mine if erratum.column == column_name(group, metric)]
        errata += [erratum for erratum in mine if erratum.column is None]
        corrected = next((erratum.corrected for erratum in errata if erratum.corrected is not None), None)
        return Figure(figure.value, figure.raw, "; also ".join(erratum.text for erratum in errata) or None, corrected)


def column_name(group: Group, metric: Metric) -> str:
    """What a column of the table is called."""
    return f"{group.name} {metric.name}".strip()
