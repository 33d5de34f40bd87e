"""One colour for each entity type, wherever entities are shown: terminal, pages, notebooks and figures."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

# Okabe and Ito's colours, with a brown in place of black, which a dark page would hide; told apart by colour-blind
# readers too
PALETTE = ("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#6E4B2A")
# types that most corpora have, by the beginning of their names
_USUAL = ("PER", "LOC", "ORG", "MISC")
_ALIASES = {"OTHER": "MISC", "OTH": "MISC"}


def colours_of(types: Iterable[str]) -> dict[str, str]:
    """The colour (`#RRGGBB`) of each type, whatever their order; beyond seven types colours are used again."""
    names = list(dict.fromkeys(types))
    places: dict[str, int] = {}
    for name in sorted(names, key=lambda name: (_usual(name) is None, name)):
        usual = _usual(name)
        # the name decides, so that a type keeps its colour beside other types as long as nothing is in its way
        first = zlib.crc32(name.encode("utf-8", "surrogatepass")) % len(PALETTE) if usual is None else usual
        taken = set(places.values())
        order = [(first + step) % len(PALETTE) for step in range(len(PALETTE))]
        places[name] = next((place for place in order if place not in taken), first)
    return {name: PALETTE[places[name]] for name in names}


def letters_on(colour: str) -> str:
    """Black or white (`#RRGGBB`), whichever stands out more from a colour: always by 4.5 to 1 and more."""
    red, green, blue = (_linear(int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # of the contrasts (light + 0.05) / 0.05 and 1.05 / (light + 0.05)
    return "#000000" if (light + 0.05) ** 2 > 0.0525 else "#FFFFFF"


def _usual(name: str) -> int | None:
    upper = _ALIASES.get(name.upper(), name.upper())
    return next((place for place, usual in enumerate(_USUAL) if upper.startswith(usual)), None)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
