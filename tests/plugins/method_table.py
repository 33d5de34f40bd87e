"""What goes together: every method with every head, data, pictures, precision, ranks and units of tagging.

`AXES` is the one table. `refusals` says which combinations mnerkit refuses, and in which words; all others train.
"""

from __future__ import annotations

from itertools import combinations as choose
from itertools import product
from typing import Any, NamedTuple

from mnerkit import registry
from mnerkit.methods.heads import HEADS, load_head_class
from mnerkit.methods.options import SubwordOptions
from mnerkit.options import declared
from mnerkit.runs.config.configuration import Configuration, has_head, resolve

NO_HEAD = "none"


class Combination(NamedTuple):
    """One value of each axis.

    Attributes:
        plugin: a method.
        head: a head, or `NO_HEAD`.
        data: `posts` trains on a corpus of several pictures a post, all of its types; `episodes` scores types that were
            not trained.
        pictures: seen by a tower that is `frozen` or `trained`, read as `captions`, or `none`, by a method that does
            without them, or else on posts that have none.
        precision: the Trainer's.
        ranks: processes; the second of two gets posts without pictures.
        subword: what is tagged, words by their first piece or every piece (`SubwordOptions`).
    """

    plugin: str
    head: str
    data: str
    pictures: str
    precision: str
    ranks: str
    subword: str

    @property
    def name(self) -> str:
        """Its values, as the name of a test."""
        return "-".join(self)


# the first values are the quickest ones: where it makes no difference the covering set takes them
AXES: dict[str, tuple[str, ...]] = {
    "plugin": tuple(name for name in registry.plugins() if name != "prompted"),  # it asks a server
    "head": (*HEADS, NO_HEAD),
    "data": ("posts", "episodes"),
    "pictures": ("trained", "frozen", "captions", "none"),
    "precision": ("32-true", "bf16-mixed"),
    "ranks": ("one", "two"),
    "subword": ("first", "X", "copy"),
}

# options of a method by what it sees; those of `USUAL` where it has none of its own
USUAL: dict[str, dict[str, Any]] = {
    "trained": {"freeze_vision": False},
    "frozen": {"freeze_vision": True},
    "captions": {"vision": "captions"},
    "none": {},  # the posts have none
}
# two towers that step together are trained together
_STEPPING = {"trained": {"vision": "tiny-vit"}}
_PROMPTS = ("image", "objects", "labels", "caption")
PICTURES: dict[str, dict[str, dict[str, Any]]] = {
    "adacan": {"none": {"use_image": False}},
    "captions": {"captions": {}},
    "gmf": {"none": {"vcg": False, "alpha": 1.0}},
    "gvatt": {"none": {"use_image": False}},
    "ita": {"captions": {}},
    "ocsga": {"captions": {}},
    "mgips_cl": _STEPPING,
    "mkgformer": _STEPPING,
    "mousing": {
        "trained": {"freeze": False},
        "frozen": {"freeze": True},
        "captions": {"image_nodes": "captions"},
        "none": {"use_image": False},
    },
    "relevance": {"trained": {"freeze": False}, "frozen": {"freeze": True}, "none": {"preference": "matched"}},
    "umgf": {"none": {"links": "none"}},
    "umt": {"none": {"fuse": "none"}},
    "vec_mner": _STEPPING,
    "visualpt_moe": {"none": {f"use_{name}": False for name in _PROMPTS}},
}
SIZES = {"batch_size": 3, "eval_batch_size": 4, "k_shot": 2, "train_on": "all_train"}
SIZES |= {"episodes_per_epoch": 4, "dev_episodes": 2, "eval_episodes": 2}
TYPES = {"train_types": ["PER", "LOC", "ORG", "MISC"], "test_types": ["VEH", "ANI", "FOOD", "MUS"]}
DATA: dict[str, dict[str, Any]] = {
    "posts": {"variant": "multi", "limit": 16} | dict.fromkeys(TYPES),
    "episodes": {"variant": "fewshot", "limit": 24} | TYPES,
}
TRAINER = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "enable_progress_bar": False}
TRAINER |= {"limit_val_batches": 1, "limit_predict_batches": 1}


