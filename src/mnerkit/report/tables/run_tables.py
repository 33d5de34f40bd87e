"""Tables of runs that no table file names: one of all runs, and one of the ablations of each method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnerkit.atomic_files import is_figure
from mnerkit.report.folders import Record, mapping
from mnerkit.report.tables.evaluation_setting import Evaluation, distinctions, evaluation_of, fold_of
from mnerkit.report.tables.table_file import Cell, Column, Row, Table
from mnerkit.runs.run_folder import deciding, dotted

METRICS = {"f1": "F1", "precision": "P", "recall": "R"}
TESTED = ("f1",)  # P and R are there to explain it; tests of theirs would only weaken its own
# facts that every row's protocol names
_PROTOCOL = ("corpus", "split", "n_way", "k_shot")


@dataclass(frozen=True)
class RunTable:
    """A table of runs, a row for each configuration and evaluation.

    Attributes:
        table: with columns F1, P and R.
        about: what each row was measured on: name -> a text a row.
        facts: what else is known of each row's runs, alike.
    """

    table: Table
    about: dict[str, list[str]]
    facts: dict[str, list[str]]


def of_runs(records: Iterable[Record]) -> RunTable | None:
    """A table of runs: a row for each configuration and evaluation, over its seeds; None without a scored run."""
    scored = sorted(_scored(records), key=lambda pair: (pair[0].label, str(pair[0].path)))
    rows: dict[tuple[Evaluation, tuple[str, ...]], list[Record]] = {}
    for record, evaluation in scored:
        # two files of another program's predictions are never seeds of one configuration
        origin = "" if record.origin == "trained" else f"({record.origin})"
        place = str(record.path) if origin else ""
        key = record.plugin, record.ablation or "", origin, record.configuration, place
        rows.setdefault((evaluation, key), []).append(record)
    if not rows:
        return None
    splits = sorted({record.splits()[0] for record, _ in scored}, key=lambda split: (split != "test", split))
    columns = [(split, metric) for split in splits for metric in METRICS]
    members = [_one_a_seed(own) for own in rows.values()]
    cells = [
        Cell(row=row, column=column, runs=tuple(own.path for own in runs), metric=metric, state="done")
        for row, runs in enumerate(members)
        for column, (split, metric) in enumerate(columns)
        if runs[0].splits()[0] == split
    ]
    names = [" ".join(part for part in key[:3] if part) for _, key in rows]
    again = Counter((evaluation, name) for (evaluation, _), name in zip(rows, names, strict=True))
    # the digest of a configuration distinguishes rows of one method
    names = [
        f"{name} {key[3]}" if again[evaluation, name] > 1 else name
        for (evaluation, key), name in zip(rows, names, strict=True)
    ]
    table = Table(
        experiment="runs",
        title="Runs",
        note="One row a configuration and protocol, over its seeds.",
        rows=tuple(Row(name=name, plugin=key[0]) for name, (_, key) in zip(names, rows, strict=True)),
        columns=tuple(
            Column(
                name=METRICS[metric] if split == "test" else f"{split} {METRICS[metric]}", split=split, metric=metric
            )
            for split, metric in columns
        ),
        cells=tuple(cells),
    )
    distinction = distinctions((evaluation for evaluation, _ in rows), _PROTOCOL)
    about = {
        "corpus": [dict(evaluation)["corpus"] for evaluation, _ in rows],
        "protocol": [
            _joined(protocol_of(runs[0]), distinction[evaluation])
            for (evaluation, _), runs in zip(rows, members, strict=True)
        ],
    }
    return RunTable(table, about, {name: list(map(text, members)) for name, text in FACTS.items()})


def protocol_of(record: Record) -> str:
    """The protocol of a run's scores in few words."""
    protocol = record.protocol
    if not protocol.get("episodic"):
        return "all posts" if (fold := fold_of(protocol)) is None else f"fold {fold}"
    return f"{protocol.get('n_way', '?')}-way {protocol.get('k_shot', '?')}-shot"


def _seeds(runs: Sequence[Record]) -> str:
    return ", ".join(str(seed) for seed in sorted(run.seed for run in runs))


