"""What many runs said of the same posts, kept small: each post's different answers once, and of each run only which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mnerkit.data.corpus.post import Entity
from mnerkit.errors import DataError
from mnerkit.scoring.comparison import Answer, read_answers, units_of
from mnerkit.scoring.counts import span_confusion

Said = frozenset[Entity]


@dataclass(eq=False)
class Asked:
    """Posts (of episodes, where there are any) that some runs were asked about alike.

    Attributes:
        posts: ids, words, gold entities, types in play and ignored words.
        answers: of each post, the different sets of entities that runs gave.
        units: (posts,) int, what is swapped and drawn whole: one number for what `units_of` gives one name, also where
            others were asked.
        runs: of each run that was asked this (by its file), (posts,) int32, which of a post's answers it gave.
        places: of each post, the number of each answer.
        kinds: types of gold and predicted entities.
    """

    posts: list[Answer]
    answers: list[list[Said]]
    units: np.ndarray
    runs: dict[Path, np.ndarray] = field(default_factory=dict)
    places: list[dict[Said, int]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    _counts: dict[tuple[Path, str | None], np.ndarray] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        """Types of gold and predicted entities, in alphabetical order."""
        return sorted(self.kinds)

    def add(self, run: Path, said: Sequence[Said]) -> None:
        """Keep what a run said of each post."""
        which = np.zeros(len(said), dtype=np.int32)
        for place, answer in enumerate(said):
            known = self.places[place]
            if answer not in known:
                known[answer] = len(known)
                self.answers[place].append(answer)
                self.kinds.update(each.type for each in answer)
            which[place] = known[answer]
        self.runs[run] = which

    def counts(self, run: Path, kind: str | None = None) -> np.ndarray:
        """(posts, 3) int: gold, predicted and correct entities of a run, of one type or of all; counted once."""
        if (run, kind) not in self._counts:
            self._counts[run, kind] = self._counted(run, kind)
        return self._counts[run, kind]

    def _counted(self, run: Path, kind: str | None) -> np.ndarray:
        def own(entities: Said) -> Said:
            return entities if kind is None else frozenset(each for each in entities if each.type == kind)

        rows = []
        for place, which in enumerate(self.runs[run]):
            gold, said = own(self.posts[place].gold), own(self.answers[place][which])
            rows.append((len(gold), len(said), len(gold & said)))
        return np.array(rows, dtype=np.int64).reshape(-1, 3)

    def confusion(self, run: Path, types: Sequence[str]) -> np.ndarray:
        """(T + 1, T + 1) int: gold types in rows, predicted in columns, over spans of equal bounds.

        The last column counts missed entities, the last row spurious ones, as in `counts.confusion`.
        """
        pairs = zip(self.posts, self.answers, self.runs[run], strict=True)
        return span_confusion(((post.gold, answers[which]) for post, answers, which in pairs), types)


class Library:
    """The predictions of runs, read once each and grouped by what was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Asked] = {}
        self._read: dict[Path, Asked | DataError] = {}
        self._units: dict[Hashable, int] = {}

    def of(self, run: Path, split: str) -> Asked:
        """What a run was asked on a split; its answers stand there under its file's path.

        Raises:
            DataError: it has no predictions of the split, or they are damaged.
        """
        path = file_of(run, split)
        if path not in self._read:
            try:
                self._read[path] = self._add(path)
            except DataError as problem:
                self._read[path] = problem
        found = self._read[path]
        if isinstance(found, DataError):
            raise found
        return found

    def _add(self, path: Path) -> Asked:
        if not path.is_file():
            raise DataError(f"run {path.parent} has no {path.name}, so nothing can be compared post by post")
        posts = read_answers(path)
        digest = hashlib.sha256()
        for post in posts:
            asked = (post.episode, post.id, post.words, sorted(map(_plain, post.gold)), post.types, post.support)
            digest.update(json.dumps([*asked, post.ignored]).encode())
        group = self.asked.get(digest.hexdigest())
        if group is None:
            kinds = {each.type for post in posts for each in post.gold}
            units = np.array([self._units.setdefault(each, len(self._units)) for each in units_of(posts)])
            group = Asked(posts, [[] for _ in posts], units, places=[{} for _ in posts], kinds=kinds)
            self.asked[digest.hexdigest()] = group
        group.add(path, [post.predicted for post in posts])
        return group


def file_of(run: Path, split: str) -> Path:
    """The file of a run's predictions of a split."""
    return run / f"predictions.{split}.jsonl"


def _plain(entity: Entity) -> tuple[int, int, str]:
    return entity.start, entity.end, entity.type
