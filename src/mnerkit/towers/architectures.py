"""Sizes of public pretrained networks, so that a method can be counted at full size without their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnerkit.towers.vision.pretrained import RESNETS

_LARGE_CLIP: dict[str, Any] = {
    "projection_dim": 768,
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 768,
    },
}

# name on the hub, without its owner -> class of the configuration, and what differs from that class's defaults
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base-uncased": ("BertConfig", {"vocab_size": 30522}),
    "bert-base-cased": ("BertConfig", {"vocab_size": 28996}),
    "roberta-base": (
        "RobertaConfig",
        {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ),
    "clip-vit-base-patch32": ("CLIPConfig", {}),
    "clip-vit-large-patch14": ("CLIPConfig", _LARGE_CLIP),
    "vit-base-patch16-224": ("ViTConfig", {}),
    "vit-base-patch16-224-in21k": ("ViTConfig", {}),
}


def without_weights(spec: str, folder: Path) -> str | None:
    """The spec of a tower of the same architecture with new weights, for which no file is read or fetched.

    Args:
        spec: of a tower: one of `ARCHITECTURES` (with its owner or not), a ResNet of torchvision, or a local folder.
        folder: where the configuration is written, with a tokenizer that knows single letters.

    Returns:
        None where `spec` is none of these.
    """
    if spec.split(":", 1)[0] in RESNETS:
        return f"random:{spec.split(':', 1)[0]}"
    if (Path(spec).expanduser() / "config.json").is_file():
        return f"random:{spec}"
    name = spec.rsplit("/", 1)[-1]
    if name not in ARCHITECTURES or spec.count("/") > 1:
        return None
    import transformers

    place = folder / name
    if not place.exists():
        family, differences = ARCHITECTURES[name]
        getattr(transformers, family)(**differences).save_pretrained(place)
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        transformers.BertTokenizer(vocab=vocabulary).save_pretrained(place)
    return f"random:{place}"
