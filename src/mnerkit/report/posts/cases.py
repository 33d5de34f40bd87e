"""A page of posts beside each other: gold entities, and what each of several runs predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.show import thumbnail
from mnerkit.errors import DataError
from mnerkit.report.posts.answers import file_of
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.comparison import Answer, Key, by_post, pooled_f1, read_answers
from mnerkit.templates import render

SIDE = 160  # pixels of a picture's longer side


@dataclass
class RunCases:
    """The predictions of a run.

    Attributes:
        name: what heads its column.
        folder: the run's folder.
        cases: by episode and post.
        config: its configuration, where there is one.
    """

    name: str
    folder: Path
    cases: dict[Key, Answer]
    config: dict[str, Any] = field(default_factory=dict)


def read_run(folder: Path, split: str = "test") -> RunCases:
    """The predictions that a run wrote of a split.

    Raises:
        DataError: there are none, a line is malformed, or the posts have no gold entities.
    """
    path = file_of(folder, split)
    if not path.is_file():
        remedy = "`mnerkit test --ckpt_path RUN` writes it" if split == "test" else "is it a finished run's folder?"
        raise DataError(f"run {folder} has no {path.name}: {remedy}")
    answers = read_answers(path)
    try:
        cases = by_post(answers)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    run = RunFolder(folder)
    config = run.config() if run.started else {}
    name = " ".join(str(part) for part in (config.get("plugin"), config.get("ablation"), folder.name) if part)
    return RunCases(name, folder, cases, config)


def page(runs: Sequence[RunCases], keys: Sequence[Key], shown: Sequence[Key], posts: Mapping[str, Post]) -> str:
    """The page: one row a post, one column a run. Everything from the data is escaped; the page loads nothing.

    Args:
        runs: at least one.
        keys: the posts that all runs predicted, from `common_posts`.
        shown: those of them that get a row.
        posts: posts by id, for their pictures; may lack some.
    """
    rows = [(*_picture(posts.get(key[1])), [run.cases[key] for run in runs]) for key in shown]
    heads = [(run.name, pooled_f1(run.cases[key] for key in keys)) for run in runs]
    return render("mnerkit.report.posts", "cases.html", heads=heads, rows=rows, total=len(keys))


def _picture(post: Post | None) -> tuple[str | None, str | None]:
    """Name of a post's first picture, and the picture as a data URI; each is None where there is none to show."""
    if post is None or not post.images:
        return None, None
    ref = post.images[0]
    try:
        return ref.name, thumbnail(ref, SIDE) if ref.present else None
    except DataError:
        return ref.name, None
