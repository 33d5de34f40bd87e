"""TPM-MI: the images of a post attend to each other, and one network maps them to keys and values of BERT's layers."""

from __future__ import annotations

from mnerkit.nn.image_set import ImageSetEncoder
from mnerkit.nn.prompts import MlpPrompts
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder, layers_of
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.tpm_mi.options import TpmMiOptions


class TpmMiEncoder(ImagePrefixEncoder):
    """V_i + z_i -> a transformer layer over the images -> MLP -> keys and values of all layers.

    Args:
        text: the text tower.
        sight: reads the images; V_i is the pooled vector of image i (a ViT's [CLS] state).
        o: the options.
    """

    def __init__(self, text: TextTower, sight: Sight, o: TpmMiOptions) -> None:
        width = sight.pooled_width
        super().__init__(
            text,
            sight,
            ImageSetEncoder(width, o.heads, o.graph_layers, position=o.pos, max_images=o.max_images, dropout=o.dropout),
            MlpPrompts(width, text.width, layers_of(text), o.prompt_hidden),
            dropout=o.dropout,
        )
