"""Options of MGIPS-CL (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import SubwordOptions, TextOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SIZE, WEIGHT, Range, option

Align = Literal["linear", "interpolate", "cross_attn"]
Pool = Literal["mean_mlp", "length_linear", "cls"]


@dataclass(frozen=True, kw_only=True)
class MgipsOptions(TextOptions, SubwordOptions, text="bert-base-uncased", max_tokens=40):
    """Options of the two streams, the interweave of extractors, the gate, and the contrastive losses."""

    # text's first layer reads the image embeddings although vision runs first
    behaviour_with: ClassVar[Mapping[tuple[str, Any], int]] = {("kv_source", "same_layer_vision_first"): 2}

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
        "first, and text layer l gets those of image layer l (same_layer_vision_first), as in the authors' code. The "
        "first layer goes by first_layer either way",
    )
    first_layer: Literal["raw", "projected", "none"] = option(
        "raw",
        "the foreign part of the first layer: the other stream's embeddings (raw), the keys and values of its first "
        "layer (projected), or none",
    )
    mask_missing_crops: bool = option(
        True, "mask the places of missing crops; false reads them as grey crops, a fault of the authors' code"
    )
    mask_text_for_vision: bool = option(
        True,
        "vision does not see the padding of the text; false: it does, a fault of the authors' code, in which a post's "
        "tags depend on the length of its padding",
        since=("0.1.0", True),
    )
    position_std: float | None = option(
        None,
        "standard deviation of the crops' new position embeddings before training; default: the vision tower's own, "
        "0.02 for CLIP. The authors' code has 1",
        POSITIVE,
        since=("0.1.0", None),
    )
    embed_noise_alpha: float = option(
        0.0, "uniform noise on both embeddings in training, alpha / sqrt(n d); the authors' code has 5", WEIGHT
    )
    embed_noise_place: Literal["after_norm", "before_norm"] = option(
        "after_norm",
        "that noise is added behind the layer norm of the embeddings, or before it, as in the authors' code",
        since=("0.1.0", "after_norm"),
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
    mge_value_map: Literal["own", "shared"] = option(
        "own",
        "values have a projection of their own, as in the authors' code; or that of the source in Eq. 5, as the paper "
        "prints Eq. 7 (shared)",
        since=("0.1.0", "own"),
    )
    mge_source_norm: Literal["unweighted", "none"] = option(
        "unweighted",
        "an extractor's source passes a layer norm without weights, since CLIP's last states are not normalised; or "
        "none, as in the authors' code",
        since=("0.1.0", "unweighted"),
    )
    mge_image_block: Literal["gelu", "released"] = option(
        "gelu",
        "the image-guided block has GELU and dropout like the text-guided one; or, as in the authors' code, CLIP's "
        "activation x sigmoid(1.702 x) and no dropout (released)",
        since=("0.1.0", "gelu"),
    )
    mge_text_block: Literal["pre_norm", "released"] = option(
        "pre_norm",
        "the text-guided block normalises its target first, projects the image, and maps its length; or, as in the "
        "authors' code, it maps the length first, for keys and values apart, drops weights of rows and columns, and "
        "normalises behind each residual (released)",
        since=("0.1.0", "pre_norm"),
    )
    mge_pad: Literal["hidden", "released"] = option(
        "hidden",
        "extractors do not see the padding of the text; released, a fault of the authors' code: padded rows have "
        "values and enter the columns, and in the image-guided one rows, too",
        since=("0.1.0", "hidden"),
    )
    mge_ffn: bool = option(True, "a feed-forward network after each extractor")
    mge_hidden: Literal["fourfold", "towers"] = option(
        "fourfold",
        "width of these networks: four times the text tower's, or that of the layers of the tower on their side, as "
        "in the authors' code; for BERT-base and ViT-B/32 both are 3072",
        since=("0.1.0", "fourfold"),
    )
    column_reading: Literal["transpose", "literal"] = option(
        "transpose",
        "column weights by a vector over tokens (transpose), or over features as printed (literal), which makes each "
        "of them 1",
    )
    column_bias: float = option(0.0, "added to column weights; the authors' code has -0.05", Range(-1, 1))
    column_bias_side: Literal["both", "image"] = option(
        "both",
        "column_bias is added in both extractors, or in the image-guided one alone, as in the authors' code",
        since=("0.1.0", "both"),
    )
    interweave_residual: Literal["inside", "eq10"] = option(
        "inside", "an extractor's residual inside its block, or around it as in Eq. 10"
    )
    use_row: bool = option(True, "weigh rows (tokens)")
    use_col: bool = option(True, "weigh columns (features)")
    gate: Literal["feature", "token"] = option(
        "feature", "one share for each feature, or one for each piece, as in the authors' code"
    )
    image_gate: bool = option(
        False,
        "a gate like token mixes the image states before and after the last image-guided step, as in the authors' code",
        since=("0.1.0", False),
    )
    train_gates: bool = option(
        True,
        "gates learn; false: they keep their first values, a fault of the authors' code, whose optimiser lacks them",
        since=("0.1.0", True),
    )
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
    cl_pool_mask: bool = option(
        True,
        "padding is left out of that vector; false: it is not, a fault of the authors' code",
        since=("0.1.0", True),
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
    contrast_decay: float | None = option(
        None, "weight decay of the contrastive heads; default: weight_decay", WEIGHT, since=("0.1.0", None)
    )
    mge_rates: Literal["lr", "sides"] = option(
        "lr",
        "learning rate of extractors and of the crops' positions: lr; or that of the tower on their side, tower_lr for "
        "the text-guided one and vision_lr for the others, as in the authors' code (sides)",
        since=("0.1.0", "lr"),
    )

    def check(self) -> None:
        """Refuse a gate of image states of which there is only one."""
        super().check()
        contrasts = self.use_ips or self.use_cl
        if self.image_gate and not (self.use_mgi and self.final_image_mge and contrasts):
            raise UsageError(
                "--model.image_gate true: it mixes image states before and after the last image-guided step; give "
                "use_mgi true, final_image_mge true, and w_ips or w_cl above 0"
            )

    @property
    def use_ips(self) -> bool:
        """Whether the loss `ips` is used, as Eq. 16 or as the merged ratio."""
        return self.w_ips > 0

    @property
    def use_cl(self) -> bool:
        """Whether the loss `cl` is used (Eq. 17); the merged ratio contains the own pairs already."""
        return self.w_cl > 0 and self.ips_variant == "paper"
