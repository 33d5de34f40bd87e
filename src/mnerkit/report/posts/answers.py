"""What many runs predicted for the same posts, kept small: a post's different answers, and each run's number of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mnerkit.data.corpus.post import Entity
from mnerkit.errors import DataError
from mnerkit.report.folders import Record, once
from mnerkit.scoring.comparison import Answer, read_answers, units_of
from mnerkit.scoring.counts import span_confusion

Entities = frozenset[Entity]


@dataclass(eq=False)
class PostSet:
    """Posts (of episodes, where there are any) on which some runs were scored alike.

    Attributes:
        posts: ids, words, gold entities, types in play and ignored words.
        units: (posts,) int, what is swapped and drawn whole: one number for what `units_of` gives one name, also in
            other sets.
        answers: of each post, the different sets of entities that runs predicted.
        runs: of each run (by its file), (posts,) int32, which of a post's answers is its own.
    """

    posts: list[Answer]
    units: np.ndarray
    answers: list[list[Entities]]
    runs: dict[Path, np.ndarray] = field(default_factory=dict)
    _counts: dict[tuple[Path, str | None], np.ndarray] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        """Types of gold and predicted entities, in alphabetical order."""
        gold = {span.type for post in self.posts for span in post.gold}
        return sorted(gold | {span.type for answers in self.answers for answer in answers for span in answer})

    def add(self, run: Path, predicted: Sequence[Entities]) -> None:
        """Take in the answers of a run."""
        numbers = np.zeros(len(predicted), dtype=np.int32)
        for place, (answer, answers) in enumerate(zip(predicted, self.answers, strict=True)):
            if answer not in answers:
                answers.append(answer)
            numbers[place] = answers.index(answer)
        self.runs[run] = numbers

    def predicted(self, run: Path) -> list[Entities]:
        """The answers of a run."""
        return [answers[number] for answers, number in zip(self.answers, self.runs[run], strict=True)]

    def counts(self, run: Path, kind: str | None = None) -> np.ndarray:
        """(posts, 3) int: gold, predicted and correct entities of a run, of one type or of all; counted once."""

        def own(spans: Entities) -> Entities:
            return spans if kind is None else frozenset(span for span in spans if span.type == kind)

        if (run, kind) not in self._counts:
            pairs = [
                (own(post.gold), own(predicted))
                for post, predicted in zip(self.posts, self.predicted(run), strict=True)
            ]
            rows = [(len(gold), len(predicted), len(gold & predicted)) for gold, predicted in pairs]
            self._counts[run, kind] = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return self._counts[run, kind]

    def confusion(self, run: Path, types: Sequence[str]) -> np.ndarray:
        """The confusion of a run's types, see `mnerkit.scoring.counts.confusion`."""
        return span_confusion(zip((post.gold for post in self.posts), self.predicted(run), strict=True), types)


class Library:
    """The predictions of runs, read once each and grouped by the posts."""

    def __init__(self) -> None:
        self._sets: dict[str, PostSet] = {}
        self._read: dict[Path, PostSet | DataError] = {}
        self._units: dict[Hashable, int] = {}

    def of(self, run: Path, split: str) -> PostSet:
        """The posts of a split on which a run was scored; its answers stand there under its file's path.

        Raises:
            DataError: it has no predictions of the split, or they are damaged.
        """
        path = file_of(run, split)
        return once(self._read, path, lambda: self._add(path))

    def of_pair(self, a: Path, b: Path, split: str) -> PostSet:
        """The posts of a split on which two runs were scored alike.

        Raises:
            DataError: they were not, or see `of`.
        """
        posts = self.of(a, split)
        if self.of(b, split) is not posts:
            raise DataError(f"{a} and {b} were not asked alike: other posts, types or episodes")
        return posts

    def _add(self, path: Path) -> PostSet:
        if not path.is_file():
            raise DataError(f"run {path.parent} has no {path.name}, so nothing can be compared post by post")
        answers = read_answers(path)
        digest = hashlib.sha256()
        for post in answers:
            gold = sorted((span.start, span.end, span.type) for span in post.gold)
            facts = [post.episode, post.id, post.words, gold, post.types, post.support, post.ignored]
            digest.update(json.dumps(facts).encode())
        posts = self._sets.get(digest.hexdigest())
        if posts is None:
            units = np.array([self._units.setdefault(unit, len(self._units)) for unit in units_of(answers)])
            posts = self._sets[digest.hexdigest()] = PostSet(answers, units, [[] for _ in answers])
        posts.add(path, [post.predicted for post in answers])
        return posts


def file_of(run: Path, split: str) -> Path:
    """The file of a run's predictions of a split."""
    return run / f"predictions.{split}.jsonl"


def predicted_split(record: Record) -> str | None:
    """The first split (test before dev) of which a run has scores and predictions."""
    return next((split for split in record.splits() if file_of(record.path, split).is_file()), None)
