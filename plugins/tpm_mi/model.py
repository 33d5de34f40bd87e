"""TPM-MI: the images of a post attend to each other, and one network maps them to keys and values of BERT's layers."""

from __future__ import annotations

from torch import nn

from mnerkit.nn.image_set import ImageSetEncoder
from mnerkit.nn.prompts import MlpPrompts
from mnerkit.nn.visual_prefix import init_small
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder, layers_of
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.tpm_mi.options import TpmMiOptions


class TpmMiEncoder(ImagePrefixEncoder):
    """V_i + z_i -> a transformer layer over the images -> MLP -> keys and values of all layers.

    Args:
        text: the text tower.
        sight: reads the images; V_i is the pooled vector of image i (a ViT's [CLS] state), or `Pooler` of it.
        o: the options.
    """

    def __init__(self, text: TextTower, sight: Sight, o: TpmMiOptions) -> None:
        width = sight.pooled_width
        images = ImageSetEncoder(
            width,
            o.heads,
            o.graph_layers,
            position=o.pos,
            max_images=o.max_images,
            feedforward=o.feedforward,
            dropout=o.dropout,
            attention_dropout=o.attention_dropout,
            norm=o.norm,
            axis=o.attend,
            place_std=o.place_std,
        )
        super().__init__(
            text,
            sight,
            images if o.graph else None,
            MlpPrompts(width, text.width, layers_of(text), o.prompt_hidden, small=o.prompt_start == "small"),
            dropout=o.dropout if o.state_dropout is None else o.state_dropout,
            pooler=Pooler(width) if o.pooled == "pooler" else None,
        )
        if o.prefix_positions == "shift":
            self.text.begin_at(o.max_images)


class Pooler(nn.Sequential):
    """V = tanh(W c + b) of a class state c (..., d), as transformers' ViT ends with; new weights."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.Tanh())
        init_small(self[0])
