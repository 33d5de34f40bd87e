"""GIFR's encoder: images attend to each other, weighted by their relevance, and become prompts of each layer."""

from __future__ import annotations

from mnerkit.nn.image_set import ImageSetEncoder
from mnerkit.nn.prompts import LayerPrompts
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder, layers_of
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.gifr.options import GifrOptions


class GifrEncoder(ImagePrefixEncoder):
    """h_i = V_i + z_deg(i) (Eq. 3); U = (softmax(Q K^T / sqrt(d)) * R) V (Eq. 4); P^l = U W_p^l (Eq. 5-7).

    Args:
        text: the text tower.
        sight: reads the images; V_i is the pooled vector of image i (a ViT's [CLS] state).
        o: the options. Without `graph`, U = V and R is not used.
    """

    def __init__(self, text: TextTower, sight: Sight, o: GifrOptions) -> None:
        width = sight.pooled_width
        images = ImageSetEncoder(  # Eq. 3-4
            width,
            o.heads,
            o.graph_layers,
            position=o.pos,
            max_degree=o.max_degree,
            max_images=o.max_images,
            block=o.gt_block,
            dropout=o.dropout,
            residual_scale_r=o.residual_scale_r,
            r_axis=o.r_axis,
            renorm=o.renorm,
        )
        super().__init__(
            text,
            sight,
            images if o.graph else None,
            LayerPrompts(width, text.width, layers_of(text), own_maps=o.prompt_kv == "own"),  # Eq. 5-6
            relevance=o.relevance if o.graph else "ones",
            irrelevant=o.irrelevant,
            dropout=o.dropout,
        )
