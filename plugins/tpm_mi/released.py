"""What TPM-MI's authors released (JinFish/MNER-MI, commit 9d625f0): names of parameters, and how their code reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnerkit.methods.released import POOLER, WORD_TAGS, ReleasedWeights, bert, linear_and_crf, same, split

LAYER = "encoder.graph.layers.0"
VIT, OURS = "vit.encoder.layer.{n}", "encoder.sight.reads.model.layers.{n}"

WEIGHTS = ReleasedWeights(
    [
        *bert("bert", "encoder.text.model"),
        same("vit.embeddings.*", "encoder.sight.reads.model.embeddings.*"),
        same("vit.layernorm.*", "encoder.sight.reads.model.layernorm.*"),
        # transformers 5 has other names for the layers of a ViT than transformers 4, which the authors used
        *(
            same(f"{VIT}.attention.attention.{name}.*", f"{OURS}.attention.{name[0]}_proj.*")
            for name in ("query", "key", "value")
        ),
        same(f"{VIT}.attention.output.dense.*", f"{OURS}.attention.o_proj.*"),
        same(f"{VIT}.intermediate.dense.*", f"{OURS}.mlp.fc1.*"),
        same(f"{VIT}.output.dense.*", f"{OURS}.mlp.fc2.*"),
        same(f"{VIT}.layernorm_before.*", f"{OURS}.layernorm_before.*"),
        same(f"{VIT}.layernorm_after.*", f"{OURS}.layernorm_after.*"),
        same("vit.pooler.dense.*", "encoder.pooler.0.*"),
        same("temporalEmbedding.weight", "encoder.graph.places.weight"),
        *(
            split(f"transformer.self_attn.in_proj_{part}", *(f"{LAYER}.attention.{name}.{part}" for name in names))
            for part in ("weight", "bias")
            for names in (("query", "key", "value"),)
        ),
        same("transformer.self_attn.out_proj.*", f"{LAYER}.attention.out.*"),
        same("transformer.linear1.*", f"{LAYER}.feedforward.0.*"),
        same("transformer.linear2.*", f"{LAYER}.feedforward.3.*"),
        same("transformer.norm1.*", f"{LAYER}.norms.0.*"),
        same("transformer.norm2.*", f"{LAYER}.norms.1.*"),
        same("img_prompt_encoder.*", "encoder.prompts.mlp.*"),
        *linear_and_crf(),
    ],
    ignored={"bert.pooler.*": POOLER, "bert.embeddings.position_ids": "numbers from 0 on, no parameter"},
)

READINGS = {
    "subword": "X",
    "pooled": "pooler",
    "attend": "posts",
    "norm": "post",
    "absent": "zeros",
    "prefix_positions": "shift",
}

TOWERS = {"text": "bert-base-uncased", "vision": "google/vit-base-patch16-224"}
TAGS = (*WORD_TAGS, "X")


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of released weights tell."""
    return {
        "max_images": len(weights["temporalEmbedding.weight"]),
        "feedforward": len(weights["transformer.linear1.weight"]),
        "prompt_hidden": len(weights["img_prompt_encoder.0.weight"]),
    }
