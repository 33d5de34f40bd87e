"""TPM-MI: the images of a post look at each other and become one network's keys and values for every layer of BERT."""

from __future__ import annotations

from typing import Literal

from mnerkit.nn.image_set import ImageSetEncoder
from mnerkit.nn.prompts import MlpPrompts
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder, layers_of
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower

Position = Literal["order", "none"]


class TpmMiEncoder(ImagePrefixEncoder):
    """V_i + z_i -> a transformer layer over the images -> MLP -> keys and values of all layers.

    Args:
        text: the text tower.
        sight: sees the images; V_i is the pooled vector of image i (a ViT's [CLS] state).
        position: z_i by the image's place (`order`), or none.
        max_images: places with a vector of their own.
        graph_layers: transformer layers over the images.
        heads: of those; must divide the width of V.
        prompt_hidden: hidden width of the MLP.
        dropout: in the transformer layers and on word states.
    """

    def __init__(
        self,
        text: TextTower,
        sight: Sight,
        position: Position = "order",
        max_images: int = 4,
        graph_layers: int = 1,
        heads: int = 8,
        prompt_hidden: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        width = sight.pooled_width
        super().__init__(
            text,
            sight,
            ImageSetEncoder(width, heads, graph_layers, position=position, max_images=max_images, dropout=dropout),
            MlpPrompts(width, text.width, layers_of(text), prompt_hidden),
            dropout=dropout,
        )
