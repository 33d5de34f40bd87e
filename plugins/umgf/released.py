"""What UMGF's authors released (TransformersWsz/UMGF, commit 55adc07): names of parameters, how their code reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnerkit.methods.released import POOLER, ReleasedWeights, bert, depth, linear_and_crf, resnet, same

IDLE = "the last layer updates objects, and nothing reads them"

# of a layer
PARTS = {
    "mhatt_x.{n}.linears.0": "words.attention.query",
    "mhatt_x.{n}.linears.1": "words.attention.key",
    "mhatt_x.{n}.linears.2": "words.attention.value",
    "mhatt_x.{n}.linears.3": "words.attention.out",
    "res4mes_x.{n}.norm": "words.around_attention.norm",
    "mhatt_x2o.{n}": "words.gates.map",
    "xgate.{n}.norm": "words.around_intake.norm",
    "ffn_x.{n}.w_1": "words.feedforward.0",
    "ffn_x.{n}.w_2": "words.feedforward.3",
    "res4ffn_x.{n}.norm": "words.think.norm",
    "mhatt_o.{n}.linears.0": "objects.attention.query",
    "mhatt_o.{n}.linears.1": "objects.attention.key",
    "res4mes_o.{n}.norm": "objects.around_attention.norm",
    "mhatt_o2x.{n}": "objects.gates.map",
    "ogate.{n}.norm": "objects.around_intake.norm",
    "ffn_o.{n}.w_1": "objects.feedforward.0",
    "ffn_o.{n}.w_2": "objects.feedforward.3",
    "res4ffn_o.{n}.norm": "objects.think.norm",
}
ENTRIES = [
    *bert("bert", "encoder.text.model"),
    same("resnet.fc.*", "encoder.object_reader.*"),
    *resnet("resnet", "encoder.sight.reads"),
    same("trans_txt.*", "encoder.word_map.*"),
    same("trans_obj.*", "encoder.object_map.*"),
    *(same(f"{theirs}.*", f"encoder.layers.{{n}}.{ours}.*") for theirs, ours in PARTS.items()),
    *linear_and_crf("hidden2tag"),
]
WEIGHTS = ReleasedWeights(
    ENTRIES,
    ignored={"bert.pooler.*": POOLER},
    ignored_last={f"{name}.{{n}}.*": IDLE for name in ("mhatt_o2x", "ogate", "ffn_o", "res4ffn_o")},
)

READINGS = {
    "subword": "X",
    "object_attention": "released",
    "picture_fit": "centre_crop",
    "trunk_norm": "train",
    "freeze_vision": False,
}

TOWERS = {"text": "bert-base-cased", "vision": "resnet152"}
TYPES = ("PER", "LOC", "ORG", "MISC")  # OTHER in the authors' code
TAGS = ("PAD", *(f"{role}-{kind}" for kind in TYPES for role in "BI"), "O", "X", "[CLS]", "[SEP]")


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    return {
        "object_width": len(weights["resnet.fc.weight"]),
        "width": len(weights["trans_txt.weight"]),
        "hidden": len(weights["ffn_x.0.w_1.weight"]),
        "graph_layers": depth(weights, "xgate.{n}.norm.weight"),
    }
