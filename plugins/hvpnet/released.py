"""What HVPNet's authors released (zjunlp/HVPNeT, commit 410bd0c): names of parameters, and how their code reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnerkit.methods.released import (
    CLASSIFIER,
    PIECE_TAGS,
    POOLER,
    ReleasedWeights,
    bert,
    joined,
    linear_and_crf,
    resnet,
    same,
)

WEIGHTS = ReleasedWeights(
    [
        *bert("bert", "encoder.text.model"),
        *resnet("image_model.resnet", "encoder.sight.reads"),
        same("encoder_conv.0.*", "encoder.to_slices.0.*"),
        same("encoder_conv.2.*", "encoder.to_slices.2.*"),
        joined("gates.{layer}.weight", "encoder.gate.map.weight"),
        joined("gates.{layer}.bias", "encoder.gate.map.bias"),
        *linear_and_crf(),
    ],
    ignored={"bert.pooler.*": POOLER, "image_model.resnet.fc.*": CLASSIFIER},
)

READINGS = {
    "subword": "X",
    "layout": "released",
    "prefix_heads": "released",
    "pool": "released",
    "absent": "zeros",
    "picture_fit": "centre_crop",
    "trunk_norm": "train",
}

TOWERS = {"text": "bert-base-uncased", "vision": "resnet50"}
TAGS = PIECE_TAGS


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    return {"hidden": len(weights["encoder_conv.0.weight"])}
