"""Plugin `cross`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, DROPOUT, WEIGHT, check
from mnerkit_plugins.cross.model import CrossEncoder


class CrossTagger(Tagger):
    """Words look at the regions of the pictures by one cross-attention behind a gate."""

    plugin = "cross"

    def __init__(
        self,
        text: str = "tiny",
        vision: str = "tiny",
        freeze_text: bool = False,
        freeze_vision: bool = False,
        max_tokens: int = 128,
        word_pool: Literal["first", "mean"] = "first",
        max_images: int = 4,
        attention: Literal["cosine", "dot"] = "cosine",
        heads: int = 1,
        gate: bool = True,
        dropout: float = 0.2,
        augment: bool = True,
        matching: float = 0.0,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower: `tiny`, `bilstm`, a hub name such as `bert-base-cased`, or a folder.
            vision: the vision tower: `tiny`, `resnet50`, a hub name (`openai/clip-vit-base-patch32`), or a folder.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: read this many images of a post, the first ones.
            attention: cosine scores with a learnt temperature, or scaled dot products.
            heads: attention heads; must divide the text tower's width.
            gate: whether a word can close itself to the pictures.
            dropout: on the word states, before and after the fusion.
            augment: mirror and shift pictures while training; off for a frozen vision tower.
            matching: weight of the image-text matching loss; 0 leaves it out.
            training: options of `Tagger`.

        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, heads=heads)
        check("model", WEIGHT, matching=matching)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision = freeze_text, freeze_vision
        self.max_tokens, self.word_pool, self.max_images = max_tokens, word_pool, max_images
        self.attention, self.heads, self.gate, self.dropout = attention, heads, gate, dropout
        self.augment, self.matching = augment, matching

    def make_encoder(self) -> CrossEncoder:
        return CrossEncoder(
            self.text_tower(
                "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
            ),
            self.vision_tower("vision", self.vision, freeze=self.freeze_vision),
            attention=self.attention,
            heads=self.heads,
            gate=self.gate,
            dropout=self.dropout,
            # what a frozen tower saw once is remembered, and a moved picture would be a new one each time
            augment=self.augment and not self.freeze_vision,
            matching=self.matching > 0,
        )

    def needs(self) -> Needs:
        return Needs(
            reader=self.towers["text"].reader,
            views=frozenset({"whole"}),
            picture=self.towers["vision"].picture,
            max_images=self.max_images,
        )

    def loss_weights(self) -> dict[str, float]:
        return {"matching": self.matching}
