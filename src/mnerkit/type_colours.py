"""One colour for each entity type, wherever entities are shown: terminal, pages, notebooks and figures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

# Okabe and Ito's colours, told apart by colour-blind readers too
PALETTE = ("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def colours_of(types: Iterable[str]) -> dict[str, str]:
    """The colour (`#RRGGBB`) of each type; beyond seven types colours are used again."""
    return dict(zip(types, cycle(PALETTE), strict=False))
