"""Predictions written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Spans = list[tuple[int, int, str]]
WORDS = ["Kevin", "Durant", "leaves", "Oakland", "now"]
GOLD: list[Spans] = [[(0, 2, "PER"), (3, 4, "LOC")], [(0, 2, "PER")], [], [(3, 4, "LOC")]] * 6
GOOD = GOLD
BAD: list[Spans] = [[(0, 1, "PER")], [(0, 2, "LOC")], [(4, 5, "ORG")], [(3, 4, "LOC")]] * 6


def tags(spans: Spans) -> list[str]:
    found = ["O"] * len(WORDS)
    for start, end, kind in spans:
        found[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return found


def rows(said: list[Spans], gold: list[Spans] | None = None, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{place}",
            "words": WORDS,
            "entities": [{"start": start, "end": end, "type": kind} for start, end, kind in spans],
            "gold": wanted,
            **more,
        }
        for place, (spans, wanted) in enumerate(zip(said, gold or GOLD, strict=True))
    ]


Write = Callable[..., Path]
