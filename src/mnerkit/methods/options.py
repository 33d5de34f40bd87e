"""Options of all methods, of taggers, and of methods with text and vision towers. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.options import COUNT, POSITIVE, WEIGHT, Options, Range, option

WordPool = Literal["first", "mean"]


@dataclass(frozen=True, kw_only=True)
class MethodOptions(Options):
    """Options of all methods: optimiser, schedule, and pieces of words."""

    lr: float = option(1e-3, "learning rate of the method's own modules", POSITIVE)
    tower_lr: float | None = option(None, "learning rate of towers that are not frozen; default: lr", POSITIVE)
    weight_decay: float = option(0.01, "AdamW's decay of matrices (biases and norms do not decay)", WEIGHT)
    schedule: Literal["linear", "cosine", "constant"] = option(
        "linear", "decay of the learning rates after the warm-up"
    )
    warmup: float = option(
        0.06, "share of all steps in which the learning rates rise from zero", Range(0, 1, below=True)
    )
    word_pieces: int | None = option(
        None,
        "most pieces of a word that a text tower of pieces reads, its first ones; default: all. A link has more than a "
        "dozen, and half of the pieces of Twitter-2015 are links",
        COUNT,
    )


@dataclass(frozen=True, kw_only=True)
class TaggerOptions(MethodOptions):
    """Options of methods that tag words; the options of heads are in `mnerkit.methods.heads.options`."""

    head_lr: float | None = option(None, "learning rate of the head; default: lr", POSITIVE)


@dataclass(frozen=True, kw_only=True)
class TextOptions(TaggerOptions):
    """Options of taggers with a text tower."""

    text: str = option(
        "tiny",
        "the text tower: tiny, bilstm, tiny-bert for methods that reach into its layers, a hub name such as "
        "bert-base-cased, or a folder",
    )
    max_tokens: int = option(
        128, "length limit in pieces, special pieces included; of two segments the second is cut first", COUNT
    )
    word_pool: WordPool = option("first", "a word's state is that of its first piece, or the mean over its pieces")


@dataclass(frozen=True, kw_only=True)
class PictureOptions(TextOptions):
    """Options of taggers with a text tower and a vision tower."""

    vision: str = option(
        "tiny", "the vision tower: tiny, resnet50, a hub name, a folder, or captions where the method can read them"
    )
    freeze_text: bool = option(False, "keep the text tower's weights as they are")
    freeze_vision: bool = option(
        True,
        "keep the vision tower's weights as they are. A tower that reads captions is frozen where its weights come "
        "from a hub or folder, and learns where they are new, whatever this says",
    )
    max_images: int = option(1, "look at this many images of a post, the first ones", COUNT)


@dataclass(frozen=True, kw_only=True)
class ImageSetOptions(
    PictureOptions,
    text="bert-base-uncased",
    vision="google/vit-base-patch16-224",
    freeze_vision=False,
    max_tokens=64,
    max_images=4,
):
    """Options of taggers that prefix the text tower with several images, one position an image (TPM-MI, GIFR)."""

    augment: bool = option(False, "mirror and shift pictures while training; off for a frozen vision tower")


@dataclass(frozen=True, kw_only=True)
class ObjectOptions(PictureOptions):
    """Options of taggers that also look at the objects in the pictures."""

    max_objects: int = option(3, "look at this many objects of an image, those with the highest scores", COUNT)
