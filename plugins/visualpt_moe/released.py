"""What VisualPT-MoE's authors released (xubodhu/VisualPT-MoE, commit 4fcf98c): parameters, and how their code reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnerkit.methods.released import POOLER, WORD_TAGS, ReleasedWeights, bert, of_tags, same

EXPERTS = {
    "resnet_main": "image",
    "resnet_aux": "objects",
    "tags": "labels",
    "caption": "caption",
    "random": "random",
}

WEIGHTS = ReleasedWeights(
    [
        *bert("bert", "encoder.text.model"),
        same("encoder_conv_embedding.weight", "encoder.random"),
        *(same(f"encoder_conv_{theirs}.*", f"encoder.experts.{ours}.mlp.*") for theirs, ours in EXPERTS.items()),
        same("gates.{n}.*", "encoder.routers.{n}.*"),
        same("gates_projection.{n}.*", "encoder.text_maps.{n}.*"),
        of_tags("fc.*", "head.linear.*"),
    ],
    ignored={"bert.pooler.*": POOLER},
    optional={"encoder.text_maps.*": "the authors' routers compute a map of the text, and nothing reads it"},
)

READINGS = {
    "route": "all",
    "layout": "released",
    "router_layout": "released",
    "positions": "heads",
    "picture_fit": "centre_crop",
    "decay": "all",
    "schedule": "linear_from_zero",
}

TOWERS = {"text": "bert-base-uncased", "vision": "resnet50"}
TAGS = WORD_TAGS


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    return {
        "slots": len(weights["encoder_conv_embedding.weight"]),
        "prompt_hidden": len(weights["encoder_conv_random.0.weight"]),
    }
