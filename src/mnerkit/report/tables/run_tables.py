"""Tables of runs that no table file names: one of all runs, and one of the ablations of each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mnerkit.report.folders import Record
from mnerkit.report.tables.evaluation_setting import Evaluation, distinctions, evaluation_of
from mnerkit.report.tables.table_file import Cell, Column, Row, Table
from mnerkit.runs.run_folder import deciding, dotted

METRICS = {"f1": "F1", "precision": "P", "recall": "R"}


def of_runs(records: Iterable[Record]) -> Table | None:
    """A table of runs that no table file names: a row for each configuration, columns for each evaluation."""
    scored = sorted(_scored(records), key=lambda pair: (pair[0].label, str(pair[0].path)))
    rows: dict[tuple[str, str, str], list[tuple[Record, Evaluation]]] = {}
    for record, evaluation in scored:
        key = record.plugin, record.ablation or "", record.configuration
        rows.setdefault(key, []).append((record, evaluation))
    if not rows:
        return None
    distinction = distinctions(evaluation for _, evaluation in scored)
    evaluations = dict.fromkeys(evaluation for _, evaluation in scored)
    columns = [(evaluation, metric) for evaluation in evaluations for metric in METRICS]
    cells = [
        Cell(row=row, column=column, runs=runs, metric=metric, state="done")
        for row, members in enumerate(rows.values())
        for column, (evaluation, metric) in enumerate(columns)
        if (runs := _one_a_seed([record for record, own in members if own == evaluation]))
    ]
    return Table(
        experiment="runs",
        title="Runs",
        note="Runs that belong to no table: one row a configuration, over its seeds.",
        rows=tuple(Row(name=_joined(*key), plugin=key[0]) for key in rows),
        columns=tuple(
            Column(
                name=_joined(*_named(evaluation), distinction[evaluation], METRICS[metric]),
                split=_named(evaluation)[1],
                metric=metric,
            )
            for evaluation, metric in columns
        ),
        cells=tuple(cells),
    )


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
            Cell(row=row, column=0, runs=_one_a_seed(runs), state="done") for row, runs in enumerate(nearest.values())
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
        a, b = (_options(records[0]) for records in (one, other))
        return sum(a.get(key) != b.get(key) for key in a.keys() | b.keys())

    def to_others(full: list[Record]) -> int:
        return sum(min(distance(full, runs) for runs in variants[name].values()) for name in others)

    others = [name for name in sorted(variants) if name]
    full = min(variants[""].values(), key=lambda runs: (to_others(runs), -len(runs)))
    nearest = {
        name: min(variants[name].values(), key=lambda runs: (distance(full, runs), -len(runs))) for name in others
    }
    return {"": full, **nearest}


def _options(record: Record) -> dict[str, str]:
    """Every option that decides the result, but for seed and ablation."""
    options = dotted(deciding(record.settings))
    return {key: str(value) for key, value in options.items() if key not in ("seed", "ablation")}


def _one_a_seed(records: list[Record]) -> tuple[Path, ...]:
    return tuple({record.seed: record.path for record in reversed(records)}.values())
