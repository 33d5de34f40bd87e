"""Sizes of public pretrained networks, to count the parameters of a method without downloading their files."""

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

# name on the hub, without its owner -> class of the configuration, and differences from the defaults of that class
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
    """The spec of a tower with the same architecture and new weights, which needs no download.

    Args:
        spec: one of `ARCHITECTURES` (with or without its owner), a ResNet of torchvision, or a local folder.
        folder: folder for the configuration and a tokenizer of single letters.

    Returns:
        The spec, or None if `spec` is none of these.
    """
    if spec.split(":", 1)[0] in RESNETS:
        return f"random:{spec.split(':', 1)[0]}"
    if (Path(spec).expanduser() / "config.json").is_file():
        return f"random:{spec}"
    name = spec.rsplit("/", 1)[-1]
    if name not in ARCHITECTURES or spec.count("/") > 1:
        return None
    import transformers

    target = folder / name
    if not target.exists():
        family, differences = ARCHITECTURES[name]
        getattr(transformers, family)(**differences).save_pretrained(target)
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        transformers.BertTokenizer(vocab=vocabulary).save_pretrained(target)
    return f"random:{target}"
