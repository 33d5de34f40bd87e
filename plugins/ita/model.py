"""ITA: what is known of a picture in words, behind the post's words, and the words alone (Wang et al. 2022)."""

from __future__ import annotations

from mnerkit.methods.two_views import TwoViewEncoder
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.ita.options import ItaOptions


class ItaEncoder(TwoViewEncoder):
    """Words and context; in training also the words alone, unless neither their tags nor the agreement count."""

    def __init__(self, tower: TextTower, o: ItaOptions, aligned: bool) -> None:
        super().__init__(tower, o, trains_both=aligned or o.text_weight > 0)
