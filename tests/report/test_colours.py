"""Texts of the report's pages stand out from what they stand on, in light and in dark (WCAG AA: 4.5)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

Colour = tuple[float, float, float]
TEXTS = {"page/page.css": ("ink", "soft", "accent", "wrong"), "posts/cases.html": ("ink", "soft", "right", "wrong")}


def themes(name: str) -> list[dict[str, Colour]]:
    """The colours of a style sheet, by their names, of each block that sets them."""
    text = files("mnerkit.report").joinpath(name).read_text(encoding="utf-8")
    blocks = re.findall(r":root[^{]*\{([^}]*)\}", text)
    return [
        {key: rgb(value) for key, value in re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block)}
        for block in blocks
        if "--ground" in block
    ]


def rgb(text: str) -> Colour:
    digits = text[1:] if len(text) == 7 else "".join(each * 2 for each in text[1:])
    red, green, blue = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    return red, green, blue


def contrast(one: Colour, other: Colour) -> float:
    def light(colour: Colour) -> float:
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in colour]
        return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(above: Colour, below: Colour, opacity: float) -> Colour:
    red, green, blue = (opacity * a + (1 - opacity) * b for a, b in zip(above, below, strict=True))
    return red, green, blue


def test_contrast_is_that_of_the_definition() -> None:
    assert contrast(rgb("#fff"), rgb("#000")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_stand_out_from_the_page_and_its_cards(name: str) -> None:
    found = themes(name)
    assert len(found) == {"page/page.css": 3, "posts/cases.html": 2}[name]
    for theme in found:
        weak = [
            (text, on) for text in TEXTS[name] for on in ("ground", "card") if contrast(theme[text], theme[on]) < 4.5
        ]
        assert weak == []


def test_figures_stand_out_from_the_cells_of_a_map() -> None:
    script = files("mnerkit.report").joinpath("page/figures.js").read_text(encoding="utf-8")
    (opacity,) = re.findall(r"\(big \? ([\d.]+) : 1\)", script)
    for theme in themes("page/page.css"):
        for cell in ("accent", "wrong"):
            assert contrast(theme["ink"], mixed(theme[cell], theme["card"], float(opacity))) >= 4.5
