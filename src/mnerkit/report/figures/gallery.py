"""Figures that papers print beside tables, as plain data of a page: relevance R, attention, graphs, t-SNE, cases.

Histograms of R come from a run's scores, and R under pictures from its predictions; figures that take a network to
compute are read from the run's folder (`figure_file`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import entities
from mnerkit.errors import DataError, MnerkitError
from mnerkit.report.folders import Record, mapping
from mnerkit.report.posts.answers import file_of
from mnerkit.report.posts.browser import MOST_PICTURES, UNKNOWN, Pictures, add_line, corpus_posts
from mnerkit.report.tables.tables import Filled
from mnerkit.runs import figure_file
from mnerkit.runs.figure_file import CASES, FROM_PREDICTIONS, FROM_SCORES
from mnerkit.scoring.scored_images import pooled_histograms, read_scored_images

LARGE = 320  # pixels of the longer side of a picture that a figure is drawn on
MOST_POSTS = 12  # with R under their pictures
MAX_BYTES = 8 << 20  # of the kept figures of a page
ABOUT_R = (
    "R is how relevant an image is to its post, from 0 to 1; the blank image has 0.5. First posts of {split} with "
    "several images, then others."
)
Drawn = dict[str, Any]
DRAWN = (FROM_SCORES, FROM_PREDICTIONS, *figure_file.COMPUTED)


def kinds_of(record: Record) -> list[tuple[str, str]]:
    """Kind and split of the figures that a run has of its own, whether or not a table asks for them."""
    kinds = [
        (kind, split)
        for split in ("test", "dev", "train")
        for kind in figure_file.COMPUTED
        if figure_file.file_of(record.path, kind, split).is_file()
    ]
    for split in ("test", "dev"):
        if "histogram" in mapping(record.metrics.get(split)):
            predicted = file_of(record.path, split).is_file()
            return [*kinds, (FROM_SCORES, split), *([(FROM_PREDICTIONS, split)] if predicted else [])]
    return kinds


@dataclass
class Gallery:
    """Makes the figures of a page.

    Attributes:
        number: place of each run in the page's list, by its folder.
        pictures: the pictures of the page.
        problems: what is wrong is added, a line each.
        root: folder of the corpora; that of each run's configuration where None.
    """

    number: Mapping[Path, int]
    pictures: Pictures
    problems: list[str]
    root: Path | None = None
    _left: int = MAX_BYTES
    _drawn: set[tuple[Path, str, str]] = field(default_factory=set)
    _posts: dict[tuple[str, ...], dict[str, Post]] = field(default_factory=dict)

    def of_table(self, filled: Filled) -> list[Drawn]:
        """The figures that a table asks for, one for each of its runs of the first seed."""
        drawn: list[Drawn] = []
        for kind in filled.table.draw:
            if kind == CASES:
                drawn += self._cases(filled)
            elif kind in DRAWN:
                drawn += self._of_cells(kind, filled)
        return drawn

    def _of_cells(self, kind: str, filled: Filled) -> Iterator[Drawn]:
        done = set()
        for (row, column), figure in filled.figures.items():
            runs = tuple(record.path for record in figure.records)
            if runs and runs not in done:
                done.add(runs)
                name, split = filled.table.rows[row].name, filled.table.columns[column].split
                yield self._figure(kind, figure.records, split, f"{name}, {figure.records[0].corpus}")

    def of_run(self, record: Record, first: tuple[str, str] | None = None) -> Drawn | None:
        """The figures of a run that no table asked for, the `first` kind and split before others; None without any."""
        drawn = [
            self._figure(kind, [record], split, f"{kind}, {split}")
            for kind, split in sorted(kinds_of(record), key=lambda each: each != first)
            if (record.path, kind, split) not in self._drawn
        ]
        return {"title": record.label, "note": f"Run {record.path.as_posix()}", "drawn": drawn} if drawn else None

    def _figure(self, kind: str, records: Sequence[Record], split: str, name: str) -> Drawn:
        """A figure, or the reason why it is missing."""
        self._drawn |= {(record.path, kind, split) for record in records}
        head: Drawn = {"kind": kind, "name": name, "run": self.number.get(records[0].path.resolve())}
        try:
            if kind == FROM_SCORES:
                return head | _histogram(records, split)
            if kind == FROM_PREDICTIONS:
                return head | self._relevance(records[0], split)
            return head | self._read(kind, records[0], split)
        except DataError as problem:
            return head | {"kind": "absent", "about": str(problem)}

    # ------------------------------------------------------------------ kept in run folders

    def _read(self, kind: str, record: Record, split: str) -> Drawn:
        path = figure_file.file_of(record.path, kind, split)
        if not path.is_file():
            raise DataError(f"not drawn yet; `mnerkit draw {kind} {os.path.normpath(record.path)}` does it")
        self._left -= path.stat().st_size
        if self._left < 0:
            raise DataError(f"left out, since the figures of this page have more than {MAX_BYTES >> 20} MB")
        try:
            content = figure_file.read(path)
        except DataError as problem:
            self.problems.append(str(problem))
            raise
        if kind in figure_file.POINTS:
            return {key: content[key] for key in ("about", "types", "points")}
        corpus = self._corpus(record, split)
        for post in content["posts"]:
            own = corpus.get(post["id"])
            post["shots"] = self._shots(own if own is not None and list(own.words) == post["words"] else None)
        return _of_posts(content["about"], content["posts"], ("gold", "said"))

    # ------------------------------------------------------------------ relevance

    def _relevance(self, record: Record, split: str) -> Drawn:
        rows = read_scored_images(file_of(record.path, split))
        rows.sort(key=lambda row: sum(score is not None for score in row.relevance) < 2)
        corpus = self._corpus(record, split)
        posts: list[Drawn] = []
        for row in rows[:MOST_POSTS]:
            post = corpus.get(row.id)
            if post is not None and [ref.name for ref in post.images] != row.images:
                post = None
            shots = self._shots(post) or [[image, UNKNOWN, ""] for image in row.images[:MOST_PICTURES]]
            posts.append(
                {
                    "id": row.id,
                    "words": list(post.words) if post else [],
                    "gold": [(span.start, span.end, span.type) for span in entities(post.tags or ())] if post else [],
                    "shots": shots,
                    "scores": row.relevance[: len(shots)],
                    "truth": list(post.truth.relevant) if post and post.truth else None,
                }
            )
        return _of_posts(ABOUT_R.format(split=split), posts, ("gold",)) | {"total": len(rows)}

    # ------------------------------------------------------------------ cases

    def _cases(self, filled: Filled) -> Iterator[Drawn]:
        """For each column, the runs of the first seed that are to be read side by side."""
        done = set()
        for column, kind in enumerate(filled.table.columns):
            records = [figure.records[0] for place, figure in filled.figures.items() if place[1] == column and figure.n]
            runs = tuple(dict.fromkeys(self.number[record.path.resolve()] for record in records))
            if runs and runs not in done:
                done.add(runs)
                yield {"kind": CASES, "name": f"Cases, {records[0].corpus}, {kind.split}", "runs": list(runs)}

    # ------------------------------------------------------------------ posts and pictures

    def _corpus(self, record: Record, split: str) -> dict[str, Post]:
        """The corpus's posts by id; none, and a line, where it can't be read."""
        data = mapping(record.config.get("data"))
        key = (*(str(data.get(name)) for name in ("corpus", "root", "variant")), split)
        if key not in self._posts:
            self._posts[key] = {}
            try:
                self._posts[key] = corpus_posts(record.config, split, self.root)
            except MnerkitError as problem:
                add_line(self.problems, f"figures of {record.corpus} have no pictures", problem)
        return self._posts[key]

    def _shots(self, post: Post | None) -> list[list[Any]]:
        """Name, number and caption of a post's pictures."""
        refs = post.images[:MOST_PICTURES] if post is not None else ()
        return [[ref.name, self.pictures.number(ref, LARGE), ref.caption or ""] for ref in refs]


def _of_posts(about: str, posts: list[Drawn], sides: Sequence[str]) -> Drawn:
    """A figure of posts. Their entities are flat: start, end and number of the type, one after the other.

    Args:
        about: what it shows.
        posts: the posts.
        sides: where entities stand in a post: `gold`, `said`.
    """
    types = sorted({kind for post in posts for side in sides for _, _, kind in post[side]})
    for post in posts:
        for side in sides:
            spans = sorted(map(tuple, post[side]))
            post[side] = [value for start, end, kind in spans for value in (start, end, types.index(kind))]
    return {"about": about, "types": types, "posts": posts}


def _histogram(records: Sequence[Record], split: str) -> Drawn:
    """Counts of images in equal bins of R, over the runs; by truth where it is known."""
    series = pooled_histograms([mapping(record.metrics.get(split)) for record in records])
    if not series:
        raise DataError(f"run {records[0].path} has no histogram of R of {split!r}")
    seeds = f"; sums over {len(records)} seeds" if len(records) > 1 else ""
    return {"about": f"Images of {split} by their R; the blank image has 0.5{seeds}.", "series": series}
