"""Plugin `tpm_mi`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.methods.image_prefix_tagger import ImagePrefixTagger
from mnerkit.ranges import COUNT, DROPOUT, check
from mnerkit_plugins.tpm_mi.model import TpmMiEncoder


class TpmMiTagger(ImagePrefixTagger):
    """TPM-MI: several images as a prefix of BERT, by order (Huang et al. 2024, the parent of GIFR)."""

    plugin = "tpm_mi"
    encoder: TpmMiEncoder

    def __init__(
        self,
        pos: Literal["order", "none"] = "order",
        graph_layers: int = 1,
        heads: int = 8,
        prompt_hidden: int = 1024,
        dropout: float = 0.1,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            pos: tell the images apart by their order, or not.
            graph_layers: transformer layers over the images.
            heads: their attention heads; must divide the width of the image vectors.
            prompt_hidden: hidden width of the network that makes keys and values.
            dropout: in the layers over the images, and on the word states.
            training: options of `ImagePrefixTagger`: towers, images and training.
        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, graph_layers=graph_layers, heads=heads, prompt_hidden=prompt_hidden)
        self.pos, self.graph_layers, self.heads = pos, graph_layers, heads
        self.prompt_hidden, self.dropout = prompt_hidden, dropout

    def make_encoder(self) -> TpmMiEncoder:
        text = self.make_text()
        return TpmMiEncoder(
            text,
            self.make_sight(text),
            position=self.pos,
            max_images=self.max_images,
            graph_layers=self.graph_layers,
            heads=self.heads,
            prompt_hidden=self.prompt_hidden,
            dropout=self.dropout,
        )
