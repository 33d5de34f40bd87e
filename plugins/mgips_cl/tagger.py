"""Plugin `mgips_cl`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from mnerkit.data.batches.needs import Needs
from mnerkit.errors import UsageError
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, DROPOUT, POSITIVE, WEIGHT, Range, check
from mnerkit.towers.fusion.sight import CAPTIONS
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.mgips_cl.model import MgipsEncoder

ENCODER_OPTIONS = tuple(
    name for name, each in inspect.signature(MgipsEncoder).parameters.items() if each.kind is each.KEYWORD_ONLY
)


class MgipsTagger(Tagger):
    """MGIPS-CL: two streams exchange keys and values, an interweave of extractors, implicit positives."""

    plugin = "mgips_cl"
    encoder: MgipsEncoder

    def __init__(
        self,
        text: str = "bert-base-uncased",
        vision: str = "openai/clip-vit-base-patch32",
        tiny_heads: int = 4,
        max_tokens: int = 40,
        word_pool: Literal["first", "mean"] = "first",
        max_objects: int = 3,
        crop_size: int = 128,
        kv_source: Literal["previous", "same_layer_vision_first"] = "previous",
        first_layer: Literal["raw", "projected", "none"] = "raw",
        mask_missing_crops: bool = True,
        embed_noise_alpha: float = 0.0,
        use_mgi: bool = True,
        n_interweave: int = 1,
        final_image_mge: bool = True,
        length_align: Literal["linear", "interpolate", "cross_attn"] = "linear",
        mge_heads: int = 12,
        mge_value: Literal["source", "target"] = "source",
        mge_ffn: bool = True,
        column_reading: Literal["transpose", "literal"] = "transpose",
        column_bias: float = 0.0,
        interweave_residual: Literal["inside", "eq10"] = "inside",
        use_row: bool = True,
        use_col: bool = True,
        gate: Literal["feature", "token"] = "feature",
        w_ips: float = 1.0,
        w_cl: float = 1.0,
        ips_k: int = 3,
        tau: float = 0.5,
        ips_clamp_k: bool = True,
        ips_exclude_own: bool = False,
        detach_topk_index: bool = True,
        ips_variant: Literal["paper", "merged"] = "paper",
        cl_pool: Literal["mean_mlp", "length_linear", "cls"] = "mean_mlp",
        cl_features: Literal["fused", "gated", "encoder", "unimodal"] = "fused",
        cl_direction: Literal["t2v", "v2t", "both"] = "t2v",
        dropout: float = 0.1,
        vision_lr: float | None = None,
        contrast_lr: float | None = None,
        **training: Any,
    ) -> None:
        """Keep the options; where the paper states a setting, it is the default.

        Args:
            text: the text tower, BERT-like: `tiny-bert`, a hub name such as `bert-base-uncased`, or a folder.
            vision: the vision tower, a CLIP: `tiny-vit`, a hub name, or a folder; as deep as the text tower. Or
                `captions`: the image stream is a second text tower like the first, which reads the caption.
            tiny_heads: attention heads of `tiny-bert` and `tiny-vit`; other towers bring their own.
            max_tokens: length limit in pieces, special pieces included; of a caption, too.
            word_pool: a word is its first piece, or the mean over its pieces.
            max_objects: crops of the first image of a post, at most.
            crop_size: height and width of a crop in pixels; a multiple of the vision tower's patch. With captions
                neither this nor max_objects nor mask_missing_crops is read.
            kv_source: text layer l attends to what image layer l - 1 attended with, and image layers likewise
                (previous); or image layers step first, and text layer l gets image layer l's.
            first_layer: the foreign part of the first layer: the other embedding as it is (raw), through the other
                tower's first layer (projected), or none.
            mask_missing_crops: hide the places of crops that are not there; false reads them as grey crops, as the
                authors do.
            embed_noise_alpha: uniform noise on both embeddings in training, alpha / sqrt(n d); the authors' code has 5.
            use_mgi: multi-granularity interweave and gate; false tags the text stream's states.
            n_interweave: interweave steps.
            final_image_mge: one more image-guided step for the contrastive losses.
            length_align: how patches and pieces come to one length: a learnt map of positions, interpolation, or
                attention.
            mge_heads: heads of an extractor; must divide the text tower's width.
            mge_value: an extractor's values come from its source, or from its target.
            mge_ffn: a feed-forward network behind each extractor.
            column_reading: column weights by a vector over tokens (transpose), or over features as printed (literal),
                which makes each of them 1.
            column_bias: added to column weights; the authors' code has -0.05.
            interweave_residual: an extractor's residual inside its block, or around it as in Eq. 10.
            use_row: weigh rows (tokens).
            use_col: weigh columns (features).
            gate: one share for each feature, or one for each piece.
            w_ips: weight of the implicit positives' loss (Eq. 16); 0 leaves it out.
            w_cl: weight of the own pairs' loss (Eq. 17); 0 leaves it out.
            ips_k: implicit positives of each row.
            tau: temperature of both.
            ips_clamp_k: at most all but one of the batch's images are positives; with all the loss is 0.
            ips_exclude_own: the own image is no candidate.
            detach_topk_index: who is chosen is constant; else the choice passes a sigmoid's gradient.
            ips_variant: two losses, or the authors' one ratio with the own pair added to the top K (merged); its
                weight is w_ips.
            cl_pool: a sequence becomes a vector by its mean, Linear and GELU; by a Linear over positions and GELU; or
                by its first token, Linear and GELU.
            cl_features: what is contrasted: text before the gate and image, both interwoven (fused); text behind the
                gate (gated); states before the interweave (encoder); states without any exchange, read once more
                (unimodal).
            cl_direction: texts rank images, images rank texts, or the mean of both.
            dropout: in extractors, and on states before the head.
            vision_lr: learning rate of the image stream's tower; default: tower_lr.
            contrast_lr: learning rate of the contrastive heads; default: lr.
            training: options of `Tagger`.

        """
        given = locals()
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, max_tokens=max_tokens, max_objects=max_objects, crop_size=crop_size)
        check("model", COUNT, tiny_heads=tiny_heads)
        check("model", COUNT, mge_heads=mge_heads, ips_k=ips_k, n_interweave=n_interweave)
        check("model", WEIGHT, w_ips=w_ips, w_cl=w_cl, embed_noise_alpha=embed_noise_alpha)
        check("model", POSITIVE, tau=tau, vision_lr=vision_lr, contrast_lr=contrast_lr)
        check("model", Range(-1, 1), column_bias=column_bias)
        self.text, self.vision, self.max_tokens, self.word_pool = text, vision, max_tokens, word_pool
        self.tiny_heads = tiny_heads
        self.w_ips, self.w_cl, self.vision_lr, self.contrast_lr = w_ips, w_cl, vision_lr, contrast_lr
        self.max_objects, self.crop_size = max_objects, crop_size
        # the merged ratio is one loss
        used = {"use_ips": w_ips > 0, "use_cl": w_cl > 0 and ips_variant == "paper"}
        self.options = {name: given[name] for name in ENCODER_OPTIONS if name not in used} | used

    def make_encoder(self) -> MgipsEncoder:
        own: dict[str, Any] = {"max_tokens": self.max_tokens, "word_pool": self.word_pool}
        own |= self._sizes(self.text, "tiny-bert")
        text = self.text_tower("text", self.text, **own)
        if not isinstance(text, BertTower):
            raise UsageError(
                f"--model.text {self.text}: two streams step layer by layer; give a tower like BERT, or tiny-bert"
            )
        captions = self.vision == CAPTIONS
        vision: Any = self.text_tower("vision", self.text, **own) if captions else self._pictures()
        return MgipsEncoder(text, vision, **self.options)

    def _pictures(self) -> ClipVisionTower:
        tower = self.vision_tower("vision", self.vision, **self._sizes(self.vision, "tiny-vit"))
        if not isinstance(tower, ClipVisionTower):
            raise UsageError(
                f"--model.vision {self.vision}: two streams step layer by layer; give a CLIP, tiny-vit, or captions"
            )
        return tower

    def _sizes(self, spec: str, tiny: str) -> dict[str, int]:
        return {"heads": self.tiny_heads} if spec == tiny else {}

    def needs(self) -> Needs:
        reader, vision = self.towers["text"].reader, self.towers["vision"]
        if self.vision == CAPTIONS:
            return Needs(reader, frozenset({"captions"}), caption_reader=vision.reader)
        picture = replace(vision.picture, size=self.crop_size)
        return Needs(reader, frozenset({"objects"}), picture=picture, max_objects=self.max_objects)

    def loss_weights(self) -> dict[str, float]:
        """Eq. 19."""
        return {"ips": self.w_ips, "cl": self.w_cl}

    def other_rates(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """The two towers apart, and the contrastive heads."""
        tower_lr = self.lr if self.tower_lr is None else self.tower_lr
        groups: dict[str, tuple[list[nn.Module], float | None]] = {
            "vision": ([self.towers["vision"]], tower_lr if self.vision_lr is None else self.vision_lr)
        }
        if self.encoder.contrast is not None:
            groups["contrast"] = [self.encoder.contrast], self.lr if self.contrast_lr is None else self.contrast_lr
        return groups
