"""GIFR's tagger: images weighted by their relevance look at each other, and each becomes a prompt in every layer."""

from __future__ import annotations

from typing import Literal

from mnerkit.nn.image_set import Block, ImageSetEncoder, Position, WeightAxis
from mnerkit.nn.prompts import LayerPrompts
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder, Irrelevant, Relevance, layers_of
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower

PromptMaps = Literal["own", "shared_bert"]


class GifrEncoder(ImagePrefixEncoder):
    """h_i = V_i + z_deg(i) (Eq. 3); U = (softmax(Q K^T / sqrt(d)) * R) V (Eq. 4); P^l = U W_p^l (Eq. 5-7).

    Args:
        text: the text tower.
        sight: sees the images; V_i is the pooled vector of image i (a ViT's [CLS] state).
        relevance: R as it was judged before (`given`, Eq. 2), or 1.
        irrelevant: images below the blank one are weighted by their R, or dropped.
        graph: let images look at each other; without it U = V, and R is not used.
        gt_block: a whole transformer layer, or the attention of Eq. 4 alone.
        residual_scale_r: scale what the residual lets through by R.
        r_axis: R weighs the image that is looked at, or the one that looks.
        renorm: let the weighted attention sum to 1 again.
        pos: positions by degree, by order, or none.
        max_degree: largest degree with a vector of its own.
        max_images: places with a vector of their own, for `order`.
        graph_layers: layers of Eq. 4.
        heads: of those; must divide the width of V.
        prompt_kv: W_k and W_v of Eq. 6 are new ones, or BERT's.
        dropout: in the graph's layers and on word states.
    """

    def __init__(
        self,
        text: TextTower,
        sight: Sight,
        *,
        relevance: Relevance = "given",
        irrelevant: Irrelevant = "weight",
        graph: bool = True,
        gt_block: Block = "full",
        residual_scale_r: bool = True,
        r_axis: WeightAxis = "source",
        renorm: bool = False,
        pos: Position = "degree",
        max_degree: int = 3,
        max_images: int = 4,
        graph_layers: int = 1,
        heads: int = 8,
        prompt_kv: PromptMaps = "own",
        dropout: float = 0.1,
    ) -> None:
        width = sight.pooled_width
        images = ImageSetEncoder(
            width,
            heads,
            graph_layers,
            position=pos,
            max_degree=max_degree,
            max_images=max_images,
            block=gt_block,
            dropout=dropout,
            residual_scale_r=residual_scale_r,
            r_axis=r_axis,
            renorm=renorm,
        )
        super().__init__(
            text,
            sight,
            images if graph else None,
            LayerPrompts(width, text.width, layers_of(text), own_maps=prompt_kv == "own"),
            relevance=relevance if graph else "ones",
            irrelevant=irrelevant,
            dropout=dropout,
        )
