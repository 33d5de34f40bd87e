"""What a run's scores were measured on. Figures are ranked and tested against each other only where it is the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mnerkit.data.episodes.protocol import DRAWING
from mnerkit.report.folders import Record, corpus_name, mapping

# name and value of each fact, in a fixed order
Evaluation = tuple[tuple[str, str], ...]
# facts that the heading of a table always names; of the others it names those that distinguish two evaluations
NAMED = ("corpus", "split", "train_types")


def evaluation_of(record: Record, split: str) -> Evaluation:
    """What the scores of a split were measured on: data, training types and the rules by which episodes were drawn.

    Not the seed of the episodes, which is the run's: runs are paired by it.
    """
    # scores on another corpus than the run's own have a protocol of their own
    protocol = mapping(record.metrics.get(f"{split}:protocol")) or record.protocol
    limit = protocol.get("limit")
    facts: dict[str, Any] = {
        "corpus": corpus_name(protocol, record.path) + (f" (first {limit} posts)" if limit is not None else ""),
        "split": split,
        "train_types": protocol.get("train_types"),
        "digest": str(protocol.get("digest"))[:12],
        "fold": fold_of(protocol),
    }
    if protocol.get("episodic"):
        kind = split.partition("@")[0]
        file = mapping(mapping(protocol.get("episode_files")).get(kind))
        drawing = () if file else tuple(name for name in DRAWING if name != "episode_seed")
        facts |= {name: protocol.get(name) for name in ("n_way", *drawing, f"{kind}_types", "out_of_play")}
        facts["queries"] = mapping(protocol.get("queries")).get(kind)
        facts["episodes"] = str(file["sha256"])[:12] if file.get("sha256") else None
    return tuple((name, joined(value)) for name, value in facts.items() if value is not None)


def fold_of(protocol: Mapping[str, Any]) -> str | None:
    """The fold of a cross-validation that a run was scored on, counted from 1; None of a run on the corpus's splits."""
    fold, folds = protocol.get("fold"), protocol.get("folds")
    return f"{fold + 1} of {folds}" if isinstance(fold, int) and isinstance(folds, int) else None


def joined(value: Any) -> str:
    """A value as text; the values of a list are joined by `+`."""
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def difference_between(one: Collection[Evaluation], other: Collection[Evaluation]) -> str:
    """The first fact in which two figures' evaluations differ, in words."""
    if len(one) == len(other) == 1:
        a, b = (dict(next(iter(evaluations))) for evaluations in (one, other))
        for name in dict.fromkeys([*a, *b]):
            if a.get(name) != b.get(name):
                return f"{name} {a.get(name, 'none')} against {b.get(name, 'none')}"
    return "other data or episodes"


def distinctions(evaluations: Iterable[Evaluation], named: Collection[str] = NAMED) -> dict[Evaluation, str]:
    """What distinguishes each evaluation from others that agree in the `named` facts; mostly nothing."""
    groups: dict[tuple[str | None, ...], dict[Evaluation, dict[str, str]]] = defaultdict(dict)
    for evaluation in evaluations:
        facts = dict(evaluation)
        groups[tuple(map(facts.get, named))][evaluation] = facts
    texts = {}
    for group in groups.values():
        names = dict.fromkeys(name for facts in group.values() for name in facts)
        differing = [name for name in names if len({facts.get(name) for facts in group.values()}) > 1]
        for evaluation, facts in group.items():
            texts[evaluation] = ", ".join(f"{name} {facts[name]}" for name in differing if name in facts)
    return texts
