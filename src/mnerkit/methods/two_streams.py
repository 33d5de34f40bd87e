"""The base of taggers whose text tower and vision tower step side by side (`towers.fusion.dual_stream`)."""

from __future__ import annotations

from typing import Any

from mnerkit.errors import UsageError
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit.towers.interface import TextTower
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import ClipVisionTower


class TwoStreamTagger(Tagger):
    """Base of methods with the options `text`, `vision`, `tiny_heads`, `max_tokens` and `word_pool`."""

    def two_towers(self) -> tuple[BertTower, BertTower | ClipVisionTower]:
        """The text tower, and the vision tower, or with captions a second text tower like the first.

        Raises:
            UsageError: a tower has no layers that can step.
        """
        o = self.options

        def sizes(spec: str, tiny: str) -> dict[str, Any]:
            return {"heads": o.tiny_heads} if spec == tiny else {}

        def text_tower(name: str) -> TextTower:
            heads = sizes(o.text, "tiny-bert")
            return self.text_tower(name, o.text, max_tokens=o.max_tokens, word_pool=o.word_pool, **heads)

        text = text_tower("text")
        if not isinstance(text, BertTower):
            raise UsageError(
                f"--model.text {o.text}: two streams step layer by layer; give a tower like BERT, or tiny-bert"
            )
        if o.vision == CAPTIONS:
            second = text_tower("vision")
            assert isinstance(second, BertTower)
            return text, second
        vision = self.vision_tower("vision", o.vision, **sizes(o.vision, "tiny-vit"))
        if not isinstance(vision, ClipVisionTower):
            raise UsageError(
                f"--model.vision {o.vision}: two streams step layer by layer; give a CLIP, tiny-vit, or captions"
            )
        return text, vision