def _dev(runs: Sequence[Record]) -> str:
    values = [value for run in runs if is_figure(value := mapping(run.metrics.get("dev")).get("f1"))]
    return f"{sum(values) / len(values):.2f}" if values else ""


def _time(runs: Sequence[Record]) -> str:
    return duration([seconds for run in runs if (seconds := run.seconds) is not None])


def _parameters(runs: Sequence[Record]) -> str:
    count = runs[0].parameters
    return "" if count is None else short_count(count)


def _date(runs: Sequence[Record]) -> str:
    return max(run.date for run in runs)


FACTS: dict[str, Callable[[Sequence[Record]], str]] = {
    "dev F1": _dev,
    "seeds": _seeds,
    "time": _time,
    "parameters": _parameters,
    "date": _date,
}


def duration(seconds: Sequence[float]) -> str:
    """The mean of some durations, in the unit that makes it easy to read."""
    if not seconds:
        return ""
    mean = sum(seconds) / len(seconds)
    return f"{mean:.0f} s" if mean < 100 else f"{mean / 60:.0f} min" if mean < 6000 else f"{mean / 3600:.1f} h"


def short_count(count: int) -> str:
    """A number of parameters: 254 k, 110 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.{0 if count >= 100 * size else 1}f} {unit}"
    return str(count)


def ablations(records: Iterable[Record]) -> list[Table]:
    """A table for each method and evaluation with ablations: the full method, and the method without each part.

    Where a variant was run in several configurations (a sweep, say), the ones that differ least from each other count.
    """
    groups: dict[tuple[str, Evaluation], dict[str, dict[str, list[Record]]]] = {}
    for record, evaluation in _scored(records):
        variants = groups.setdefault((record.plugin, evaluation), {})
        variants.setdefault(record.ablation or "", {}).setdefault(record.configuration, []).append(record)
    tables: list[Table] = []
    distinction = distinctions(evaluation for _, evaluation in groups)
    for (plugin, evaluation), variants in sorted(groups.items()):
        if "" not in variants or len(variants) < 2:
            continue
        nearest = _nearest(variants)
        corpus, split, types = _named(evaluation)
        cells = [
            Cell(row=row, column=0, runs=tuple(run.path for run in _one_a_seed(runs)), state="done")
            for row, runs in enumerate(nearest.values())
        ]
        tables.append(
            Table(
                experiment=f"ablations-{len(tables) + 1}",
                title=_joined(plugin, "on", corpus, types, distinction[evaluation], f"({split})"),
                rows=tuple(Row(name=name or "full", plugin=plugin) for name in nearest),
                columns=(Column(name="F1", split=split),),
                cells=tuple(cells),
                baseline_row=0,
            )
        )
    return tables


def _scored(records: Iterable[Record]) -> list[tuple[Record, Evaluation]]:
    """The runs that have scores, each with the evaluation of its first split."""
    return [(record, evaluation_of(record, record.splits()[0])) for record in records if record.splits()]


def _named(evaluation: Evaluation) -> tuple[str, str, str]:
    """Corpus, split and training types."""
    facts = dict(evaluation)
    return facts["corpus"], facts["split"], facts.get("train_types", "")


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _nearest(variants: Mapping[str, Mapping[str, list[Record]]]) -> dict[str, list[Record]]:
    """Runs of one configuration of each variant, the full method first."""

    def distance(one: list[Record], other: list[Record]) -> int:
        a, b = (options(records[0]) for records in (one, other))
        return sum(a.get(key) != b.get(key) for key in a.keys() | b.keys())

    def to_others(full: list[Record]) -> int:
        return sum(min(distance(full, runs) for runs in variants[name].values()) for name in others)

    others = [name for name in sorted(variants) if name]
    full = min(variants[""].values(), key=lambda runs: (to_others(runs), -len(runs)))
    nearest = {
        name: min(variants[name].values(), key=lambda runs: (distance(full, runs), -len(runs))) for name in others
    }
    return {"": full, **nearest}


def options(record: Record) -> dict[str, str]:
    """Every option that decides the result, but for seed and ablation."""
    options = dotted(deciding(record.settings))
    return {key: str(value) for key, value in options.items() if key not in ("seed", "ablation")}


def _one_a_seed(records: list[Record]) -> list[Record]:
    return list({record.seed: record for record in reversed(records)}.values())
