"""Options of all methods, of taggers, and of methods with text and vision towers. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mnerkit.errors import UsageError
from mnerkit.options import DROPOUT, POSITIVE, SIZE, WEIGHT, Options, Range, option

LORA_RANK = 1 << 10  # largest rank of LoRA: a BERT's matrices have some hundreds of rows and columns
WordPool = Literal["first", "mean"]


@dataclass(frozen=True, kw_only=True)
class MethodOptions(Options):
    """Options of all methods: optimiser, schedule, and pieces of words."""

    lr: float = option(1e-3, "learning rate of the method's own modules", POSITIVE)
    tower_lr: float | None = option(None, "learning rate of towers that are not frozen; default: lr", POSITIVE)
    weight_decay: float = option(0.01, "AdamW's weight decay", WEIGHT)
    decay: Literal["matrices", "all"] = option(
        "matrices",
        "what weight_decay applies to: matrices, or all weights, biases and norms included",
        since=("0.1.0", "matrices"),
    )
    schedule: Literal["linear", "cosine", "constant", "linear_from_zero"] = option(
        "linear",
        "decay of the learning rates after the warm-up; linear_from_zero is linear with a first step at rate zero, as "
        "transformers' schedule has it",
    )
    warmup: float = option(
        0.06, "share of all steps in which the learning rates rise from zero", Range(0, 1, below=True)
    )
    word_pieces: int | None = option(
        None,
        "maximum number of pieces of a word that a text tower reads, its first ones; default: all. A link has more "
        "than a dozen pieces, and half of the pieces of Twitter-2015 belong to links",
        SIZE,
    )


@dataclass(frozen=True, kw_only=True)
class TaggerOptions(MethodOptions):
    """Options of methods that tag words; the options of heads are in `mnerkit.methods.heads.options`."""

    head_lr: float | None = option(None, "learning rate of the head; default: lr", POSITIVE)


@dataclass(frozen=True, kw_only=True)
class TowerOptions(Options):
    """How transformers are trained. None of it changes how a finished method tags."""

    checkpointing: bool = option(
        False,
        "gradient checkpointing: transformers that are trained keep the inputs of their layers alone, and compute the "
        "rest again for the gradients. That takes much less memory and a third more time; the results are the same",
        since=("0.1.0", False),
    )
    compile: bool = option(
        False,
        "compile the layers of transformers that are trained (torch.compile) in fit. The first steps take a minute or "
        "two, the others less time; results differ by rounding",
        since=("0.1.0", False),
    )
    lora_rank: int = option(
        0,
        "with a rank of 4 to 64, transformers that are not frozen keep their pretrained weights, and learn products of "
        "two narrow matrices beside their layers' maps (LoRA; needs the extra lora); 0: all weights are trained",
        Range(0, LORA_RANK),
        since=("0.1.0", 0),
    )

    def check(self) -> None:
        """Refuse to compile layers that are computed twice: torch would leave most of them as they are."""
        super().check()
        if self.compile and self.checkpointing:
            raise UsageError(
                "--model.compile true: layers that are computed again (--model.checkpointing true) are not compiled; "
                "give one of the two"
            )


@dataclass(frozen=True, kw_only=True)
class TextOptions(TaggerOptions, TowerOptions):
    """Options of taggers with a text tower."""

    text: str = option(
        "tiny",
        "the text tower: tiny, bilstm, tiny-bert for methods that use its layers, a hub name such as "
        "bert-base-cased, or a folder",
    )
    max_tokens: int = option(
        128, "length limit in pieces, special pieces included; of two segments the second is cut first", SIZE
    )
    long_posts: Literal["auto", "cut", "windows"] = option(
        "auto",
        "posts that are longer than max_tokens are cut in training. windows: in scoring and in predict they are read "
        "in windows that overlap by a quarter; cut: they are cut there, too; auto: cut in scoring, windows in predict",
        since=("0.1.0", "cut"),
    )
    word_pool: WordPool = option("first", "a word's state is that of its first piece, or the mean over its pieces")


@dataclass(frozen=True, kw_only=True)
class TwoViewOptions(TextOptions):
    """Options of taggers whose text tower reads a second segment about the pictures, and the words alone."""

    freeze: bool = option(False, "freeze the text tower's weights")
    second_words: int = option(24, "maximum number of words of the second segment", SIZE)
    max_images: int = option(1, "read what is known of this many images of a post, the first ones", SIZE)
    dropout: float = option(0.1, "share of the word states' features dropped", DROPOUT)
    read: Literal["caption", "text", "both"] = option(
        "caption",
        "what is tagged after training: the text with its second segment (caption), the text alone, or both, by their "
        "mean emissions",
    )


@dataclass(frozen=True, kw_only=True)
class WordVectorOptions(Options):
    """Options of the text tower `bilstm`; all but `dropout` have no effect on other towers."""

    chars: Literal["none", "cnn", "lstm"] = option("cnn", "read the characters of words with a CNN, an LSTM, or not")
    width: int = option(200, "width of the word states, both directions together", Range(2, SIZE.most))
    word_width: int = option(100, "width of the word vectors, where no file gives them", SIZE)
    char_width: int = option(50, "width of the vector that the characters of a word make", SIZE)
    vectors: str | None = option(None, "a text file of pretrained word vectors in GloVe's format")
    dropout: float = option(
        0.5, "share dropped of the LSTM's input, of the character vectors and of the word states", DROPOUT
    )

    def check(self) -> None:
        """Refuse odd widths of what is read in two directions."""
        super().check()
        for name in ("width", *(["char_width"] if self.chars == "lstm" else [])):
            if (width := getattr(self, name)) % 2:
                raise UsageError(f"--model.{name} {width}: one half is of each direction; give an even number")

    def of_bilstm(self) -> dict[str, Any]:
        """The options of `mnerkit.towers.text.bilstm.BiLstmTower`."""
        names = ("chars", "width", "word_width", "char_width", "vectors", "dropout")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class PictureOptions(TextOptions):
    """Options of taggers with a text tower and a vision tower."""

    vision: str = option(
        "tiny", "the vision tower: tiny, resnet50, a hub name, a folder, or captions where the method can read them"
    )
    freeze_text: bool = option(False, "freeze the text tower's weights")
    freeze_vision: bool = option(
        True,
        "freeze the vision tower's weights. A tower that reads captions ignores this option: it is frozen if its "
        "weights come from a hub or folder, and trained if they are new",
    )
    max_images: int = option(1, "use this many images of a post, the first ones", SIZE)


@dataclass(frozen=True, kw_only=True)
class SubwordOptions(Options):
    """What is tagged; for methods whose authors tag pieces."""

    subword: Literal["first", "X", "copy"] = option(
        "first",
        "what is tagged. first: words, by the state of their first piece; X: every piece, as the authors do, with tags "
        "of their own for later pieces of a word and for the special pieces; copy: the same, but later pieces have "
        "their word's tag. A word is scored by its first piece. X and copy need the head softmax or crf",
        since=("0.1.0", "first"),
    )

    def check(self) -> None:
        """Refuse pieces of towers that read whole words."""
        super().check()
        text = getattr(self, "text", "")
        if self.subword != "first" and text in ("tiny", "bilstm"):
            raise UsageError(
                f"--model.subword {self.subword}: tower {text} reads whole words; give tiny-bert or a BERT"
            )


@dataclass(frozen=True, kw_only=True)
class AbsentOptions(Options):
    """What stands in a place without a picture."""

    absent: Literal["mask", "zeros"] = option(
        "mask",
        "a place without a picture is masked; or zeros, a fault of the authors' code: a picture of the mean colour, "
        "which words see like any other",
        since=("0.1.0", "mask"),
    )


@dataclass(frozen=True, kw_only=True)
class TrunkOptions(AbsentOptions):
    """How pictures come to the vision tower, for methods whose authors' code has other ways than ours."""

    picture_fit: Literal["squeeze", "centre_crop"] = option(
        "squeeze",
        "a picture is squeezed to a square; or centre_crop, as in the authors' code: its middle alone, 7/8 of the "
        "shorter side",
        since=("0.1.0", "squeeze"),
    )
    trunk_norm: Literal["eval", "train"] = option(
        "eval",
        "BatchNorm of a frozen vision tower has the statistics of its pretraining; or train, a fault of the authors' "
        "code: in training those of the batch, which also move the ones for evaluation",
        since=("0.1.0", "eval"),
    )


@dataclass(frozen=True, kw_only=True)
class BertAdamOptions(Options):
    """The optimiser, for methods whose authors trained with BERT's first one."""

    optimiser: Literal["adamw", "bert_adam"] = option(
        "adamw",
        "AdamW with the options schedule and decay; or bert_adam, as in the authors' code: no correction of the first "
        "steps' means, each tensor's gradient clipped to norm 1 by itself, all but biases and norms decay, and after "
        "the warm-up the rate falls from the share of the steps that are left. Give trainer.gradient_clip_val null",
    )


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

    max_objects: int = option(3, "use this many objects of an image, those with the highest scores", SIZE)
