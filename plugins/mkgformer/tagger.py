"""Plugin `mkgformer`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mnerkit.data.batches.needs import Needs
from mnerkit.errors import UsageError
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit.towers.interface import TextTower
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.mkgformer.model import MkgformerEncoder
from mnerkit_plugins.mkgformer.options import MkgformerOptions


class MkgformerTagger(Tagger):
    """MKGformer: vision attends to text, and text takes vision into its feed-forward networks (SIGIR 2022)."""

    plugin = "mkgformer"
    options_class = MkgformerOptions
    encoder: MkgformerEncoder

    def make_encoder(self) -> MkgformerEncoder:
        o = self.options

        def tower(name: str) -> TextTower:
            sizes = self._sizes(o.text, "tiny-bert")
            return self.text_tower(name, o.text, max_tokens=o.max_tokens, word_pool=o.word_pool, **sizes)

        text = tower("text")
        if not isinstance(text, BertTower):
            raise UsageError(
                f"--model.text {o.text}: two streams step layer by layer; give a tower like BERT, or tiny-bert"
            )
        if o.vision == CAPTIONS:
            vision: Any = tower("vision")
        else:
            vision = self.vision_tower("vision", o.vision, **self._sizes(o.vision, "tiny-vit"))
            if not isinstance(vision, ClipVisionTower):
                raise UsageError(
                    f"--model.vision {o.vision}: two streams step layer by layer; give a CLIP, tiny-vit, or captions"
                )
        return MkgformerEncoder(text, vision, o)

    def _sizes(self, spec: str, tiny: str) -> dict[str, int]:
        return {"heads": self.options.tiny_heads} if spec == tiny else {}

    def needs(self) -> Needs:
        """Crops of one size, the surest first: those that are read smaller are shrunk by the encoder."""
        o, reader, vision = self.options, self.towers["text"].reader, self.towers["vision"]
        if o.vision == CAPTIONS:
            return Needs(reader, frozenset({"captions"}), caption_reader=vision.reader)
        size = o.small_size if o.crop_sets == "small" else o.crop_size
        count = o.max_objects + (o.small_objects if o.crop_sets != "large" else 0)
        return Needs(reader, frozenset({"objects"}), picture=replace(vision.picture, size=size), max_objects=count)
