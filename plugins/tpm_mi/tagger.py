"""Plugin `tpm_mi`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.views import Needs
from mnerkit.ranges import COUNT, DROPOUT, check
from mnerkit.tagging.tagger import Tagger
from mnerkit_plugins.tpm_mi.model import TpmMiEncoder


class TpmMiTagger(Tagger):
    """TPM-MI: several images as a prefix of BERT, by order (Huang et al. 2024, the parent of GIFR)."""

    plugin = "tpm_mi"
    encoder: TpmMiEncoder

    def __init__(
        self,
        text: str = "bert-base-uncased",
        vision: str = "google/vit-base-patch16-224",
        freeze_text: bool = False,
        freeze_vision: bool = False,
        max_tokens: int = 64,
        word_pool: Literal["first", "mean"] = "first",
        max_images: int = 4,
        pos: Literal["order", "none"] = "order",
        graph_layers: int = 1,
        heads: int = 8,
        prompt_hidden: int = 1024,
        dropout: float = 0.1,
        augment: bool = False,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower, one that takes a prefix: `tiny-bert`, a hub name such as `bert-base-uncased`, or a
                folder.
            vision: the vision tower: `tiny`, a hub name (`google/vit-base-patch16-224`), a folder, or `captions`, which
                reads captions in place of pictures.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: read this many images of a post, the first ones.
            pos: tell the images apart by their order, or not.
            graph_layers: transformer layers over the images.
            heads: their attention heads; must divide the width of the image vectors.
            prompt_hidden: hidden width of the network that makes keys and values.
            dropout: in the layers over the images, and on the word states.
            augment: mirror and shift pictures while training; off for a frozen vision tower.
            training: options of `Tagger`.
        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, graph_layers=graph_layers, heads=heads)
        check("model", COUNT, prompt_hidden=prompt_hidden)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision, self.augment = freeze_text, freeze_vision, augment
        self.max_tokens, self.word_pool, self.max_images = max_tokens, word_pool, max_images
        self.pos, self.graph_layers, self.heads = pos, graph_layers, heads
        self.prompt_hidden, self.dropout = prompt_hidden, dropout

    def make_encoder(self) -> TpmMiEncoder:
        text = self.text_tower(
            "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
        )
        return TpmMiEncoder(
            text,
            self.sight("vision", self.vision, text, freeze=self.freeze_vision, augment=self.augment),
            position=self.pos,
            max_images=self.max_images,
            graph_layers=self.graph_layers,
            heads=self.heads,
            prompt_hidden=self.prompt_hidden,
            dropout=self.dropout,
        )

    def needs(self) -> Needs:
        return self.encoder.sight.needs(self.towers["text"].reader, max_images=self.max_images)