def refusals(c: Combination) -> list[str]:
    """Why mnerkit refuses a combination, each reason as a pattern of its message; none where it trains."""
    plugin = registry.get(c.plugin)
    options = declared(plugin.options_class)
    reasons = [rf"no option --model\.{name}" for name in _seen(c) if name not in options]
    if c.pictures == "captions" and c.plugin == "cross":
        reasons.append("--model.vision captions: this method's vision tower reads pixels")
    if c.subword != "first" and not issubclass(plugin.options_class, SubwordOptions):
        reasons.append(r"no option --model\.subword")
    if not has_head(plugin):
        if c.head != NO_HEAD:
            reasons.append(r"no option --model\.head")
        if c.data == "episodes":
            reasons.append(f"episodes, and {c.plugin} learns nothing from a support")
        if c.pictures == "none":
            reasons.append("0 of the [0-9]+ training posts have ranked images")
    elif c.head == NO_HEAD:
        reasons.append("no head 'none'")
    else:
        if c.data == "episodes" and not load_head_class(c.head).reads_support:
            reasons.append(f"episodes, and head '{c.head}' learns nothing from a support")
        if c.subword != "first" and c.head not in ("softmax", "crf"):
            reason = "transitions of BIO hold between" if c.head == "prototype_crf" else f"the head {c.head} tags"
            reasons.append(f"--model.subword {c.subword}: {reason} words")
    return reasons


def _seen(c: Combination) -> dict[str, Any]:
    return PICTURES.get(c.plugin, {}).get(c.pictures, USUAL[c.pictures])


def configuration(c: Combination, cache: str) -> Configuration:
    """The configuration of a combination.

    Args:
        c: the combination.
        cache: folder of tiny towers that were trained.

    Raises:
        UsageError: the options do not go together.
    """
    model: dict[str, Any] = {**_seen(c)}
    if c.head != NO_HEAD or has_head(registry.get(c.plugin)):
        model["head"] = {"name": c.head} | ({"steps": 2} if c.head == "finetune" else {})
    if c.subword != "first":
        model |= {"subword": c.subword, "text": "tiny-bert"}
    trainer = TRAINER | {"precision": c.precision}
    if c.ranks == "two":
        trainer |= {"devices": 2, "strategy": "ddp"}
    data = SIZES | DATA[c.data] | {"relevance": None if c.pictures == "none" else "oracle", "cache": cache}
    return resolve(c.plugin, values={"model": model, "data": data, "trainer": trainer})


def every_combination() -> list[Combination]:
    """The complete product, those that are refused included."""
    return [Combination(*values) for values in product(*AXES.values())]


Pair = tuple[tuple[str, str], ...]


def pairs(c: Combination) -> frozenset[Pair]:
    """The pairs of values of two axes that a combination holds.

    And three values, where the vision tower of a method is trained by two ranks and one of them has nothing to show it.
    """
    values = dict(zip(AXES, c, strict=True))
    idle = [tuple((axis, values[axis]) for axis in ("plugin", "pictures", "ranks"))]
    if (c.pictures, c.ranks) != ("trained", "two"):
        idle = []
    return frozenset([*choose(values.items(), 2), *idle])


def covering(candidates: list[Combination]) -> list[Combination]:
    """A few of `candidates` that hold each pair that any of them holds; always the same ones.

    Each time the one that holds most of the pairs that are left, of equal ones the first.
    """
    names = dict.fromkeys(pair for each in candidates for pair in sorted(pairs(each)))
    numbers = {pair: 1 << number for number, pair in enumerate(names)}
    holds = [sum(numbers[pair] for pair in pairs(c)) for c in candidates]
    left, chosen = (1 << len(numbers)) - 1, []
    while left:
        best = max(range(len(candidates)), key=lambda place: (holds[place] & left).bit_count())
        chosen.append(candidates[best])
        left &= ~holds[best]
    return chosen
