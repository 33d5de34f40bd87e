"""What a tower computes, counted."""

from __future__ import annotations

from typing import Any


def counted(tower: Any) -> list[int]:
    """How many inputs each run of the tower computes; the list grows as it runs."""
    runs: list[int] = []
    inner = tower._states

    def states(given: Any) -> Any:
        runs.append(len(given.words) if hasattr(given, "words") else len(given))
        return inner(given)

    tower._states = states
    return runs
