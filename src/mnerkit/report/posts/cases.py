"""A page of posts beside each other: gold entities, and what each of several runs predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.show import thumbnail
from mnerkit.errors import DataError
from mnerkit.report.posts.answers import file_of
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.comparison import Answer, read_answers
from mnerkit.scoring.counts import prf
from mnerkit.templates import render

Key = tuple[int, str]  # number of the episode (-1: none), id of the post
SIDE = 160  # pixels of a picture's longer side


@dataclass
class RunCases:
    """The predictions of a run.

    Attributes:
        name: what heads its column.
        folder: where it lies.
        cases: by episode and post.
        data: section `data` of its configuration, where that can be read.
    """

    name: str
    folder: Path
    cases: dict[Key, Answer]
    data: dict[str, Any] = field(default_factory=dict)


def read_run(folder: Path, split: str = "test") -> RunCases:
    """The predictions that a run wrote of a split.

    Raises:
        DataError: there are none, a line is malformed, or the posts have no gold entities.
    """
    path = file_of(folder, split)
    if not path.is_file():
        remedy = "`mnerkit test --ckpt_path RUN` writes it" if split == "test" else "is it a finished run's folder?"
        raise DataError(f"run {folder} has no {path.name}: {remedy}")
    cases = {(-1 if case.episode is None else case.episode, case.id): case for case in read_answers(path)}
    run = RunFolder(folder)
    content = run.config() if run.started else {}
    config = content if isinstance(content, dict) else {}
    name = " ".join(str(part) for part in (config.get("plugin"), config.get("ablation"), folder.name) if part)
    return RunCases(name, folder, cases, dict(config.get("data") or {}))


def common(runs: Sequence[RunCases]) -> list[Key]:
    """Posts that all runs predicted, in order, with the same gold entities in all of them.

    Raises:
        DataError: there is none, or the runs disagree about a post's gold entities.
    """
    keys = sorted(set.intersection(*(set(run.cases) for run in runs)))
    if not keys:
        raise DataError(
            f"runs {runs[0].folder} and {runs[-1].folder} have no post (and episode) in common: were they scored on "
            "the same split and protocol?"
        )
    for key in keys:
        for run in runs[1:]:
            one, other = runs[0].cases[key], run.cases[key]
            if (one.words, one.gold) != (other.words, other.gold):
                raise DataError(
                    f"post {key[1]!r} has other words or gold entities in {run.folder} than in {runs[0].folder}: "
                    "another label release, or other types in play"
                )
    return keys


def differing(runs: Sequence[RunCases], keys: Sequence[Key]) -> list[Key]:
    """Those of `keys` of which the runs do not all predict the same."""
    return [key for key in keys if len({run.cases[key].predicted for run in runs}) > 1]


def f1(run: RunCases, keys: Sequence[Key]) -> float:
    """Micro F1 over these posts, in percent."""
    cases = [run.cases[key] for key in keys]
    gold, predicted = sum(len(case.gold) for case in cases), sum(len(case.predicted) for case in cases)
    return prf(gold, predicted, sum(len(case.gold & case.predicted) for case in cases))[2]


def page(runs: Sequence[RunCases], keys: Sequence[Key], posts: Mapping[str, Post], limit: int = 50) -> str:
    """The page: one row a post, one column a run. Everything from the data is escaped; the page loads nothing.

    Args:
        runs: at least one.
        keys: which posts, from `common`.
        posts: posts by id, for their pictures; may lack some.
        limit: at most so many rows.
    """
    everything = common(runs)
    rows = [
        (runs[0].cases[key], *_picture(posts.get(key[1])), [_marks(run.cases[key]) for run in runs])
        for key in keys[:limit]
    ]
    heads = [(run.name, f1(run, everything)) for run in runs]
    return render("mnerkit.report.posts", "cases.html", heads=heads, rows=rows, total=len(everything))


def _marks(case: Answer) -> list[tuple[str, Entity]]:
    """Right and wrong entities in order, then those that were missed."""
    predicted = [("right" if span in case.gold else "wrong", span) for span in sorted(case.predicted)]
    return predicted + [("missed", span) for span in sorted(case.gold - case.predicted)]


def _picture(post: Post | None) -> tuple[str | None, str | None]:
    """Name of a post's first picture, and the picture as a data URI; None where there is none to show."""
    if post is None or not post.images:
        return None, None
    ref = post.images[0]
    try:
        return ref.name, thumbnail(ref, SIDE) if ref.present else None
    except DataError:
        return ref.name, None
