"""A page of posts beside each other: gold entities, and what each of several runs found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.show import escaped, thumbnail
from mnerkit.data.corpus.tags import counted
from mnerkit.errors import DataError
from mnerkit.runs.run_folder import RunFolder

Key = tuple[int, str]  # number of the episode (-1: none), id of the post
MARKS = {"right": "✓", "wrong": "✗", "missed": "–"}  # noqa: RUF001


@dataclass(frozen=True)
class Case:
    """One line of a predictions file."""

    id: str
    words: tuple[str, ...]
    found: frozenset[Entity]
    gold: frozenset[Entity]
    episode: int | None
    types: tuple[str, ...] = ()


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
    cases: dict[Key, Case]
    data: dict[str, Any] = field(default_factory=dict)


def read_run(folder: Path, split: str = "test") -> RunCases:
    """The predictions that a run wrote of a split.

    Raises:
        DataError: there are none, a line is malformed, or the posts have no gold entities.
    """
    path = folder / f"predictions.{split}.jsonl"
    if not path.is_file():
        raise DataError(
            f"run {folder} has no {path.name}: "
            + ("`mnerkit test --ckpt_path RUN` writes it" if split == "test" else "is it a finished run's folder?")
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: {str(problem).splitlines()[0]}") from None
    cases = {}
    for number, line in enumerate(lines, 1):
        try:
            case = _case(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path}:{number}: not a line of predictions with gold entities") from None
        cases[-1 if case.episode is None else case.episode, case.id] = case
    if not cases:
        raise DataError(f"{path} is empty")
    run = RunFolder(folder)
    config: dict[str, Any] = {}
    if run.started:
        read = run.config()
        config = read if isinstance(read, dict) else {}
    plugin = str(config.get("plugin", ""))
    name = " ".join(part for part in (plugin, str(config.get("ablation") or ""), folder.name) if part)
    return RunCases(name, folder, cases, dict(config.get("data") or {}))


def _case(row: Mapping[str, Any]) -> Case:
    words = tuple(str(word) for word in row["words"])
    said = [Entity(int(each["start"]), int(each["end"]), str(each["type"])) for each in row["entities"]]
    gold = frozenset(Entity(int(start), int(end), str(kind)) for start, end, kind in row["gold"])
    if any(not 0 <= each.start < each.end <= len(words) for each in gold.union(said)):
        raise ValueError("an entity lies outside the post")
    found = frozenset(counted(said, {int(word) for word in row.get("ignored", ())}))
    episode = row.get("episode")
    return Case(
        str(row["id"]), words, found, gold, None if episode is None else int(episode), tuple(row.get("types", ()))
    )


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
    """Those of `keys` of which the runs do not all say the same."""
    return [key for key in keys if len({run.cases[key].found for run in runs}) > 1]


def f1(run: RunCases, keys: Sequence[Key]) -> float:
    """Micro F1 over these posts, in percent."""
    cases = [run.cases[key] for key in keys]
    right = sum(len(case.found & case.gold) for case in cases)
    total = sum(len(case.found) + len(case.gold) for case in cases)
    return 200 * right / total if total else 0.0


def page(runs: Sequence[RunCases], keys: Sequence[Key], posts: Mapping[str, Post], limit: int = 50) -> str:
    """The page: one row a post, one column a run. Everything from the data is escaped; the page loads nothing.

    Args:
        runs: at least one.
        keys: which posts, from `common`.
        posts: posts by id, for their pictures; may lack some.
        limit: at most so many rows.
    """
    shown = keys[:limit]
    everything = common(runs)
    heads = "".join(
        f'<th scope="col">{escaped(run.name)}'
        f"<small>F1 {f1(run, everything):.1f} on {len(everything):,} posts</small></th>"
        for run in runs
    )
    head, _, rest = _template().partition("{{rows}}")
    facts = f"{len(shown):,} of {len(everything):,} posts that all runs predicted"
    for name, value in {"heads": heads, "facts": facts, "legend": _legend()}.items():
        head, rest = (part.replace("{{" + name + "}}", value) for part in (head, rest))
    return head + "\n".join(_row(runs, key, posts.get(key[1])) for key in shown) + rest


def _template() -> str:
    return files("mnerkit.report.posts").joinpath("cases.html").read_text(encoding="utf-8")


def _legend() -> str:
    meaning = {"right": "span and type are gold", "wrong": "span or type is not", "missed": "gold, not found"}
    return "".join(f'<li><mark class="{kind}">{MARKS[kind]} {text}</mark></li>' for kind, text in meaning.items())


def _row(runs: Sequence[RunCases], key: Key, post: Post | None) -> str:
    case = runs[0].cases[key]
    told = escaped(case.id) + (
        "" if case.episode is None else f", episode {case.episode}: {escaped(', '.join(case.types))}"
    )
    gold = "".join(_mark(case, span, "gold") for span in sorted(case.gold)) or "none"
    cells = "".join(f"<td>{_verdict(run.cases[key])}</td>" for run in runs)
    return (
        f'<tr><td class="picture">{_picture(post)}</td><td class="post"><p>{escaped(" ".join(case.words))}</p>'
        f"<small>{told}</small></td><td>{gold}</td>{cells}</tr>"
    )


def _verdict(case: Case) -> str:
    """Right and wrong entities in order, then those that were missed."""
    marks = [_mark(case, span, "right" if span in case.gold else "wrong") for span in sorted(case.found)]
    marks += [_mark(case, span, "missed") for span in sorted(case.gold - case.found)]
    return "".join(marks) or "none"


def _mark(case: Case, span: Entity, kind: str) -> str:
    text = " ".join(case.words[span.start : span.end])
    mark = f"{MARKS[kind]} " if kind in MARKS else ""
    return f'<mark class="{kind}">{mark}{escaped(text)}<b>{escaped(span.type)}</b></mark>'


def _picture(post: Post | None) -> str:
    if post is None or not post.images:
        return ""
    ref = post.images[0]
    try:
        source = thumbnail(ref, side=160) if ref.present else None
    except DataError:
        source = None
    if source is None:
        return f'<span class="missing">{escaped(ref.name)} is missing</span>'
    return f'<img src="{escape(source)}" alt="{escaped(ref.name)}">'
