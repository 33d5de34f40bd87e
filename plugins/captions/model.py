"""The picture's caption as a second segment, to which words attend in the text tower."""

from __future__ import annotations

from mnerkit.methods.two_views import TwoViewEncoder
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.captions.options import CaptionsOptions


class CaptionsEncoder(TwoViewEncoder):
    """Words and caption, and with `agreement` words alone."""

    def __init__(self, tower: TextTower, o: CaptionsOptions) -> None:
        super().__init__(tower, o, trains_both=bool(o.agreement), hidden=o.caption_dropout)
