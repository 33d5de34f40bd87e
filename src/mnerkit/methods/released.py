"""Weights under the names that a method's authors gave them, read into ours by one table a method.

A plugin whose authors released code has a module `released.py` with such a table, `WEIGHTS`, and `READINGS`: the
options under which ours computes what the released code computes. For `mnerkit import` it also has `sizes`, a function
of released weights that returns the options which their shapes tell; `TOWERS`, the authors' towers by option; `TAGS`,
their tags in the order of their numbers; and `REPAIRED`, a sentence on faults of the released code that no option
repeats.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mnerkit.errors import CheckpointError, shown

# released tensors, and for each of our tags the number of the released one -> our tensors
Change = Callable[[list[Tensor], Tensor], list[Tensor]]


@dataclass(frozen=True)
class Entry:
    """A line of a table: which released parameters become which of ours, and how.

    Attributes:
        released: a name in which `*` stands for any text and `{n}`, or another name in braces, for a number.
        ours: names with the same placeholders. Parameters that differ only in a number that is in no name of ours are
            read together, in the order of that number.
        change: the released tensors to ours, differentiable; None: unchanged.
    """

    released: str
    ours: tuple[str, ...]
    change: Change | None = None


def same(released: str, ours: str) -> Entry:
    """The same tensor under another name."""
    return Entry(released, (ours,))


def transposed(released: str, ours: str) -> Entry:
    """A matrix with its two axes exchanged."""
    return Entry(released, (ours,), lambda tensors, _: [tensors[0].t()])


def scaled(released: str, ours: str, factor: float) -> Entry:
    """The tensor times a factor."""
    return Entry(released, (ours,), lambda tensors, _: [tensors[0] * factor])


def joined(released: str, ours: str) -> Entry:
    """Tensors that differ in a number, one after the other along the first axis."""
    return Entry(released, (ours,), lambda tensors, _: [torch.cat(tensors)])


def split(released: str, *ours: str) -> Entry:
    """Equal parts along the first axis, such as the fused maps of `nn.MultiheadAttention`."""
    return Entry(released, ours, lambda tensors, _: list(tensors[0].chunk(len(ours))))


def of_tags(released: str, ours: str) -> Entry:
    """A tensor with a row for each tag, in the order of our tags."""
    return Entry(released, (ours,), lambda tensors, order: [tensors[0][order]])


def of_tag_pairs(released: str, ours: str) -> Entry:
    """A matrix from tags to tags, in the order of our tags."""
    return Entry(released, (ours,), lambda tensors, order: [tensors[0][order][:, order]])


def bert(released: str, ours: str) -> tuple[Entry, ...]:
    """The parameters of transformers' BERT below two names, without the pooler."""
    return tuple(same(f"{released}.{part}.*", f"{ours}.{part}.*") for part in ("embeddings", "encoder"))


def bert_layers(released: str, ours: str) -> tuple[Entry, ...]:
    """Layers of BERT outside of its encoder, which become `nn.attention.TransformerLayers`."""
    parts = {
        **{f"attention.self.{each}": f"attention.{each}" for each in ("query", "key", "value")},
        "attention.output.dense": "attention.out",
        "attention.output.LayerNorm": "look.norm",
        "intermediate.dense": "feedforward.0",
        "output.dense": "feedforward.3",
        "output.LayerNorm": "think.norm",
    }
    return tuple(same(f"{released}.layer.{{n}}.{theirs}.*", f"{ours}.{{n}}.{part}.*") for theirs, part in parts.items())


def resnet(released: str, ours: str) -> tuple[Entry, ...]:
    """Parameters and statistics of torchvision's ResNet below two names, without the last map."""
    stem = (same(f"{released}.{part}.*", f"{ours}.stem.{place}.*") for place, part in enumerate(("conv1", "bn1")))
    return (*stem, *(same(f"{released}.layer{n + 1}.*", f"{ours}.stages.{n}.*") for n in range(4)))


def linear_and_crf(linear: str = "fc", crf: str = "crf") -> tuple[Entry, ...]:
    """A linear layer to tags and a CRF of pytorch-crf, which become those of the head `crf`."""
    return (
        of_tags(f"{linear}.*", "head.linear.*"),
        of_tags(f"{crf}.start_transitions", "head.crf.start_transitions"),
        of_tags(f"{crf}.end_transitions", "head.crf.end_transitions"),
        of_tag_pairs(f"{crf}.transitions", "head.crf.transitions"),
    )


