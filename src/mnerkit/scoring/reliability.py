"""How far the scores of entities can be taken at their word. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BINS = 10
PLACES = 4


def reliability(scored: Iterable[tuple[float, bool]]) -> dict[str, Any] | None:
    """Scores of predicted entities beside the share of them that is right.

    Args:
        scored: of each predicted entity its score, from 0 to 1, and whether it is right (bounds and type).

    Returns:
        `entities`, their number; `error`, the expected calibration error (Guo et al., 2017): the difference between
        mean score and share that is right, mean over bins weighted by their entities; `bins`, of each of ten equal bins
        with any entity: lower bound, mean score, share that is right, number of entities. None without entities.
    """
    sums = [[0.0, 0, 0] for _ in range(BINS)]  # scores, right ones, entities
    for score, right in scored:
        row = sums[min(int(score * BINS), BINS - 1)]
        row[0], row[1], row[2] = row[0] + score, row[1] + right, row[2] + 1
    total = sum(count for *_, count in sums)
    if not total:
        return None
    bins = [
        [place / BINS, round(score / count, PLACES), round(right / count, PLACES), count]
        for place, (score, right, count) in enumerate(sums)
        if count
    ]
    error = sum(abs(score - right) for score, right, _ in sums) / total
    return {"entities": total, "error": round(error, PLACES), "bins": bins}
