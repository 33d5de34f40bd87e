"""Two systems on the same posts, from the predictions that their runs wrote. Nothing here imports torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.tags import counted
from mnerkit.errors import DataError
from mnerkit.scoring.counts import prf
from mnerkit.scoring.significance import paired_counts_test


@dataclass(frozen=True)
class Answer:
    """One line of `predictions.<split>.jsonl`.

    Attributes:
        id: of the post.
        words: of the post.
        gold: its entities of the types in play.
        said: predicted entities that count: without those that hold an ignored word.
        ignored: words that do not count.
        episode: number of the episode, or None.
        types: types in play in the episode.
        support: ids of its support posts.
    """

    id: str
    words: tuple[str, ...]
    gold: frozenset[Entity]
    said: frozenset[Entity]
    ignored: tuple[int, ...] = ()
    episode: int | None = None
    types: tuple[str, ...] = ()
    support: tuple[str, ...] = ()


def read_answers(path: Path) -> list[Answer]:
    """The predictions of a run.

    Raises:
        DataError: no such file, or a line that is none of mnerkit's, or without gold entities.
    """
    found = []
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    found.append(_answer(json.loads(line)))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise DataError(f"{path}:{number}: no prediction with gold entities") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} can't be read: {getattr(problem, 'strerror', None) or problem}") from None
    if not found:
        raise DataError(f"{path} holds no predictions")
    return found


def _answer(row: dict[str, Any]) -> Answer:
    ignored = tuple(row.get("ignored", ()))
    said = [Entity(each["start"], each["end"], each["type"]) for each in row["entities"]]
    return Answer(
        id=row["id"],
        words=tuple(row["words"]),
        gold=frozenset(Entity(*each) for each in row["gold"]),
        said=frozenset(counted(said, ignored)),
        ignored=ignored,
        episode=row.get("episode"),
        types=tuple(row.get("types", ())),
        support=tuple(sorted(row.get("support", ()))),
    )


def first_difference(a: Sequence[Answer], b: Sequence[Answer]) -> str | None:
    """What two systems were not asked alike, in words: the first such thing, or None."""
    for number, (one, other) in enumerate(zip(a, b, strict=False), 1):
        where = f"line {number}, post {one.id!r}" + ("" if one.episode is None else f" of episode {one.episode}")
        if one.episode != other.episode:
            return f"line {number}: {_episode(one)} against {_episode(other)}"
        if one.id != other.id:
            return f"{where}: against post {other.id!r}"
        for what in ("words", "types", "support", "ignored"):
            mine, others = getattr(one, what), getattr(other, what)
            if mine != others:
                name = {"ignored": "ignored words", "types": "types in play"}.get(what, what)
                return f"{where}: {name} {_short(mine)} against {_short(others)}"
        if one.gold != other.gold:
            return f"{where}: gold entities {_spans(one)} against {_spans(other)}"
    if len(a) != len(b):
        return f"{len(a)} predictions against {len(b)}"
    return None


def _episode(answer: Answer) -> str:
    return "no episode" if answer.episode is None else f"episode {answer.episode}"


def _short(values: Iterable[object]) -> str:
    text = " ".join(map(str, values))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _spans(answer: Answer) -> str:
    return _short(f"{' '.join(answer.words[each.start : each.end])} ({each.type})" for each in sorted(answer.gold))


def units_of(answers: Sequence[Answer]) -> list[Hashable]:
    """Of each answer, the name of the unit that it is swapped and drawn with: its episode's posts, or its post alone.

    A run with another seed has units of the same names, if it was asked about the same posts, whatever the supports:
    their counts belong together. To ask thrice about a post gives no three posts, and no smaller p-value.
    """
    together: dict[tuple[str, int], list[int]] = {}
    for place, each in enumerate(answers):
        own = ("post", place) if each.episode is None else ("episode", each.episode)
        together.setdefault(own, []).append(place)
    names: list[Hashable] = [None] * len(answers)
    before: Counter[Hashable] = Counter()
    for places in together.values():
        posts = tuple((answers[place].id, answers[place].words) for place in places)
        for place in places:
            names[place] = posts, before[posts]  # a run may ask twice for the same posts
        before[posts] += 1
    return names


def compare(pairs: Sequence[tuple[Sequence[Answer], Sequence[Answer]]], samples: int = 10_000) -> dict[str, Any]:
    """Compare two systems, a and b, on the same posts: pooled F1, paired test, by type, and who alone is right.

    The unit that is swapped and resampled is the episode where there are any, else the post, with the answers of all
    pairs of runs (`units_of`).

    Args:
        pairs: answers of a and of b in each pair of runs, for instance one a seed.
        samples: draws of the tests.

    Returns:
        Plain data: the fields of `significance.Comparison` (`difference` is b - a), `unit`, `gold`, the number of gold
        entities, `only_a`, `only_b`, `both` and `neither`, those that were right, and `by_type`.

    Raises:
        DataError: the two were not asked alike; the first difference is named.
    """
    units: dict[Hashable, np.ndarray] = {}
    types: dict[str, Counter[str]] = {}
    for a, b in pairs:
        difference = first_difference(a, b)
        if difference is not None:
            raise DataError(f"the two can't be compared, they were not asked alike: {difference}")
        for unit, one, other in zip(units_of(a), a, b, strict=True):
            units[unit] = units.get(unit, 0) + _counts(one, other)
            _add_types(types, one, other)
    total: Counter[str] = sum(types.values(), Counter())
    by_type = {
        kind: {
            "gold": found["gold"],
            "f1_a": prf(found["gold"], found["said_a"], found["right_a"])[2],
            "f1_b": prf(found["gold"], found["said_b"], found["right_b"])[2],
            "only_a": found["only_a"],
            "only_b": found["only_b"],
        }
        for kind, found in sorted(types.items())
    }
    return {
        **paired_counts_test(np.array(list(units.values())), samples),
        "unit": "post" if pairs[0][0][0].episode is None else "episode",
        **{name: total[name] for name in ("gold", "both", "only_a", "only_b", "neither")},
        "by_type": by_type,
    }


def _counts(one: Answer, other: Answer) -> np.ndarray:
    """(5,) entities of gold, predicted and correct of a, predicted and correct of b."""
    gold = one.gold
    return np.array([len(gold), len(one.said), len(gold & one.said), len(other.said), len(gold & other.said)])


def _add_types(types: dict[str, Counter[str]], one: Answer, other: Answer) -> None:
    for span in one.gold | one.said | other.said:
        said_a, said_b, wanted = span in one.said, span in other.said, span in one.gold
        found = types.setdefault(span.type, Counter())
        found["gold"] += wanted
        found["said_a"] += said_a
        found["said_b"] += said_b
        if wanted:
            who = "both" if said_a and said_b else "only_a" if said_a else "only_b" if said_b else "neither"
            found["right_a"] += said_a
            found["right_b"] += said_b
            found[who] += 1
