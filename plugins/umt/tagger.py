"""Plugin `umt`."""

from __future__ import annotations

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.umt.model import UmtEncoder
from mnerkit_plugins.umt.options import UmtOptions

MIXING_HEADS = ("softmax", "crf", "finetune")


class UmtTagger(PictureTagger):
    """UMT: words and regions attend to each other, and a span task corrects what pictures suggest (ACL 2020)."""

    plugin = "umt"
    options_class = UmtOptions
    encoder: UmtEncoder

    def make_encoder(self) -> UmtEncoder:
        text, kinds = self.make_text(), self.piece_tags
        sight = None if self.options.fuse == "none" else self.make_sight(text)
        others = 0 if kinds is None else len(kinds.names)
        return UmtEncoder(text, sight, self.options, others, self.head.name in MIXING_HEADS)

    def loss_weights(self) -> dict[str, float]:
        return {"span": self.options.span_weight}
