"""How many gold entities one method finds and another misses, and the other way round."""

from __future__ import annotations

from typing import Any

from mnerkit.errors import DataError
from mnerkit.report.posts.answers import Library
from mnerkit.report.tables.tables import Filled, runs_of_one_seed


def counts(filled: Filled, library: Library) -> list[dict[str, Any]]:
    """`corrected`, `spoiled` and `gold` entities of each cell against its column's baseline, on average over seeds.

    An entity is corrected where the baseline misses it and the method finds it, and spoiled the other way round. Only
    of tables that ask for it (`draw: [counts]`) and have a baseline row. Cells that were scored on other posts than
    the baseline are left out.
    """
    baseline = filled.table.baseline_row
    if "counts" not in filled.table.draw or baseline is None:
        return []
    rows = []
    for (row, column), figure in filled.figures.items():
        other = filled.at(baseline, column)
        if row == baseline or other is None:
            continue
        pairs = runs_of_one_seed(other, figure)
        try:
            split = filled.table.columns[column].split
            sets = [library.of_pair(a, b, split) for a, b in pairs]
        except DataError:
            continue
        if pairs:
            counts_by_seed = [posts.corrections(a, b) for posts, a, b in sets]
            corrected, spoiled, gold = (sum(values) / len(pairs) for values in zip(*counts_by_seed, strict=True))
            rows.append({"r": row, "c": column, "corrected": corrected, "spoiled": spoiled, "gold": gold})
    return rows
