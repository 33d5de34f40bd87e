"""Tables of runs that no table file names: all of them, and of each method what its parts are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mnerkit.report.folders import Record
from mnerkit.report.tables.questions import Question, distinctions, question
from mnerkit.report.tables.table_file import Cell, Column, Row, Table
from mnerkit.runs.run_folder import deciding, dotted


def of_runs(records: Sequence[Record]) -> Table | None:
    """A table of runs that no table file names: a row for each configuration, columns for each question."""
    scored = [(record, record.splits()[0]) for record in records if record.splits()]
    asked: dict[Question, None] = {}
    rows: dict[tuple[str, str, str], list[tuple[Record, Question]]] = {}
    for record, split in sorted(scored, key=lambda each: (each[0].label, str(each[0].path))):
        own = question(record, split)
        asked.setdefault(own)
        rows.setdefault(_method(record), []).append((record, own))
    if not rows:
        return None
    short = {"f1": "F1", "precision": "P", "recall": "R"}
    columns = [(each, metric) for each in asked for metric in short]
    cells = []
    for number, members in enumerate(rows.values()):
        for place, (wanted, metric) in enumerate(columns):
            runs = _one_a_seed([record for record, own in members if own == wanted])
            if runs:
                cells.append(Cell(row=number, column=place, runs=runs, metric=metric, state="done"))
    rest = distinctions(asked)
    return Table(
        experiment="runs",
        title="Runs",
        note="Runs that belong to no table: one row a configuration, over its seeds.",
        rows=tuple(Row(name=_joined(*key), plugin=key[0]) for key in rows),
        columns=tuple(
            Column(name=_joined(*_named(each), rest[each], short[metric]), split=_named(each)[1], metric=metric)
            for each, metric in columns
        ),
        cells=tuple(cells),
    )


def _named(asked: Question) -> tuple[str, str, str]:
    """Corpus, split and training types."""
    facts = dict(asked)
    return facts["corpus"], facts["split"], facts.get("train_types", "")


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _method(record: Record) -> tuple[str, str, str]:
    """Method, ablation and configuration."""
    return record.plugin, record.ablation or "", record.configuration


def ablations(records: Iterable[Record]) -> list[Table]:
    """Of each method and question with ablations among the runs, a table of the full method and what is left out.

    Where a variant was run in several configurations (a sweep, say), those count that differ least from each other.
    """
    groups: dict[tuple[str, Question], dict[str, dict[str, list[Record]]]] = {}
    for record in records:
        for split in record.splits()[:1]:
            variants = groups.setdefault((record.plugin, question(record, split)), {})
            variants.setdefault(record.ablation or "", {}).setdefault(record.configuration, []).append(record)
    made: list[Table] = []
    rest = distinctions(asked for _, asked in groups)
    for (plugin, asked), variants in sorted(groups.items()):
        if "" not in variants or len(variants) < 2:
            continue
        chosen = _nearest(variants)
        corpus, split, types = _named(asked)
        made.append(
            Table(
                experiment=f"ablations-{len(made) + 1}",
                title=_joined(plugin, "on", corpus, types, rest[asked], f"({split})"),
                rows=tuple(Row(name=name or "full", plugin=plugin) for name in chosen),
                columns=(Column(name="F1", split=split),),
                cells=tuple(
                    Cell(row=row, column=0, runs=_one_a_seed(each), state="done")
                    for row, each in enumerate(chosen.values())
                ),
                baseline_row=0,
            )
        )
    return made


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


def _one_a_seed(records: Sequence[Record]) -> tuple[Path, ...]:
    return tuple({record.seed: record.path for record in reversed(records)}.values())
