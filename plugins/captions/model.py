"""The picture's caption as second segment: words see it through the text tower's own attention."""

from __future__ import annotations

from mnerkit.encoders.base import TextTower
from mnerkit.encoders.words import WordEncoder
from mnerkit.errors import UsageError


class CaptionsEncoder(WordEncoder):
    """h = Drop(Tower([words; caption])), the states of the words alone.

    Args:
        tower: the text tower; words must see what stands behind them.
        dropout: on word states.

    Raises:
        UsageError: the tower is causal (CLIP's): no word would see the caption.

    """

    def __init__(self, tower: TextTower, dropout: float = 0.1) -> None:
        if tower.causal:
            raise UsageError(
                f"tower {tower.spec} is causal: its words do not see a caption that stands behind them.\n"
                "Give a tower like BERT or RoBERTa as --model.text."
            )
        super().__init__(tower, dropout)
