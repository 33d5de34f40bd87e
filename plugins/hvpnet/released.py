"""What HVPNet's authors released (zjunlp/HVPNeT, commit 410bd0c): names of parameters, and how their code reads."""

from __future__ import annotations

from mnerkit.methods.released import POOLER, ReleasedWeights, bert, joined, linear_and_crf, same

WEIGHTS = ReleasedWeights(
    [
        *bert("bert", "encoder.text.model"),
        same("encoder_conv.0.*", "encoder.to_slices.0.*"),
        same("encoder_conv.2.*", "encoder.to_slices.2.*"),
        joined("gates.{layer}.weight", "encoder.gate.map.weight"),
        joined("gates.{layer}.bias", "encoder.gate.map.bias"),
        *linear_and_crf(),
    ],
    ignored={"bert.pooler.*": POOLER},
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
