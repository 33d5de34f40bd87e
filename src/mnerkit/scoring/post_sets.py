"""Answers of many systems to the same posts, kept small: the different answers, and the number of each system's.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mnerkit.data.corpus.post import Entity, Truth
from mnerkit.errors import DataError
from mnerkit.scoring.comparison import Answer, units_of
from mnerkit.scoring.counts import span_confusion
from mnerkit.scoring.significance import UnitCounts

Entities = frozenset[Entity]


@dataclass(eq=False)
class PostSet:
    """Posts (of episodes, where there are any) on which some systems were scored alike.

    Attributes:
        posts: ids, words, gold entities, types in play and ignored words.
        units: (posts,) int, what is swapped and drawn whole: one number for what `units_of` gives one name, also in
            other sets.
        answers: of each post, the different sets of entities that systems predicted.
        systems: of each system, (posts,) int32, which of a post's answers is its own.
    """

    posts: list[Answer]
    units: np.ndarray
    answers: list[list[Entities]]
    systems: dict[Hashable, np.ndarray] = field(default_factory=dict)
    _counts: dict[tuple[Hashable, str | None], np.ndarray] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        """Types of gold and predicted entities, in alphabetical order."""
        gold = {span.type for post in self.posts for span in post.gold}
        return sorted(gold | {span.type for answers in self.answers for answer in answers for span in answer})

    def add(self, system: Hashable, predicted: Sequence[Entities]) -> None:
        """Take in the answers of a system."""
        numbers = np.zeros(len(predicted), dtype=np.int32)
        for place, (answer, answers) in enumerate(zip(predicted, self.answers, strict=True)):
            if answer not in answers:
                answers.append(answer)
            numbers[place] = answers.index(answer)
        self.systems[system] = numbers

    def predicted(self, system: Hashable) -> list[Entities]:
        """The answers of a system."""
        return [answers[number] for answers, number in zip(self.answers, self.systems[system], strict=True)]

    def counts(self, system: Hashable, kind: str | None = None) -> np.ndarray:
        """(posts, 3) int: gold, predicted and correct entities of a system, of one type or of all; counted once."""

        def own(spans: Entities) -> Entities:
            return spans if kind is None else frozenset(span for span in spans if span.type == kind)

        if (system, kind) not in self._counts:
            pairs = [
                (own(post.gold), own(predicted))
                for post, predicted in zip(self.posts, self.predicted(system), strict=True)
            ]
            rows = [(len(gold), len(predicted), len(gold & predicted)) for gold, predicted in pairs]
            self._counts[system, kind] = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return self._counts[system, kind]

    def confusion(self, system: Hashable, types: Sequence[str]) -> np.ndarray:
        """The confusion of a system's types, see `mnerkit.scoring.counts.confusion`."""
        return span_confusion(zip((post.gold for post in self.posts), self.predicted(system), strict=True), types)

    def corrections(self, a: Hashable, b: Hashable) -> tuple[int, int, int]:
        """Gold entities that a misses and b finds, those that a finds and b misses, and all gold entities."""
        triples = zip((post.gold for post in self.posts), self.predicted(a), self.predicted(b), strict=True)
        rows = [(len(gold & of_b - of_a), len(gold & of_a - of_b), len(gold)) for gold, of_a, of_b in triples]
        corrected, spoiled, gold = map(sum, zip(*rows, strict=True))
        return corrected, spoiled, gold

    def by_interest(self, places: Iterable[int]) -> list[int]:
        """Places of posts: first where systems differ, then where all are wrong alike, then where all are right."""

        def rank(place: int) -> int:
            answers = self.answers[place]
            return 0 if len(answers) > 1 else 1 if answers[0] != self.posts[place].gold else 2

        return sorted(places, key=rank)

    def ambiguous(self, truths: Mapping[str, Truth]) -> set[int]:
        """Places of posts with an entity whose words do not tell its type.

        Args:
            truths: what a generated corpus knows of its posts, by their ids. Where nothing is known, an entity counts
                whose words are gold with another type elsewhere in the set.
        """
        posts = list(enumerate(self.posts))
        if truths:
            ids = {name for name, truth in truths.items() if any(entity.ambiguous for entity in truth.entities)}
            return {place for place, post in posts if post.id in ids}

        def surface(post: Answer, span: Entity) -> tuple[str, ...]:
            return tuple(word.lower() for word in post.words[span.start : span.end])

        types: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for _, post in posts:
            for span in post.gold:
                types[surface(post, span)].add(span.type)
        return {place for place, post in posts if any(len(types[surface(post, span)]) > 1 for span in post.gold)}


class PostSets:
    """Answers of systems, grouped by the posts that they answered."""

    def __init__(self) -> None:
        self._sets: dict[str, PostSet] = {}
        self._units: dict[Hashable, int] = {}

    def add(self, system: Hashable, answers: list[Answer]) -> PostSet:
        """Take in the answers of a system; returns the set of its posts, in which they are then."""
        digest = hashlib.sha256()
        for post in answers:
            gold = sorted((span.start, span.end, span.type) for span in post.gold)
            facts = [post.episode, post.id, post.words, gold, post.types, post.support, post.ignored]
            digest.update(json.dumps(facts).encode())
        posts = self._sets.get(digest.hexdigest())
        if posts is None:
            units = np.array([self._units.setdefault(unit, len(self._units)) for unit in units_of(answers)])
            posts = self._sets[digest.hexdigest()] = PostSet(answers, units, [[] for _ in answers])
        posts.add(system, [post.predicted for post in answers])
        return posts


# scores that are counted from predictions, and so can be tested on them
TESTABLE = ("f1", "precision", "recall")


def pooled_counts(pairs: Iterable[tuple[PostSet, Hashable, Hashable]], metric: str) -> UnitCounts:
    """Counts of the units of all pairs of systems, whose F1 is then the metric.

    A unit that several pairs were scored on, for instance with several seeds, is one, with the sum of its counts.

    With gold g, predicted p and correct c, its F1 is 200 c / (g + p). For recall p is set to g; for precision g to
    nothing and p is doubled.

    Args:
        pairs: the posts of a pair, and the names of a and b there; for instance one pair a seed.
        metric: `f1`, `precision` or `recall`, or one of them of a type: `type/PER/f1`.

    Raises:
        DataError: the metric is not counted from predictions, or there is no pair.
    """
    name, kind = metric, None
    if metric.startswith("type/") and metric.count("/") == 2:
        _, kind, name = metric.split("/")
    if name not in TESTABLE:
        raise DataError(f"{metric} is not counted from the predictions, so it has no paired test")
    units, counts = [], []
    for posts, a, b in pairs:
        of_a, of_b = posts.counts(a, kind), posts.counts(b, kind)
        gold = of_a[:, 0]
        columns = {
            "f1": (gold, of_a[:, 1], of_a[:, 2], of_b[:, 1], of_b[:, 2]),
            "recall": (gold, gold, of_a[:, 2], gold, of_b[:, 2]),
            "precision": (0 * gold, 2 * of_a[:, 1], of_a[:, 2], 2 * of_b[:, 1], of_b[:, 2]),
        }[name]
        units.append(posts.units)
        counts.append(np.stack(columns, axis=1))
    if not counts:
        raise DataError("there is no seed that both were run with")
    names, places = np.unique(np.concatenate(units), return_inverse=True)
    whole = np.zeros((len(names), 5), dtype=np.int64)
    np.add.at(whole, places, np.concatenate(counts))
    return UnitCounts(names, whole)
