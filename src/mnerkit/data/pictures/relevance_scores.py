"""How much each picture has to do with its post: scores from a file, or the truth of a generated corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.text_lines import json_lines
from mnerkit.data.pictures.boxes import Score
from mnerkit.errors import DataError, UsageError
from mnerkit.validation import Line, ListOf, validated

FORMAT = "mnerkit-relevance"
ORACLE = "oracle"


class _ScoreLine(Line):
    """A line of a file: the scores of one post's pictures, in order."""

    id: str
    scores: ListOf[Score]


@dataclass(frozen=True)
class Relevance:
    """Scores from 0 to 1 of the pictures of posts.

    Attributes:
        path: their file; None for the truth.
        sha256: of the file.
        about: what its first line says of it, where there is such a line.
    """

    path: Path | None = None
    sha256: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    _scores: dict[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, given: str | Path) -> Relevance:
        """Read a file of scores; `oracle` is the truth.

        The lines are `{"id": post, "scores": [one a picture, in order]}`; a first line with `"format":
        "mnerkit-relevance"` may say where they come from, and with `corpus` and `digest` of which corpus they are.

        Raises:
            DataError: with file and line.
        """
        if given == ORACLE:
            return cls()
        path = Path(given).expanduser()
        scores: dict[str, tuple[str, tuple[float, ...]]] = {}
        about: dict[str, Any] = {}
        for where, row in json_lines(path):
            if row.get("format") == FORMAT and not scores:
                about = row
                continue
            line = validated(_ScoreLine, row, where)
            if line.id in scores:
                raise DataError(f"{where}: a second time scores of post {line.id!r}.")
            scores[line.id] = where, line.scores
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest(), about, scores)

    def check_corpus(self, corpus: Corpus) -> None:
        """Refuse a file whose first line names another corpus, or another release of its labels.

        Raises:
            DataError: naming both.
        """
        if other := corpus.unlike(self.about):
            raise DataError(f"{self.path}: scores {other}; give --data.relevance a file that is made for this one.")

    def annotated(self, posts: Sequence[Post]) -> list[Post]:
        """The posts with the scores of their pictures.

        Raises:
            DataError: a post without scores, or with another number of them than it has pictures.
            UsageError: `oracle`, of a corpus that is not generated.
        """
        if self.path is None:
            return with_true_relevance(posts)
        lacking = [post.id for post in posts if post.images and post.id not in self._scores]
        if lacking:
            raise DataError(
                f"{self.path}: no scores for {len(lacking)} of {len(posts)} posts, the first is {lacking[0]!r}.\n"
                "Every post with pictures needs a line. Is the file of another corpus or split?"
            )
        return [_scored(post, *self._scores.get(post.id, ("", ()))) for post in posts]

    def record(self) -> dict[str, Any]:
        """Plain data for the record of a run."""
        about = {key: value for key, value in self.about.items() if key != "format"}
        source = ORACLE if self.path is None else self.path.name
        return {"source": source, "sha256": self.sha256, "about": about}


def with_true_relevance(posts: Iterable[Post]) -> list[Post]:
    """The posts of a generated corpus, each picture with 1 where it shows an entity of its post and 0 elsewhere.

    Raises:
        UsageError: posts that nobody knows the truth of.
    """
    annotated = []
    for post in posts:
        if post.truth is None:
            raise UsageError(
                "--data.relevance oracle is for the probe corpus: of others nobody knows the truth; give a file"
            )
        annotated.append(_scored(post, "", tuple(map(float, post.truth.relevant))))
    return annotated


def _scored(post: Post, where: str, scores: tuple[float, ...]) -> Post:
    if len(scores) != len(post.images):
        raise DataError(f"{where}: {len(scores)} scores for the {len(post.images)} pictures of post {post.id}.")
    pairs = zip(post.images, scores, strict=True)
    return replace(post, images=tuple(replace(ref, relevance=score) for ref, score in pairs))
