"""Answers of many systems to the same posts, kept small: the different answers, and the number of each system's.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnerkit.data.corpus.post import Entity, Truth
from mnerkit.errors import DataError
from mnerkit.scoring.comparison import MAX_BYTES, Answer, answer_of, read_answers, units_of
from mnerkit.scoring.counts import span_confusion
from mnerkit.scoring.significance import UnitCounts

Entities = frozenset[Entity]
MOST_LINES = 500_000  # whose content is kept, so that it is not parsed again: some hundred megabytes


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
    answers: list[list[Entities]] = field(default_factory=list)
    systems: dict[Hashable, np.ndarray] = field(default_factory=dict)
    _types: set[str] = field(default_factory=set)
    _order: list[tuple[int, Entities]] = field(default_factory=list)  # all answers, with the places of their posts
    # of each post: its answers' places in that order, and in `answers`
    _row_of: list[dict[Entities, tuple[int, int]]] = field(default_factory=list)
    _rows: dict[Hashable, np.ndarray] = field(default_factory=dict)  # of each system: those of its answers
    _tables: dict[Hashable, array[int]] = field(default_factory=dict)  # what was measured of the answers, in that order

    def __post_init__(self) -> None:
        self._types |= {span.type for post in self.posts for span in post.gold}
        self.answers, self._row_of = [[] for _ in self.posts], [{} for _ in self.posts]

    @property
    def types(self) -> list[str]:
        """Types of gold and predicted entities, in alphabetical order."""
        return sorted(self._types)

    def add(self, system: Hashable, predicted: Sequence[Entities]) -> None:
        """Take in the answers of a system."""
        rows, numbers = [], []
        for place, (answer, answers, own) in enumerate(zip(predicted, self.answers, self._row_of, strict=True)):
            known = own.get(answer)
            if known is None:
                known = own[answer] = len(self._order), len(answers)
                self._order.append((place, answer))
                answers.append(answer)
                self._types |= {span.type for span in answer}
            rows.append(known[0])
            numbers.append(known[1])
        self._rows[system] = np.array(rows, dtype=np.int64)
        self.systems[system] = np.array(numbers, dtype=np.int32)

    def predicted(self, system: Hashable) -> list[Entities]:
        """The answers of a system."""
        return [answers[number] for answers, number in zip(self.answers, self.systems[system], strict=True)]

    def counts(self, system: Hashable, kind: str | None = None) -> np.ndarray:
        """(posts, 3) int: gold, predicted and correct entities of a system, of one type or of all."""

        def own(spans: Entities) -> Entities:
            return spans if kind is None else frozenset(span for span in spans if span.type == kind)

        def row(gold: Entities, predicted: Entities) -> tuple[int, int, int]:
            return len(gold), len(predicted), len(gold & predicted)

        return self._of_answers(system, kind, lambda post, predicted: row(own(post.gold), own(predicted)), 3)

    def counts_by_group(
        self, system: Hashable, name: str, group_of: Callable[[Answer, Entity], int], size: int
    ) -> np.ndarray:
        """(size, 3) int: gold, predicted and correct entities of a system in each group of entities.

        Args:
            system: the system.
            name: of the grouping; under it the counts of an answer are kept.
            group_of: number of the group of a gold or predicted entity of a post.
            size: number of groups.
        """

        def cells(post: Answer, predicted: Entities) -> list[int]:
            row = [0] * (3 * size)
            for column, spans in enumerate((post.gold, predicted, post.gold & predicted)):
                for span in spans:
                    row[3 * group_of(post, span) + column] += 1
            return row

        return self._of_answers(system, ("group", name), cells, 3 * size).sum(axis=0).reshape(size, 3)

    def confusion(self, system: Hashable, types: Sequence[str]) -> np.ndarray:
        """The confusion of a system's types, see `mnerkit.scoring.counts.confusion`."""
        size = len(types) + 1

        def cells(post: Answer, predicted: Entities) -> np.ndarray:
            return span_confusion([(post.gold, predicted)], types).ravel()

        return self._of_answers(system, tuple(types), cells, size * size).sum(axis=0).reshape(size, size)

    def _of_answers(
        self, system: Hashable, what: Hashable, measure: Callable[[Answer, Entities], Any], width: int
    ) -> np.ndarray:
        """(posts, `width`) int: what is measured of each post and a system's answer.

        Each of the different answers to a post is measured once, however many systems gave it.
        """
        table = self._tables.setdefault(what, array("q"))
        for place, answer in self._order[len(table) // width :]:
            table.extend(measure(self.posts[place], answer))
        return np.frombuffer(table, dtype=np.int64).reshape(-1, width)[self._rows[system]]

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
        self._lines: dict[bytes, tuple[bytes, Entities]] = {}  # by digest: the post's facts and the answer
        self._shared: dict[Any, Any] = {}  # one object of each of these

    def add(self, system: Hashable, answers: list[Answer]) -> PostSet:
        """Take in the answers of a system; returns the set of its posts, in which they are then."""
        digest = hashlib.sha256()
        for post in answers:
            digest.update(_facts(post))
        posts = self._sets.get(digest.hexdigest())
        if posts is None:
            units = np.array([self._units.setdefault(unit, len(self._units)) for unit in units_of(answers)])
            posts = self._sets[digest.hexdigest()] = PostSet(answers, units)
        posts.add(system, [post.predicted for post in answers])
        return posts

    def add_file(self, path: Path) -> PostSet:
        """Take in the predictions of a file, as `add` under its path; a line that another file had is not parsed again.

        Raises:
            DataError: see `read_answers`.
        """
        digest, predicted = hashlib.sha256(), []
        try:
            if path.stat().st_size <= MAX_BYTES:
                with path.open("rb") as stream:
                    for line in stream:
                        facts, answer = self._parsed(line)
                        digest.update(facts)
                        predicted.append(answer)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            predicted = []  # `read_answers` says what is wrong
        posts = self._sets.get(digest.hexdigest()) if predicted else None
        if posts is None:
            return self.add(path, read_answers(path))
        posts.add(path, predicted)
        return posts

    def _parsed(self, line: bytes) -> tuple[bytes, Entities]:
        """Facts of the post and predicted entities."""
        key = hashlib.blake2b(line, digest_size=16).digest()
        known = self._lines.get(key)
        if known is None:
            post = answer_of(line)
            facts = _facts(post)
            known = self._shared.setdefault(facts, facts), self._shared.setdefault(post.predicted, post.predicted)
            if len(self._lines) < MOST_LINES:
                self._lines[key] = known
        return known


def _facts(post: Answer) -> bytes:
    """What all systems that are compared must have in common."""
    gold = sorted((span.start, span.end, span.type) for span in post.gold)
    facts = [post.episode, post.id, post.words, gold, post.types, post.support, post.ignored]
    return json.dumps(facts).encode()


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
