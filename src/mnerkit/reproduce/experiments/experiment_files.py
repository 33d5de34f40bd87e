"""Experiment files: `experiments/<paper>/<table or figure>.yaml`, read strictly (README.md there tells the keys)."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.errors import DataError, UsageError, did_you_mean
from mnerkit.reproduce.experiments.experiment import DATA, Experiment, Group, Metric, Row, Sweep, column_name
from mnerkit.reproduce.experiments.printed import Erratum, Printed, erratum
from mnerkit.reproduce.experiments.strict import Key, check, one_of, read
from mnerkit.runs.figures.figure_file import KINDS

PROFILES = "profiles"
# what can be asked for as `draw`; tables, bars and curves are drawn of every table that has them
DRAWN = ("table", "bars", "curve", "counts", *KINDS)

_TEXT, _NAME, _MAP = Key((str,)), Key((str,), needed=True), Key((dict,))
_LIST, _TEXTS = Key((list,)), Key((list,), inner=str)
EXPERIMENT = {
    "title": _NAME,
    "what": Key((str,), needed=True, choices=("table", "sweep", "curve", "figure")),
    "note": _NAME,
    "data": Key((str,), needed=True, choices=DATA),
    "seeds": Key((list,), needed=True),
    "options": _MAP,
    "printed": _MAP,
    "errata": _LIST,
    "baseline": _TEXT,
    "draw": _TEXTS,
    "x": _TEXT,
    "sweep": _MAP,
    "groups": Key((list,), needed=True),
    "metrics": Key((list,), needed=True),
    "rows": Key((list,), needed=True),
    "differs": _TEXTS,
}
ROW = {
    "name": _NAME,
    "plugin": _TEXT,
    "ablation": _TEXT,
    "options": _MAP,
    "printed": Key((str, bool)),
    "missing": _TEXT,
    "only": _TEXTS,
    "pictures": Key((bool,)),
    "why": _TEXT,
    "differs": _TEXTS,
}
GROUP = {"name": Key((str,)), "corpus": _TEXT, "options": _MAP, "where": _MAP, "mean": _TEXTS}
METRIC = {"name": _NAME, "metric": _NAME, "printed": _TEXT, "split": Key((str,), choices=("dev", "test"))}
SWEEP = {"option": _NAME, "label": _TEXT, "values": Key((list,), needed=True), "best": Key((int, float, str))}
PRINTED = {"file": _NAME, "row": _NAME, "scale": Key((int, float))}
ERRATUM = {"row": _NAME, "column": _TEXT, "location": _NAME, "corrected": Key((int, float))}


def load(path: Path, folder: Path) -> Experiment:
    """Read an experiment file, strictly.

    Args:
        path: the file.
        folder: the folder of all experiments.

    Raises:
        DataError: a key, plugin, ablation or printed figure that does not exist, with the nearest one.
    """
    where = str(path)
    content = check(read(path), EXPERIMENT, where)
    rows = tuple(_row(each, f"{where}: rows[{number}]") for number, each in enumerate(content["rows"]))
    profiles = {each.stem: each for each in (folder / PROFILES).glob("*.yaml")}
    for row in rows:
        for name in row.only:
            one_of(name, profiles, "profile", f"{where}: row {row.name!r}: only")
    groups = tuple(_group(each, f"{where}: groups[{number}]") for number, each in enumerate(content["groups"]))
    metrics = tuple(_metric(each, f"{where}: metrics[{number}]") for number, each in enumerate(content["metrics"]))
    for kind, parts in (("row", rows), ("group", groups), ("metric", metrics)):
        _once([each.name for each in parts], kind, where)
    for group in groups:
        for name in group.mean:
            one_of(
                name, {each.name: each for each in groups if not each.mean}, "group", f"{where}: group {group.name!r}"
            )
    if not content["seeds"] or not all(isinstance(seed, int) and seed >= 0 for seed in content["seeds"]):
        raise DataError(f"{where}: seeds must be whole numbers, got {content['seeds']!r}")
    experiment = Experiment(
        name=path.relative_to(folder).with_suffix("").as_posix(),
        file=path,
        title=content["title"],
        what=content["what"],
        note=" ".join(content["note"].split()),
        data=content["data"],
        seeds=tuple(content["seeds"]),
        options=_options(content.get("options"), where),
        rows=rows,
        groups=groups,
        metrics=metrics,
        sweep=_sweep(content.get("sweep"), content["what"], where),
        x=content.get("x"),
        baseline=_baseline(content.get("baseline"), content["what"], rows, where),
        draw=_drawn(content.get("draw") or [], where),
        differs=tuple(content.get("differs") or ()),
        printed=_printed(content.get("printed"), path.parent, where),
        errata=_errata(content.get("errata") or [], rows, groups, metrics, path, folder),
    )
    for row in rows:
        for group in groups:
            for metric in metrics:
                experiment.figure(row, group, metric)  # each must be found, or be said not to be there
    return experiment


@cache
def _plugins() -> dict[str, registry.Plugin]:
    return registry.plugins()


def _row(content: Any, where: str) -> Row:
    content = check(content, ROW, where)
    where = f"{where} ({content['name']})"
    if ("plugin" in content) == ("missing" in content):
        raise DataError(f"{where}: a row has either a plugin or the reason why it is missing")
    if "plugin" in content:
        known = _plugins()
        one_of(content["plugin"], known, "plugin", where)
        if "ablation" in content:
            one_of(content["ablation"], known[content["plugin"]].ablations, "ablation", where)
    if ("only" in content or content.get("pictures", False)) != ("why" in content):
        raise DataError(f"{where}: 'only' or 'pictures: true' and 'why' belong together")
    printed = content.get("printed", True)
    return Row(
        name=content["name"],
        plugin=content.get("plugin"),
        ablation=content.get("ablation"),
        options=_options(content.get("options"), where),
        printed=printed if isinstance(printed, str) else (content["name"] if printed else None),
        missing=content.get("missing"),
        only=tuple(content.get("only") or ()),
        why=content.get("why"),
        differs=tuple(content.get("differs") or ()),
        pictures=content.get("pictures", False),
    )


def _group(content: Any, where: str) -> Group:
    content = check(content, GROUP, where)
    if ("corpus" in content) == ("mean" in content):
        raise DataError(f"{where}: a group has either a corpus or the groups whose mean it is")
    return Group(
        name=content.get("name", ""),
        corpus=content.get("corpus"),
        options=_options(content.get("options"), where),
        where={key: str(value) for key, value in content["where"].items()} if "where" in content else None,
        mean=tuple(content.get("mean") or ()),
    )


def _metric(content: Any, where: str) -> Metric:
    content = check(content, METRIC, where)
    return Metric(content["name"], content["metric"], content.get("printed"), content.get("split", "test"))


def _drawn(content: list[Any], where: str) -> tuple[str, ...]:
    for kind in content:
        one_of(str(kind), dict.fromkeys(DRAWN), "figure to draw", where)
    return tuple(content)


def _sweep(content: Any, what: str, where: str) -> Sweep | None:
    if (content is not None) != (what == "sweep"):
        raise DataError(f"{where}: what {what!r} and the key 'sweep' do not fit")
    if content is None:
        return None
    content = check(content, SWEEP, f"{where}: sweep")
    values = tuple(content["values"])
    if not values or any(value in values[:place] for place, value in enumerate(values)):
        raise DataError(f"{where}: sweep: values must be some, and different: {list(values)}")
    if "best" in content and content["best"] not in values:
        raise DataError(f"{where}: sweep: best {content['best']!r} is not among the values")
    _options({content["option"]: values[0]}, f"{where}: sweep")
    return Sweep(content["option"], content.get("label", content["option"]), values, content.get("best"))


def _options(content: Any, where: str) -> dict[str, Any]:
    """Dotted options of mnerkit fit."""
    for name in content or {}:
        if not isinstance(name, str) or name.partition(".")[0] not in ("model", "data", "trainer", "early_stopping"):
            raise DataError(f"{where}: options are named as on the command line (model.lr, data.k_shot), not {name!r}")
    return dict(content or {})


def _baseline(name: str | None, what: str, rows: Sequence[Row], where: str) -> int | None:
    if name is None:
        return None
    if what == "sweep":
        raise DataError(f"{where}: baseline: a sweep has none, since each of its lines is a row in one group")
    one_of(name, {row.name: row for row in rows}, "row", f"{where}: baseline")
    return [row.name for row in rows].index(name)


def _printed(content: Any, folder: Path, where: str) -> Printed | None:
    if content is None:
        return None
    content = check(content, PRINTED, f"{where}: printed")
    return Printed(folder / content["file"], content["row"], content.get("scale", 1))


def _errata(
    content: list[Any],
    rows: Sequence[Row],
    groups: Sequence[Group],
    metrics: Sequence[Metric],
    path: Path,
    folder: Path,
) -> dict[tuple[str, str | None], Erratum]:
    """(row, column) -> what is wrong there; column None for the whole row."""
    papers = {"mousing": "MOUSING", "mgips_cl": "MGIPS-CL", "gmf": "GMF", "gei": "GEI", "gifr": "GIFR"}
    columns = {column_name(group, metric): None for group in groups for metric in metrics}
    found: dict[tuple[str, str | None], Erratum] = {}
    for number, each in enumerate(content):
        where = f"{path}: errata[{number}]"
        line = check(each, ERRATUM, where)
        one_of(line["row"], {row.name: row for row in rows}, "row", where)
        if "column" in line:
            one_of(line["column"], columns, "column", where)
        if "corrected" in line and "column" not in line:
            raise DataError(f"{where}: a corrected figure belongs to a column")
        paper = papers.get(path.parent.name, path.parent.name)
        said = erratum(folder, paper, line["location"], line.get("corrected"), where)
        place = line["row"], line.get("column")
        found[place] = found[place] + said if place in found else said
    return found


def _once(names: Sequence[str], kind: str, where: str) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"{where}: two {kind}s are called {twice[0]!r}")


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
        found = [name for name in experiments if fnmatch.fnmatchcase(name, plain) or name.startswith(f"{plain}/")]
        if not found:
            near = did_you_mean(plain, [*experiments, *{each.paper for each in experiments.values()}])
            raise UsageError(f"no experiment matches {pattern!r}.{near} There are: {', '.join(experiments)}")
        chosen.update(found)
    return [experiment for name, experiment in experiments.items() if name in chosen]
