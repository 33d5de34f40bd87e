"""Plugin `mousing`."""

from __future__ import annotations

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit_plugins.mousing.model import MousingEncoder
from mnerkit_plugins.mousing.options import MousingOptions

VIEWS = {"grid_crop": "grid", "pooled_tokens": "whole", "all_tokens": "whole", "captions": "captions"}


class MousingTagger(Tagger):
    """MOUSING: few-shot tagging over a graph of words and patches in two environments (LREC-COLING 2024)."""

    plugin = "mousing"
    options_class = MousingOptions

    def make_encoder(self) -> MousingEncoder:
        o = self.options
        text = self.text_tower(
            "text",
            o.text,
            freeze=o.freeze,
            max_tokens=o.max_tokens,
            word_pool=o.word_pool,
            pos_interp=o.pos_interp,
        )
        pixels = o.use_image and o.image_nodes != "captions"
        return MousingEncoder(text, self.vision_tower("vision", o.vision, freeze=o.freeze) if pixels else None, o)

    def needs(self) -> Needs:
        o, reader = self.options, self.towers["text"].reader
        if not o.use_image:
            return Needs(reader=reader)
        return Needs(
            reader=reader,
            views=frozenset({VIEWS[o.image_nodes]}),
            picture=self.towers["vision"].picture if "vision" in self.towers else None,
            grid=o.grid,
            caption_reader=reader if o.image_nodes == "captions" else None,
        )

    def loss_weights(self) -> dict[str, float]:
        """Eq. 14."""
        return {"head": self.options.trade_off, "kl": 1 - self.options.trade_off}
