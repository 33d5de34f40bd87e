"""What UMT's authors released (jefferyYu/UMT, commit f478ee6): names of parameters, and how their code reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mnerkit.methods.released import (
    CLASSIFIER,
    PIECE_TAGS,
    POOLER,
    Entry,
    ReleasedWeights,
    bert,
    bert_layers,
    depth,
    linear_and_crf,
    resnet,
    same,
)

OTHERS = 4  # X, [CLS], [SEP] and PAD


def of_untyped_tags(released: str, ours: str, pairs: bool = False) -> Entry:
    """A tensor with a row for each untyped tag; with `pairs` also a column."""

    def change(tensors: list[Tensor], order: Tensor) -> list[Tensor]:
        typed, others = order[:-OTHERS], order[-OTHERS:]
        # the released untyped tags are in the order of the typed ones
        first = torch.cat([typed[:1], typed[1::2].amin(0, True), typed[2::2].amin(0, True), others])
        places = first.argsort().argsort()
        return [tensors[0][places][:, places] if pairs else tensors[0][places]]

    return Entry(released, (ours,), change)


WEIGHTS = ReleasedWeights(
    [
        *bert("bert", "encoder.text.model"),
        *bert_layers("self_attention", "encoder.auxiliary"),
        *bert_layers("self_attention_v2", "encoder.main"),
        *bert_layers("txt2img_attention", "encoder.visual"),
        *bert_layers("img2txt_attention", "encoder.region_reader"),
        *bert_layers("txt2txt_attention", "encoder.textual"),
        same("vismap2text.*", "encoder.region_map.*"),
        same("vismap2text_v2.*", "encoder.region_map_2.*"),
        Entry(
            "gate.weight",
            ("encoder.gate.first.weight", "encoder.gate.second.weight"),
            lambda tensors, _: list(tensors[0].chunk(2, 1)),
        ),
        same("gate.bias", "encoder.gate.first.bias"),
        of_untyped_tags("aux_classifier.*", "encoder.spans.linear.*"),
        of_untyped_tags("aux_crf.start_transitions", "encoder.spans.crf.start_transitions"),
        of_untyped_tags("aux_crf.end_transitions", "encoder.spans.crf.end_transitions"),
        of_untyped_tags("aux_crf.transitions", "encoder.spans.crf.transitions", pairs=True),
        *linear_and_crf("classifier"),
        *resnet("resnet", "encoder.sight.reads"),  # of a file of its own
    ],
    ignored={"bert.pooler.*": POOLER, "resnet.fc.*": CLASSIFIER},
)

READINGS = {
    "subword": "X",
    "absent": "zeros",
    "trunk_norm": "train",
    "optimiser": "bert_adam",
}

TOWERS = {"text": "bert-base-cased", "vision": "resnet152"}
TAGS = PIECE_TAGS


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    layers = {"visual_layers": "txt2img", "region_layers": "img2txt", "textual_layers": "txt2txt"}
    return {
        "hidden": len(weights["self_attention.layer.0.intermediate.dense.weight"]),
        **{name: depth(weights, f"{of}_attention.layer.{{n}}.output.dense.weight") for name, of in layers.items()},
    }
