"""What a run's scores are of. Figures are ranked and tested against each other only where that is the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from mnerkit.data.episodes.protocol import DRAWING
from mnerkit.report.folders import Record, corpus_name, mapping

# name and value of each thing that was asked, in a fixed order
Question = tuple[tuple[str, str], ...]
# what a table's heading always names; of the rest only what tells two questions apart
NAMED = ("corpus", "split", "train_types")


def question(record: Record, split: str) -> Question:
    """What the scores of a split are of: data, training types, and the rules by which its episodes were drawn.

    Not the seed of the episodes, which is the run's: runs are paired by it.
    """
    # scores on another corpus than the run's own have a protocol of their own
    protocol = mapping(record.metrics.get(f"{split}:protocol")) or record.protocol
    limit = protocol.get("limit")
    said: dict[str, Any] = {
        "corpus": corpus_name(protocol, record.path) + (f" (first {limit} posts)" if limit is not None else ""),
        "split": split,
        "train_types": protocol.get("train_types"),
        "digest": str(protocol.get("digest"))[:12],
    }
    if protocol.get("episodic"):
        kind = split.partition("@")[0]
        file = mapping(mapping(protocol.get("episode_files")).get(kind))
        drawn = () if file else tuple(name for name in DRAWING if name != "episode_seed")
        said |= {name: protocol.get(name) for name in ("n_way", *drawn, f"{kind}_types", "out_of_play")}
        said["queries"] = mapping(protocol.get("queries")).get(kind)
        said["episodes"] = str(file["sha256"])[:12] if file.get("sha256") else None
    return tuple((name, _text(value)) for name, value in said.items() if value is not None)


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def unlike(one: Collection[Question], other: Collection[Question]) -> str:
    """What two figures are not of alike, in words."""
    if len(one) == len(other) == 1:
        a, b = (dict(next(iter(each))) for each in (one, other))
        for name in dict.fromkeys([*a, *b]):
            if a.get(name) != b.get(name):
                return f"{name} {a.get(name, 'none')} against {b.get(name, 'none')}"
    return "other data or episodes"


def distinctions(asked: Iterable[Question]) -> dict[Question, str]:
    """Of each question what tells it from others of the same corpus, split and training types; mostly nothing."""
    groups: dict[tuple[str | None, ...], dict[Question, dict[str, str]]] = {}
    for each in asked:
        facts = dict(each)
        groups.setdefault(tuple(facts.get(name) for name in NAMED), {})[each] = facts
    found = {}
    for group in groups.values():
        names = dict.fromkeys(name for facts in group.values() for name in facts)
        differing = [name for name in names if len({facts.get(name) for facts in group.values()}) > 1]
        for each, facts in group.items():
            found[each] = ", ".join(f"{name} {facts[name]}" for name in differing if name in facts)
    return found
