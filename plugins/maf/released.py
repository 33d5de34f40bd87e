"""What MAF's authors released (xubodhu/MAF, commit 3952fb0): names of parameters, and how their code reads."""

from __future__ import annotations

from mnerkit.methods.released import ReleasedWeights, bert, bert_layers, linear_and_crf, same

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
    ],
    ignored={"self_attention*": "made in the constructor, never called"},
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
