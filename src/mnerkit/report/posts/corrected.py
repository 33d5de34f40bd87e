"""How many gold entities a method finds that another one misses, and the other way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnerkit.errors import DataError
from mnerkit.report.posts.answers import Library, file_of
from mnerkit.report.tables.tables import Filled


def counts(filled: Filled, library: Library) -> list[dict[str, Any]]:
    """Of each cell, against its column's baseline: `corrected`, `spoiled` and `gold` entities, a seed on average.

    An entity is corrected where the baseline misses it and the method finds it, and spoiled the other way round. Only
    of tables that ask for it (`draw: [counts]`) and have a baseline row; cells that were not asked alike are left out.
    """
    baseline = filled.table.baseline_row
    if "counts" not in filled.table.draw or baseline is None:
        return []
    found = []
    for (row, column), figure in filled.figures.items():
        other = filled.at(baseline, column)
        if row == baseline or other is None:
            continue
        of_other = {record.seed: record.path for record in other.records}
        pairs = [(of_other[record.seed], record.path) for record in figure.records if record.seed in of_other]
        try:
            told = [_of_pair(library, a, b, filled.table.columns[column].split) for a, b in pairs]
        except DataError:
            continue
        if told:
            sums = [sum(each) / len(told) for each in zip(*told, strict=True)]
            found.append({"r": row, "c": column, "corrected": sums[0], "spoiled": sums[1], "gold": sums[2]})
    return found


def _of_pair(library: Library, a: Path, b: Path, split: str) -> tuple[int, int, int]:
    """Corrected, spoiled and gold entities of a run b against a run a."""
    asked = library.of(a, split)
    if library.of(b, split) is not asked:
        raise DataError(f"{a} and {b} were not asked alike: other posts, types or episodes")
    of_a, of_b = asked.runs[file_of(a, split)], asked.runs[file_of(b, split)]
    corrected = spoiled = gold = 0
    for place, post in enumerate(asked.posts):
        found_a, found_b = (post.gold & asked.answers[place][of[place]] for of in (of_a, of_b))
        corrected += len(found_b - found_a)
        spoiled += len(found_a - found_b)
        gold += len(post.gold)
    return corrected, spoiled, gold
