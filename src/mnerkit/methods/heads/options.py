"""Options of the heads (`--model.head.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mnerkit.options import DROPOUT, POSITIVE, WEIGHT, Options, option

Layer = Literal["softmax", "crf"]
Transitions = Literal["tied", "full"]
Reduction = Literal["post", "word", "sum"]


@dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """Base of all heads' options."""

    section: ClassVar[str] = "model.head"


@dataclass(frozen=True, kw_only=True)
class SoftmaxOptions(HeadOptions):
    """Options of the head `softmax`."""

    dropout: float = option(0.0, "share of the word states' features dropped before the linear layer", DROPOUT)


@dataclass(frozen=True, kw_only=True)
class ReductionOptions(HeadOptions):
    """How a CRF's loss is scaled against other losses."""

    reduction: Reduction = option(
        "post",
        "the negative log-likelihood of a batch's posts divided by the number of posts (post), by that of the words "
        "whose tag counts (word), or not at all (sum)",
        since=("0.1.0", "post"),
    )


@dataclass(frozen=True, kw_only=True)
class CRFOptions(ReductionOptions):
    """Options of the head `crf`."""

    transitions: Transitions = option(
        "full", "a score for each pair of tags, or one for each pair of roles (O->B, B->I same ...), for all types"
    )
    constrain_bio: bool = option(
        False,
        "never decode an I-x at the start, after O or after another type. The loss does not change, since gold tags "
        "may contain such orphans",
    )
    dropout: float = option(0.0, "share of the word states' features dropped before the linear layer", DROPOUT)


@dataclass(frozen=True, kw_only=True)
class PrototypeOptions(HeadOptions):
    """Options of the head `prototype`."""

    distance: Literal["sq_euclid", "euclid", "cosine"] = option(
        "sq_euclid", "distance of a word to a prototype; cosine is one minus the cosine"
    )
    dist_scale: float | None = option(
        None,
        "factor of the distance before the softmax; default: 1 / sqrt(width) for sq_euclid, 1 for euclid, 10 for "
        "cosine",
        POSITIVE,
    )
    proto_classes: Literal["bio", "io"] = option(
        "bio", "a prototype for each BIO tag, or one for each type that B- and I- share"
    )
    missing_I: Literal["from_B", "absent"] = option(
        "from_B", "if the support has no I-x, use the prototype of B-x (from_B), or never predict the tag (absent)"
    )
    o_proto: Literal["mean", "nearest", "learned_bias"] = option(
        "mean",
        "the distance to O is the distance to the mean of the support's O words, to the nearest of them, or a learnt "
        "share (initially one half) of their mean distance to the nearest entity prototype",
    )


@dataclass(frozen=True, kw_only=True)
class PrototypeCRFOptions(PrototypeOptions, ReductionOptions):
    """Options of the head `prototype_crf`."""

    transitions: Transitions = option(
        "tied",
        "tied scores roles of tags and serves any number of types; full scores pairs of tags, so that episodes must "
        "have as many types as the model was built for",
    )
    slot_shuffle: bool = option(
        True, "with full, assign the types to the tags at random in each episode (seeded by its number)"
    )
    constrain_bio: bool = option(
        True, "never decode an I-x at the start, after O or after another type; the loss is the same"
    )
    emission: Literal["logp", "p"] = option("logp", "input of the CRF: log-probabilities or probabilities")


@dataclass(frozen=True, kw_only=True)
class NearestOptions(HeadOptions):
    """Options of the head `nearest`."""

    normalise: bool = option(True, "normalise word states to length 1 before computing squared Euclidean distances")
    zero_distance: Literal["keep", "drop"] = option(
        "keep",
        "a support word with exactly the state of a query word is its nearest one (keep); or does not count, a fault "
        "of the authors' code (drop)",
        since=("0.1.0", "keep"),
    )
    dropout: float = option(
        0.0, "share of the word states' features dropped before the softmax that is trained", DROPOUT
    )


@dataclass(frozen=True, kw_only=True)
class StructOptions(NearestOptions):
    """Options of the head `struct`."""

    tau: float | None = option(
        None,
        "power of the transition probabilities; below 1 it flattens them; null: selected on dev at each validation "
        "from 0.01, 0.05, 0.1, 0.2, 0.5, 1 and 2 (stored in the checkpoint)",
        WEIGHT,
    )
    counting: Literal["io", "bio"] = option(
        "io",
        "transitions are counted between types, or between BIO tags, as in the authors' code: there a step from B-x to "
        "I-x counts as one to another type",
        since=("0.1.0", "io"),
    )
    one_type: Literal["proper", "released"] = option(
        "proper",
        "with one type in play, a word of it is left or followed by its kind as often as counted; released: both are "
        "equally improbable, since the authors' code divides by zero",
        since=("0.1.0", "proper"),
    )
    floor: Literal["clamp", "zeros"] = option(
        "clamp",
        "no transition is less probable than 1e-6 (clamp); or those alone that never occurred are lifted to that, as "
        "in the authors' code (zeros)",
        since=("0.1.0", "clamp"),
    )


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(HeadOptions):
    """Options of the head `finetune`."""

    layer: Layer = option(
        "softmax", "layer that is trained on the source types and, newly initialised, tuned on each support"
    )
    scope: Literal["head", "all"] = option(
        "head",
        "tune only the new layer, on states that are encoded once, or also the encoder's trainable weights",
    )
    steps: int = option(50, "steps of AdamW on each support, all of it at once", WEIGHT)
    lr: float = option(1e-2, "learning rate of the new layer", POSITIVE)
    encoder_lr: float = option(1e-4, "learning rate of the encoder, with scope all", POSITIVE)
    weight_decay: float = option(0.0, "AdamW's decay while tuning", WEIGHT)
    tuning_dropout: bool = option(
        False, "use dropout while tuning: on the layer's input and, with scope all, within the encoder"
    )
    dropout: float = option(0.0, "share of the word states' features dropped before the layer", DROPOUT)
