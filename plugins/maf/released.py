"""What MAF's authors released (xubodhu/MAF, commit 3952fb0): names of parameters, and how their code reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnerkit.methods.released import (
    CLASSIFIER,
    PIECE_TAGS,
    ReleasedWeights,
    bert,
    bert_layers,
    depth,
    linear_and_crf,
    resnet,
    same,
)

WEIGHTS = ReleasedWeights(
    [
        *bert("bert", "encoder.text.model"),
        same("bert.pooler.dense.*", "encoder.sentence.*"),
        *bert_layers("txt2img_attention", "encoder.visual"),
        same("vismap2text.*", "encoder.region_map.*"),
        same("crs_classifier.*", "encoder.matching.*"),
        same("Gate_text.*", "encoder.gate.first.*"),
        same("Gate_image.*", "encoder.gate.second.*"),
        same("text_dense_cl.*", "encoder.align_text.0.*"),
        same("text_ouput_cl.*", "encoder.align_text.2.*"),
        same("image_dense_cl.*", "encoder.align_image.0.*"),
        same("image_output_cl.*", "encoder.align_image.2.*"),
        *linear_and_crf("classifier"),
        *resnet("resnet", "encoder.sight.reads"),  # of a file of its own
    ],
    ignored={"self_attention*": "made in the constructor, never called", "resnet.fc.*": CLASSIFIER},
)

READINGS = {
    "subword": "X",
    "match_pool": "flat",
    "negatives": "states",
    "draw": "last",
    "ner_on_negatives": True,
    "absent": "zeros",
    "trunk_norm": "train",
    "optimiser": "bert_adam",
}

TOWERS = {"text": "bert-base-cased", "vision": "resnet152"}
TAGS = PIECE_TAGS


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    return {
        "hidden": len(weights["txt2img_attention.layer.0.intermediate.dense.weight"]),
        "visual_layers": depth(weights, "txt2img_attention.layer.{n}.output.dense.weight"),
        # all places side by side are judged
        "max_tokens": weights["crs_classifier.weight"].shape[1] // len(weights["vismap2text.bias"]),
    }
