"""A CLIP-like vision transformer that is small enough to train from scratch, for methods that use its layers."""

from __future__ import annotations

from typing import Any

from mnerkit.towers.tiny_sizes import PICTURE, WIDTH

PATCH = 16


def tiny_vit_config(width: int = WIDTH, layers: int = 3, heads: int = 4, patch: int = PATCH) -> Any:
    """The architecture, as a transformers configuration; depth, heads and width are those of `TinyBert`.

    Args:
        width: d of the states.
        layers: number of layers.
        heads: attention heads.
        patch: height and width of a patch; the size of pictures is that of the other tiny towers.
    """
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        image_size=PICTURE.size,
        patch_size=patch,
        projection_dim=width,
        # deviation of the patch embedding's weights: with CLIP's value, small pictures would have little effect
        initializer_range=(3 * patch * patch) ** -0.5,
    )
