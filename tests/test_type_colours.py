"""Colours of entity types: the same for a type everywhere, legible, and apart for colour-blind readers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mnerkit.type_colours import PALETTE, colours_of, letters_on

# what is left of linear red, green and blue (Machado, Oliveira and Fernandes 2009, severity 1)
SIGHTS = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, D65."""
    shares = XYZ @ rgb / XYZ.sum(axis=1)
    x, y, z = np.where(shares > 0.008856, np.cbrt(shares), 7.787 * shares + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHTS)
def test_two_types_are_told_apart_by_every_sight(sight: str) -> None:
    seen = {colour: lab(np.clip(np.array(SIGHTS[sight]) @ linear(colour), 0, 1)) for colour in PALETTE}
    # a difference of 2.3 is just noticeable
    near = [pair for pair in combinations(PALETTE, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < 15]
    assert near == []


@pytest.mark.parametrize("colour", [*PALETTE, "#757575", "#777777"])
def test_letters_stand_out_from_their_colour(colour: str) -> None:
    light, other = (float(XYZ[1] @ linear(each)) for each in (colour, letters_on(colour)))
    assert (max(light, other) + 0.05) / (min(light, other) + 0.05) >= 4.5


def test_a_type_has_one_colour_whatever_stands_beside_it() -> None:
    usual = colours_of(["PER", "LOC", "ORG", "MISC"])
    assert list(usual.values()) == list(PALETTE[:4])
    assert colours_of(["MISC", "ORG", "x", "LOC", "PER"]).items() >= usual.items()
    assert colours_of(["person", "OTHER"]) == {"person": PALETTE[0], "OTHER": PALETTE[3]}
    assert colours_of(["FOOD", "VEH"]) == colours_of(["VEH", "FOOD"])
    assert len(set(colours_of(map(str, range(9))).values())) == len(PALETTE)
