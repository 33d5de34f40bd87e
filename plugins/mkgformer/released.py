"""What MKGformer's authors released (zjunlp/MKGformer, MNER, commit 6dc924d): names, and how their code reads."""

from __future__ import annotations

from mnerkit.methods.released import PIECE_TAGS, POOLER, ReleasedWeights, linear_and_crf, same

_TEXT, _VISION = "encoder.text.model", "encoder.vision.model.vision_model"
_CROPS = "model.vision_embeddings"

WEIGHTS = ReleasedWeights(
    [
        same("model.text_embeddings.*", f"{_TEXT}.embeddings.*"),
        same("model.encoder.text_layer.{layer}.intermediate.fusion_dense.*", "encoder.fusions.{layer}.map.*"),
        same("model.encoder.text_layer.*", f"{_TEXT}.encoder.layer.*"),
        same(f"{_CROPS}.aux_position_embedding.weight", "encoder.crops.position"),
        same(f"{_CROPS}.rcnn_position_embedding.weight", "encoder.crops.small_position"),
        same(f"{_CROPS}.*", f"{_VISION}.embeddings.*"),
        same("model.vision_pre_layrnorm.*", f"{_VISION}.pre_layrnorm.*"),
        same("model.vision_post_layernorm.*", f"{_VISION}.post_layernorm.*"),
        same("model.encoder.vision_layers.*", f"{_VISION}.encoder.layers.*"),
        *linear_and_crf(),
    ],
    ignored={"model.text_pooler.*": POOLER},
    unread=["encoder.vision.model.visual_projection.weight"],
    optional={"encoder.fusions.*": "the streams do not meet in this layer, and nothing calls it"},
)

READINGS = {
    "subword": "X",
    "mask_text_for_vision": False,
    "mask_missing_crops": False,
    "position_std": 1.0,
}
TOWERS = {"text": "bert-base-uncased", "vision": "openai/clip-vit-base-patch32"}
TAGS = PIECE_TAGS
