"""What MGIPS-CL's authors released (chenchenhtd/MGIPS-CL, commit 34f605c): names, and how their code reads.

Five faults of that code are no readings (README.md, "Parity"): with these, ours computes that code without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnerkit.methods.released import POOLER, WORD_TAGS, Entry, ReleasedWeights, linear_and_crf, same

_TEXT, _VISION = "encoder.text.model", "encoder.vision.model.vision_model"
_CROPS, _MEETING = "model.vision_embeddings", "model.interfusion"
_IMAGE, _WORDS = f"{_MEETING}.vision_layers", f"{_MEETING}.text_layer"


def _extractor(released: str, ours: str) -> tuple[Entry, ...]:
    """What both extractors have."""
    return (
        same(f"{released}.wqk.*", f"{ours}.mix_target.*"),
        same(f"{released}.wk.*", f"{ours}.mix_source.*"),
        same(f"{released}.wb.weight", f"{ours}.row.weight"),
        Entry(f"{released}.wm.weight", (f"{ours}.column",), lambda tensors, _: [tensors[0][0]]),
    )


def _gate(released: str, ours: str) -> tuple[Entry, ...]:
    """A gate of two maps; their biases are added, so ours has one."""
    return (
        same(f"{released}.Linear1.weight", f"{ours}.first.weight"),
        same(f"{released}.Linear2.weight", f"{ours}.second.weight"),
        Entry(f"{released}.Linear{{n}}.bias", (f"{ours}.first.bias",), lambda tensors, _: [tensors[0] + tensors[1]]),
    )


_SHIFT = "it shifts all logits of a softmax alike"

WEIGHTS = ReleasedWeights(
    [
        same("model.text_embeddings.*", f"{_TEXT}.embeddings.*"),
        same("model.encoder.text_layer.*", f"{_TEXT}.encoder.layer.*"),
        same(f"{_CROPS}.aux_position_embedding.weight", "encoder.crops.position"),
        same(f"{_CROPS}.*", f"{_VISION}.embeddings.*"),
        same("model.vision_pre_layrnorm.*", f"{_VISION}.pre_layrnorm.*"),
        same("model.vision_post_layernorm.*", f"{_VISION}.post_layernorm.*"),
        same("model.encoder.vision_layers.*", f"{_VISION}.encoder.layers.*"),
        *_extractor(f"{_IMAGE}.self_attn", "encoder.mge_image"),
        *(same(f"{_IMAGE}.self_attn.{each[0]}_proj.*", f"encoder.mge_image.{each}.*") for each in ("query", "key")),
        same(f"{_IMAGE}.self_attn.v_proj.*", "encoder.mge_image.value.*"),
        same(f"{_IMAGE}.self_attn.out_proj.*", "encoder.mge_image.out.*"),
        same(f"{_IMAGE}.self_attn.trs.*", "encoder.mge_image.to_text.*"),
        same(f"{_IMAGE}.self_attn.trs2.*", "encoder.mge_image.to_image.*"),
        same(f"{_IMAGE}.layer_norm1.*", "encoder.mge_image.norm.*"),
        same(f"{_IMAGE}.layer_norm2.*", "encoder.mge_image.ffn_norm.*"),
        same(f"{_IMAGE}.mlp.fc1.*", "encoder.mge_image.ffn.0.*"),
        same(f"{_IMAGE}.mlp.fc2.*", "encoder.mge_image.ffn.2.*"),
        *_extractor(f"{_WORDS}.attention.self", "encoder.mge_text"),
        *(
            same(f"{_WORDS}.attention.self.{each}.*", f"encoder.mge_text.{each}.*")
            for each in ("query", "key", "value")
        ),
        same(f"{_WORDS}.attention.self.trs2.*", "encoder.mge_text.to_text.*"),
        same(f"{_WORDS}.attention.self.trs1.*", "encoder.mge_text.values_to_text.*"),
        same(f"{_WORDS}.attention.output.dense.*", "encoder.mge_text.out.*"),
        same(f"{_WORDS}.attention.output.LayerNorm.*", "encoder.mge_text.norm.*"),
        same(f"{_WORDS}.intermediate.dense.*", "encoder.mge_text.ffn.0.*"),
        same(f"{_WORDS}.output.dense.*", "encoder.mge_text.ffn.2.*"),
        same(f"{_WORDS}.output.LayerNorm.*", "encoder.mge_text.ffn_norm.*"),
        *_gate(f"{_MEETING}.adapter", "encoder.gate"),
        *_gate(f"{_MEETING}.adapter_img", "encoder.image_gate"),
        same("contrastive.fc1.*", "encoder.contrast.image.map.*"),
        same("contrastive.fc2.*", "encoder.contrast.text.map.*"),
        *linear_and_crf(),
    ],
    ignored={
        "model.text_pooler.*": POOLER,
        f"{_CROPS}.rcnn_position_embedding.*": "made in the constructor, never read",
        f"{_WORDS}.layer_norm1.*": "overwritten before anything reads it",
        **{
            f"{part}.{name}.bias": _SHIFT
            for part in (f"{_IMAGE}.self_attn", f"{_WORDS}.attention.self")
            for name in ("wb", "wm")
        },
    },
    unread=["encoder.vision.model.visual_projection.weight"],
)

READINGS = {
    "subword": "copy",
    "kv_source": "same_layer_vision_first",
    "mask_missing_crops": False,
    "mask_text_for_vision": False,
    "mge_source_norm": "none",
    "mge_image_block": "released",
    "mge_text_block": "released",
    "mge_pad": "released",
    "mge_hidden": "towers",
    "column_bias": -0.05,
    "column_bias_side": "image",
    "gate": "token",
    "image_gate": True,
    "cl_pool": "length_linear",
    "cl_pool_mask": False,
    "cl_features": "gated",
    "cl_direction": "v2t",
    "ips_variant": "merged",
    "ips_clamp_k": False,
}

TOWERS = {"text": "bert-base-uncased", "vision": "openai/clip-vit-base-patch32"}
TAGS = ("[CLS]", *WORD_TAGS, "[SEP]", "X")
REPAIRED = (
    "the released code mixes tokens in the heads of three attentions, takes keys for values, and adds one to masked "
    "logits; ours does not, so these weights tag differently here than there"
)


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    return {"max_tokens": weights["contrastive.fc2.weight"].shape[1]}
