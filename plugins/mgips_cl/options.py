"""Options of MGIPS-CL (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.methods.options import TextOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SIZE, WEIGHT, Range, option

Align = Literal["linear", "interpolate", "cross_attn"]
Pool = Literal["mean_mlp", "length_linear", "cls"]


@dataclass(frozen=True, kw_only=True)
class MgipsOptions(TextOptions, text="bert-base-uncased", max_tokens=40):
    """Options of the two streams, the interweave of extractors, the gate, and the contrastive losses."""

    vision: str = option(
        "openai/clip-vit-base-patch32",
        "the vision tower, a CLIP as deep as the text tower: tiny-vit, a hub name, or a folder. With captions, the "
        "image stream is a second text tower like the first, which reads the caption",
    )
    tiny_heads: int = option(4, "attention heads of tiny-bert and tiny-vit; other towers have their own", LAYERS)
    max_objects: int = option(3, "maximum number of crops of the first image of a post", SIZE)
    crop_size: int = option(
        128,
        "height and width of a crop in pixels; a multiple of the vision tower's patch. With captions neither this nor "
        "max_objects nor mask_missing_crops is used",
        SIZE,
    )
    kv_source: Literal["previous", "same_layer_vision_first"] = option(
        "previous",
        "text layer l gets the keys and values of image layer l - 1, and the reverse (previous); or image layers run "
        "first, and text layer l gets those of image layer l (same_layer_vision_first)",
    )
    first_layer: Literal["raw", "projected", "none"] = option(
        "raw",
        "the foreign part of the first layer: the other stream's embeddings (raw), the keys and values of its first "
        "layer (projected), or none",
    )
    mask_missing_crops: bool = option(
        True, "mask the places of missing crops; false reads them as grey crops, as the authors do"
    )
    embed_noise_alpha: float = option(
        0.0, "uniform noise on both embeddings in training, alpha / sqrt(n d); the authors' code has 5", WEIGHT
    )
    use_mgi: bool = option(True, "multi-granularity interweave and gate; false tags the text stream's states")
    n_interweave: int = option(1, "interweave steps", LAYERS)
    final_image_mge: bool = option(True, "one more image-guided step for the contrastive losses")
    length_align: Align = option(
        "linear",
        "how patches and pieces are mapped to one length: a learnt map of positions, interpolation, or attention",
    )
    mge_heads: int = option(12, "heads of an extractor; must divide the text tower's width", LAYERS)
    mge_value: Literal["source", "target"] = option(
        "source", "an extractor's values come from its source, or from its target"
    )
    mge_ffn: bool = option(True, "a feed-forward network after each extractor")
    column_reading: Literal["transpose", "literal"] = option(
        "transpose",
        "column weights by a vector over tokens (transpose), or over features as printed (literal), which makes each "
        "of them 1",
    )
    column_bias: float = option(0.0, "added to column weights; the authors' code has -0.05", Range(-1, 1))
    interweave_residual: Literal["inside", "eq10"] = option(
        "inside", "an extractor's residual inside its block, or around it as in Eq. 10"
    )
    use_row: bool = option(True, "weigh rows (tokens)")
    use_col: bool = option(True, "weigh columns (features)")
    gate: Literal["feature", "token"] = option("feature", "one share for each feature, or one for each piece")
    w_ips: float = option(1.0, "weight of the implicit positives' loss (Eq. 16); 0 leaves it out", WEIGHT)
    w_cl: float = option(1.0, "weight of the own pairs' loss (Eq. 17); 0 leaves it out", WEIGHT)
    ips_k: int = option(3, "implicit positives of each row", SIZE)
    tau: float = option(0.5, "temperature of both losses", POSITIVE)
    ips_clamp_k: bool = option(
        True, "at most all but one of the batch's images are positives; with all of them the loss is 0"
    )
    ips_exclude_own: bool = option(False, "exclude a post's own image from the candidates")
    detach_topk_index: bool = option(
        True, "the choice of positives is constant; false passes a sigmoid's gradient through it"
    )
    ips_variant: Literal["paper", "merged"] = option(
        "paper",
        "two losses, or the authors' one ratio with the own pair added to the top K (merged); its weight is w_ips",
    )
    cl_pool: Pool = option(
        "mean_mlp",
        "a sequence becomes a vector by its mean, Linear and GELU; by a Linear over positions and GELU; or by its "
        "first token, Linear and GELU",
    )
    cl_features: Literal["fused", "gated", "encoder", "unimodal"] = option(
        "fused",
        "what is contrasted: text before the gate and image, both interwoven (fused); text after the gate (gated); "
        "states before the interweave (encoder); states of another pass without exchange (unimodal)",
    )
    cl_direction: Literal["t2v", "v2t", "both"] = option(
        "t2v", "texts rank images, images rank texts, or the mean of both"
    )
    dropout: float = option(0.1, "dropout in extractors and on states before the head", DROPOUT)
    vision_lr: float | None = option(None, "learning rate of the image stream's tower; default: tower_lr", POSITIVE)
    contrast_lr: float | None = option(None, "learning rate of the contrastive heads; default: lr", POSITIVE)

    @property
    def use_ips(self) -> bool:
        """Whether the loss `ips` is used, as Eq. 16 or as the merged ratio."""
        return self.w_ips > 0

    @property
    def use_cl(self) -> bool:
        """Whether the loss `cl` is used (Eq. 17); the merged ratio contains the own pairs already."""
        return self.w_cl > 0 and self.ips_variant == "paper"
