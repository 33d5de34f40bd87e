"""A method's released form: its table of names, and the settings and tags of a file of weights in that form."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mnerkit import registry
from mnerkit.data.corpus.corpus import LABELS
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import CheckpointError, UsageError, shown
from mnerkit.methods.heads import HEADS
from mnerkit.methods.released import ReleasedWeights, listed
from mnerkit.methods.tagger import Tagger
from mnerkit.runs.config.configuration import filled
from mnerkit.runs.run_folder import UNKNOWN_CORPUS

PIECES = "encoder.text.model.embeddings.word_embeddings.weight"
SCORES = "head.linear.bias"
VOCABULARIES = {28996: "bert-base-cased", 30522: "bert-base-uncased"}  # number of pieces -> the tower that has it
SAME_TAG = {"CLS": "[CLS]", "SEP": "[SEP]", "[PAD]": "PAD"}  # what some code calls tags of special pieces


def _no_sizes(_: Mapping[str, Tensor]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class ReleasedForm:
    """What the module `released` of a plugin says (`mnerkit.methods.released`).

    Attributes:
        plugin: name of the method.
        table: names of weights.
        readings: options under which ours computes what the released code computes.
        towers: the authors' towers by option.
        tags: their tags in the order of their numbers; empty where they are not known.
        sizes: the options that the weights' shapes tell.
        repaired: faults of the released code that no reading repeats; empty where ours computes what that code does.
    """

    plugin: str
    table: ReleasedWeights
    readings: Mapping[str, Any]
    towers: Mapping[str, str]
    tags: tuple[str, ...]
    sizes: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    repaired: str

    @classmethod
    def of(cls, name: str) -> ReleasedForm:
        """The released form of a method.

        Raises:
            UsageError: no such method, or it has none.
        """
        have = [each.name for each in registry.plugins().values() if each.released_module is not None]
        if name in (*HEADS, "structshot"):
            raise UsageError(
                f"{name} is a head that tags with the states of any method: its authors released no weights of it "
                f"that could be imported. Methods: {', '.join(have)}"
            )
        module_name = registry.get(name).released_module
        if module_name is None:
            raise UsageError(f"{name} has no table of released weights; methods that have one: {', '.join(have)}")
        module: Any = importlib.import_module(module_name)
        return cls(
            name,
            module.WEIGHTS,
            module.READINGS,
            getattr(module, "TOWERS", {}),
            tuple(getattr(module, "TAGS", ())),
            getattr(module, "sizes", _no_sizes),
            getattr(module, "REPAIRED", ""),
        )

    def settings(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """The configuration of the method that released weights are of, as far as they and the authors' code tell.

        Raises:
            CheckpointError: weights that tell a size are missing or of another kind.
        """
        sources = self.table.sources(weights)
        with self.explained(weights):
            sizes = self.sizes(weights)
        head = "crf" if "head.crf.transitions" in sources else "softmax"
        towers = dict(self.towers)
        if (pieces := self.count(PIECES, weights)) in VOCABULARIES:
            towers["text"] = VOCABULARIES[pieces]
        model = {**towers, **sizes, **self.readings, "head": {"name": head}}
        return filled({"plugin": self.plugin, "seed": 0, "model": model, "data": {"corpus": UNKNOWN_CORPUS}}, new=True)

    def count(self, ours: str, weights: Mapping[str, Tensor]) -> int | None:
        """Length of the first released tensor of which a parameter of ours is made; None without one."""
        sources = self.table.sources(weights).get(ours)
        tensor = weights[sources[0]] if sources else None
        return len(tensor) if tensor is not None and tensor.dim() else None

    @contextmanager
    def explained(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Turn what a table meets in weights of another kind into one line."""
        try:
            yield
        except KeyError as missing:
            unknown = self.table.unknown(weights)
            reason = f"; unknown are {listed(unknown)}" if unknown else ""
            raise CheckpointError(
                f"these are no released weights of {self.plugin}: {shown(missing.args[0], 100)} is not there{reason}"
            ) from None
        except (IndexError, ValueError, TypeError, RuntimeError) as problem:
            raise CheckpointError(f"these are no released weights of {self.plugin}: {shown(problem, 120)}") from None

    def tag_order(self, method: Tagger, given: Sequence[str], weights: Mapping[str, Tensor]) -> list[int]:
        """For each tag of a method the number of the released one.

        Raises:
            UsageError: the tags are not those that the method has, or the weights have.
        """
        released = [ours_of(tag) for tag in given]
        kinds = method.piece_tags
        ours = TagSet(types_of(released), kinds.names if kinds else ()).tags
        missing, surplus = (sorted(set(a) - set(b)) for a, b in ((ours, released), (released, ours)))
        twice = [tag for tag in dict.fromkeys(released) if released.count(tag) > 1]
        for problem, tags in (("lack", missing), ("have without use", surplus), ("have twice", twice)):
            if tags:
                raise UsageError(f"--tags: they {problem} {listed(tags)}; {self.plugin} has {', '.join(ours)}")
        count = self.count(SCORES, weights)
        if count not in (None, len(ours)):
            raise UsageError(
                f"the weights score {count} tags, and there are {len(ours)}: give all of them in the order of their "
                f"numbers, as --tags {','.join(given[:3])},..."
            )
        return [released.index(tag) for tag in ours]


def ours_of(tag: str) -> str:
    """Our name of a released tag."""
    role, dash, kind = tag.partition("-")
    return f"{role}-{LABELS.get(kind, kind)}" if dash else SAME_TAG.get(tag, tag)


def types_of(tags: Sequence[str]) -> tuple[str, ...]:
    """The types of BIO tags, in their order."""
    return tuple(dict.fromkeys(tag[2:] for tag in tags if tag.startswith("B-")))