_ENTITY_TAGS = tuple(f"{role}-{kind}" for kind in ("MISC", "PER", "ORG", "LOC") for role in "BI")
# in the order of their numbers in UMT's code and in the many that grew from it
WORD_TAGS = ("O", *_ENTITY_TAGS)
PIECE_TAGS = ("PAD", *WORD_TAGS, "X", "[CLS]", "[SEP]")
POOLER = "BERT computes a pooled vector, and nothing reads it"
CLASSIFIER = "the pretrained trunk's classifier, which nothing reads"
# of BatchNorm; parameters in all but name
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class _Link:
    """Released names that become ours together."""

    released: tuple[str, ...]
    ours: tuple[str, ...]
    change: Change | None

    def __call__(self, weights: Mapping[str, Tensor], order: Tensor) -> list[Tensor]:
        tensors = [weights[name] for name in self.released]
        return tensors if self.change is None else self.change(tensors, order)


@dataclass(frozen=True)
class ReleasedWeights:
    """The table of a method.

    Attributes:
        entries: the first one that fits a name counts.
        ignored: released names that ours has no use for (patterns with `*`), each with the reason.
        unread: our parameters that nothing reads (patterns with `*`); they need no released ones.
        optional: names of ours that released weights are left out for where the options make no such parameter.
        ignored_last: the same as `ignored` for patterns with `{n}`, where n is the largest number that the names have.
    """

    entries: Sequence[Entry]
    ignored: Mapping[str, str] = field(default_factory=dict)
    unread: Sequence[str] = ()
    optional: Mapping[str, str] = field(default_factory=dict)
    ignored_last: Mapping[str, str] = field(default_factory=dict)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """The released names that neither an entry nor `ignored` knows."""
        return [name for name in names if self._ignored(name) is None and self._entry(name) is None]

    def ours(self, weights: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Our parameters from released ones; a differentiable function of them.

        Args:
            weights: released parameters by name.
            order: for each of our tags the number of the released one, (K,) long.
        """
        return {
            name: value
            for link in self._links(weights)
            for name, value in zip(link.ours, link(weights, order), strict=True)
        }

    def sources(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The released names of which each parameter of ours is made."""
        return {ours: link.released for link in self._links(names) for ours in link.ours}

    def left_out(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The released names that ours has no use for, by reason."""
        reasons: dict[str, list[str]] = {}
        names = [*names]
        last = self._last(names)
        for name in names:
            reason = self._ignored(name) or last.get(name)
            if reason is not None:
                reasons.setdefault(reason, []).append(name)
        return reasons

    def load(
        self, model: nn.Module, weights: Mapping[str, Tensor], order: Tensor, kept: Iterable[nn.Module] = ()
    ) -> None:
        """Load released weights into a method.

        Args:
            model: the built method.
            weights: released parameters by name.
            order: for each of our tags the number of the released one, (K,) long.
            kept: modules of the method that keep the weights which they have.

        Raises:
            CheckpointError: names are unknown or missing, or tensors have other shapes; the message lists them.
        """
        unknown, ours = self.unknown(weights), self.ours(weights, order)
        others = {id(tensor) for module in kept for tensor in (*module.parameters(), *module.buffers())}
        current: dict[str, Tensor] = dict(model.named_parameters())
        read = {name for name in current if not any(fnmatch.fnmatchcase(name, each) for each in self.unread)}
        current |= dict(model.named_buffers())
        read |= {name for name in current if name.endswith(_STATISTICS)}
        missing = sorted(name for name in read - ours.keys() if id(current[name]) not in others)
        ours = {name: value for name, value in ours.items() if name in current or _fitting(self.optional, name) is None}
        unmade = [name for name in ours if name not in current]
        shapes = [
            f"{name} {tuple(value.shape)}, not {tuple(current[name].shape)}"
            for name, value in ours.items()
            if name in current and current[name].shape != value.shape
        ]
        problems = {
            "unknown are": unknown,
            "nothing is there for": missing,
            "the method as it is built has no": unmade,
            "of other shapes are": shapes,
        }
        if any(problems.values()):
            lists = "; ".join(f"{problem} {listed(names)}" for problem, names in problems.items() if names)
            raise CheckpointError(f"released weights: {lists}")
        with torch.no_grad():
            for name, value in ours.items():
                current[name].copy_(value)

    def gradients(self, model: nn.Module, weights: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Gradients with respect to released parameters, from those of ours after a backward pass.

        Parameters of which ours has no gradient are left out.
        """
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        result: dict[str, Tensor] = {}
        for link in self._links(weights):
            leaves = {name: weights[name].detach().clone().requires_grad_() for name in link.released}
            pairs = [
                (value, gradients[name].to(value.dtype))
                for name, value in zip(link.ours, link(leaves, order), strict=True)
                if name in gradients
            ]
            if pairs:
                outputs, given = zip(*pairs, strict=True)
                result.update(zip(leaves, torch.autograd.grad(outputs, [*leaves.values()], given), strict=True))
        return result

    def _ignored(self, name: str) -> str | None:
        return _fitting(self.ignored, name)

    def _last(self, names: Sequence[str]) -> dict[str, str]:
        """The names that `ignored_last` speaks of, with its reasons."""
        last: dict[str, str] = {}
        for pattern, reason in self.ignored_last.items():
            found = {name: int(match["n"]) for name in names if (match := re.fullmatch(_regex(pattern), name))}
            last |= {name: reason for name, number in found.items() if number == max(found.values())}
        return last

    def _entry(self, name: str) -> tuple[Entry, dict[str, str]] | None:
        for entry in self.entries:
            if found := re.fullmatch(_regex(entry.released), name):
                return entry, found.groupdict()
        return None

    def _links(self, names: Iterable[str]) -> list[_Link]:
        """Names that are read together: those of an entry whose names of ours are the same."""
        together: dict[tuple[int, tuple[str, ...]], list[tuple[list[int], str]]] = {}
        names = [*names]
        idle = self._last(names)
        for name in names:
            found = None if name in idle or self._ignored(name) is not None else self._entry(name)
            if found is None:
                continue
            entry, places = found
            ours = tuple(_filled(each, places) for each in entry.ours)
            numbers = [int(value) for place, value in places.items() if place != "rest"]
            together.setdefault((self.entries.index(entry), ours), []).append((numbers, name))
        return [
            _Link(tuple(name for _, name in sorted(members)), ours, self.entries[place].change)
            for (place, ours), members in together.items()
        ]


def _fitting(reasons: Mapping[str, str], name: str) -> str | None:
    """The reason of the first pattern that fits a name."""
    return next((why for pattern, why in reasons.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _regex(pattern: str) -> str:
    """A pattern as a regular expression: `*` is the group `rest`, `{n}` the group `n` of digits."""
    parts = re.split(r"(\*|\{\w+\})", pattern)
    return "".join(
        r"(?P<rest>.+)" if part == "*" else rf"(?P<{part[1:-1]}>\d+)" if part[:1] == "{" else re.escape(part)
        for part in parts
    )


def _filled(pattern: str, places: Mapping[str, str]) -> str:
    return re.sub(r"\*|\{(\w+)\}", lambda found: places[found.group(1) or "rest"], pattern)


def listed(names: Sequence[str]) -> str:
    """The first names, as a message shows them, and how many there are besides."""
    first = ", ".join(shown(name, 100) for name in names[:5])
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"


def depth(names: Iterable[str], pattern: str) -> int:
    """How many numbers stand at `{n}` in the names that fit a pattern: layers, usually."""
    fits = (re.fullmatch(_regex(pattern), name) for name in names)
    return len({found["n"] for found in fits if found})


def tag_order(ours: Sequence[str], released: Sequence[str]) -> Tensor:
    """For each of our tags the number of the released one, (K,) long.

    Raises:
        CheckpointError: they are not the same tags.
    """
    if sorted(ours) != sorted(released):
        raise CheckpointError(f"released tags {', '.join(released)} are not ours, {', '.join(ours)}")
    return torch.tensor([list(released).index(tag) for tag in ours])
