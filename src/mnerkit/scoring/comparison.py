"""Compares two systems on the same posts, from the prediction files of their runs. Nothing here imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.tags import counted
from mnerkit.errors import DataError, UsageError
from mnerkit.scoring.counts import prf
from mnerkit.scoring.draws import Draw
from mnerkit.scoring.seeds_and_folds import runs_test, sides
from mnerkit.scoring.significance import paired_counts_test
from mnerkit.strict_json import loads

MAX_BYTES = 512 << 20  # of a file of predictions
Key = tuple[int, str]  # number of the episode (-1: none), id of the post


@dataclass(frozen=True)
class Answer:
    """One line of `predictions.<split>.jsonl`.

    Attributes:
        id: id of the post.
        words: words of the post.
        gold: gold entities of the types in play.
        predicted: predicted entities that are scored: those that contain no ignored word.
        ignored: words that do not count.
        episode: number of the episode, or None.
        types: types in play in the episode.
        support: ids of its support posts.
    """

    id: str
    words: tuple[str, ...]
    gold: frozenset[Entity]
    predicted: frozenset[Entity]
    ignored: tuple[int, ...] = ()
    episode: int | None = None
    types: tuple[str, ...] = ()
    support: tuple[str, ...] = ()


def read_answers(path: Path) -> list[Answer]:
    """Read the predictions of a run.

    Raises:
        DataError: the file can't be read, is empty, or has a line that mnerkit did not write or without gold entities.
    """
    answers = []
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES >> 20} MB")
        with path.open(encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    answers.append(answer_of(line))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise DataError(f"{path}:{number}: no prediction with gold entities") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} can't be read: {getattr(problem, 'strerror', None) or problem}") from None
    if not answers:
        raise DataError(f"{path} holds no predictions")
    return answers


def answer_of(line: str | bytes) -> Answer:
    """The values of a line, of the kinds that mnerkit writes.

    Raises:
        ValueError: it is no JSON, a value is of another kind, or an entity lies outside the post.
        KeyError, TypeError, AttributeError, RecursionError: it is something else.
    """
    row = loads(line if isinstance(line, str) else line.decode())
    lists = [row["words"], row["gold"], row["entities"], *(row.get(key, []) for key in ("ignored", "types", "support"))]
    if not all(isinstance(value, list) for value in lists):
        raise ValueError("a value of another kind")
    ignored = tuple(row.get("ignored", ()))
    predicted = [Entity(span["start"], span["end"], span["type"]) for span in row["entities"]]
    answer = Answer(
        id=row["id"],
        words=tuple(row["words"]),
        gold=frozenset(Entity(*span) for span in row["gold"]),
        predicted=frozenset(counted(predicted, ignored)),
        ignored=ignored,
        episode=row.get("episode"),
        types=tuple(row.get("types", ())),
        support=tuple(sorted(row.get("support", ()))),
    )
    spans = answer.gold.union(predicted)
    texts = [answer.id, *answer.words, *answer.types, *answer.support, *(span.type for span in spans)]
    numbers = [*ignored, *(bound for span in spans for bound in (span.start, span.end))]
    numbers += [] if answer.episode is None else [answer.episode]
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise ValueError("a value of another kind")
    if not all(0 <= span.start < span.end <= len(answer.words) for span in spans):
        raise ValueError("an entity lies outside the post")
    return answer


def first_difference(a: Sequence[Answer], b: Sequence[Answer]) -> str | None:
    """Describe the first difference between the posts or settings of two systems; None if there is none."""
    for number, (first, second) in enumerate(zip(a, b, strict=False), 1):
        where = f"line {number}, post {first.id!r}" + ("" if first.episode is None else f" of episode {first.episode}")
        if first.episode != second.episode:
            return f"line {number}: {_episode(first)} against {_episode(second)}"
        if first.id != second.id:
            return f"{where}: against post {second.id!r}"
        for field in ("words", "types", "support", "ignored"):
            value_a, value_b = getattr(first, field), getattr(second, field)
            if value_a != value_b:
                name = {"ignored": "ignored words", "types": "types in play"}.get(field, field)
                return f"{where}: {name} {_short(value_a)} against {_short(value_b)}"
        if first.gold != second.gold:
            return f"{where}: gold entities {_spans(first)} against {_spans(second)}"
    if len(a) != len(b):
        return f"{len(a)} predictions against {len(b)}"
    return None


def _episode(answer: Answer) -> str:
    return "no episode" if answer.episode is None else f"episode {answer.episode}"


def _short(values: Iterable[object]) -> str:
    text = " ".join(map(str, values))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _spans(answer: Answer) -> str:
    return _short(f"{' '.join(answer.words[span.start : span.end])} ({span.type})" for span in sorted(answer.gold))


def by_post(answers: Iterable[Answer]) -> dict[Key, Answer]:
    """Answers by the number of the episode (-1: none) and the id of the post.

    Raises:
        DataError: a post has two answers, in one episode or without any.
    """
    found: dict[Key, Answer] = {}
    for answer in answers:
        if found.setdefault((-1 if answer.episode is None else answer.episode, answer.id), answer) is not answer:
            episode = "" if answer.episode is None else f" in {_episode(answer)}"
            raise DataError(f"two predictions of post {answer.id[:80]!r}{episode}")
    return found


def common_posts(names: Sequence[object], answers: Sequence[Mapping[Key, Answer]]) -> list[Key]:
    """Posts that all systems answered, in order, with the same gold entities in all of them.

    Args:
        names: what each system is called in a message.
        answers: of each system, its answers, from `by_post`.

    Raises:
        DataError: there is none, or the systems disagree about a post's gold entities.
    """
    keys = sorted(set.intersection(*map(set, answers)))
    if not keys:
        raise DataError(
            f"runs {names[0]} and {names[-1]} have no post (and episode) in common: were they scored on "
            "the same split and protocol?"
        )
    for key in keys:
        for name, others in zip(names, answers, strict=True):
            one, other = answers[0][key], others[key]
            if (one.words, one.gold) != (other.words, other.gold):
                raise DataError(
                    f"post {key[1]!r} has other words or gold entities in {name} than in {names[0]}: "
                    "another label release, or other types in play"
                )
    return keys


def differing_posts(answers: Sequence[Mapping[Key, Answer]], keys: Iterable[Key]) -> list[Key]:
    """Those of `keys` on which the systems do not all predict the same."""
    return [key for key in keys if len({of_system[key].predicted for of_system in answers}) > 1]


def pooled_f1(answers: Iterable[Answer]) -> float:
    """Micro F1 over these posts, in percent."""
    counts = [(len(post.gold), len(post.predicted), len(post.gold & post.predicted)) for post in answers]
    gold, predicted, correct = map(sum, zip(*counts, strict=True))
    return prf(gold, predicted, correct)[2]


def units_of(answers: Sequence[Answer]) -> list[Hashable]:
    """Name the unit of resampling that each answer belongs to: the posts of its episode, or its post alone.

    Runs with different seeds give the same names to units of the same posts, whatever the supports, so that their
    counts are added up. Repeating a post does not add independent posts, and so does not lower the p-value.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for place, answer in enumerate(answers):
        group = ("post", place) if answer.episode is None else ("episode", answer.episode)
        groups.setdefault(group, []).append(place)
    names: list[Hashable] = [None] * len(answers)
    repeats: Counter[Hashable] = Counter()
    for places in groups.values():
        posts = tuple((answers[place].id, answers[place].words) for place in places)
        for place in places:
            names[place] = posts, repeats[posts]  # a run may contain the same posts twice
        repeats[posts] += 1
    return names


def compare(
    pairs: Sequence[tuple[Sequence[Answer], Sequence[Answer]]], samples: int = 10_000, draw: Draw = "posts"
) -> dict[str, Any]:
    """Compare two systems, a and b, on the same posts: pooled F1, paired test, scores by type, and who is right.

    The unit of swapping and resampling is the episode if there are episodes, else the post; it pools the answers of
    all pairs of runs (`units_of`).

    Args:
        pairs: answers of a and of b in each pair of runs, for instance one pair for each seed.
        samples: number of random draws of the tests that draw posts alone.
        draw: what the interval and the p-value draw.

    Returns:
        Plain data: the fields of `significance.Comparison`, or of `seeds_and_folds.SeedComparison` where seeds are
        drawn (`difference` is b - a), `draw`, `unit`, `gold` (the number of gold entities), `only_a`, `only_b`, `both`
        and `neither` (gold entities by who predicted them), and `by_type`.

    Raises:
        DataError: the two answered different posts or settings; the message names the first difference.
        UsageError: seeds or folds are to be drawn, and the runs are not several seeds on the same posts.
    """
    runs: list[dict[Hashable, np.ndarray]] = []
    types: dict[str, Counter[str]] = {}
    for a, b in pairs:
        difference = first_difference(a, b)
        if difference is not None:
            raise DataError(f"the two can't be compared, since their posts or settings differ: {difference}")
        units: dict[Hashable, np.ndarray] = {}
        for unit, first, second in zip(units_of(a), a, b, strict=True):
            units[unit] = units.get(unit, 0) + _counts(first, second)
            _add_types(types, first, second)
        runs.append(units)
    total: Counter[str] = sum(types.values(), Counter())
    by_type = {
        kind: {
            "gold": counts["gold"],
            "f1_a": prf(counts["gold"], counts["predicted_a"], counts["correct_a"])[2],
            "f1_b": prf(counts["gold"], counts["predicted_b"], counts["correct_b"])[2],
            "only_a": counts["only_a"],
            "only_b": counts["only_b"],
        }
        for kind, counts in sorted(types.items())
    }
    return {
        **(_over_posts(runs, samples) if draw == "posts" else runs_test(folds_of(runs, draw))),
        "draw": draw,
        "unit": "post" if pairs[0][0][0].episode is None else "episode",
        **{name: total[name] for name in ("gold", "both", "only_a", "only_b", "neither")},
        "by_type": by_type,
    }


def _over_posts(runs: Sequence[Mapping[Hashable, np.ndarray]], samples: int) -> dict[str, Any]:
    """The paired test on counts of units that are added up over runs."""
    units: dict[Hashable, np.ndarray] = {}
    for run in runs:
        for unit, counts in run.items():
            units[unit] = units.get(unit, 0) + counts
    return {**paired_counts_test(np.array(list(units.values())), samples)}


def folds_of(runs: Sequence[Mapping[Hashable, np.ndarray]], draw: Draw) -> list[tuple[np.ndarray, np.ndarray]]:
    """The counts of pairs of runs as `seeds_and_folds.runs_test` takes them: runs on the same units are of one fold.

    Args:
        runs: of each pair of runs, the counts of each unit, (5,) as of `paired_counts_test`.
        draw: whether folds may differ in units.

    Raises:
        UsageError: fewer than two runs on a fold, another number than on the first one, or folds that share units.
    """
    groups: dict[frozenset[Hashable], list[Mapping[Hashable, np.ndarray]]] = {}
    for run in runs:
        groups.setdefault(frozenset(run), []).append(run)
    if len(set(map(len, groups.values()))) > 1 or (draw == "posts,seeds" and len(groups) > 1):
        raise UsageError(
            f"--draw {draw}: the runs were not all scored on the same posts or episodes, so that seeds and posts can't "
            "be told apart.\nGive runs of one corpus; in few-shot runs freeze the episodes (--data.episode_file)."
        )
    if len(next(iter(groups.values()))) < 2:
        raise UsageError(
            f"--draw {draw}: with one seed it is unknown how much a figure changes with the seed.\n"
            "Give the runs of two seeds or more (--a RUN... --b RUN...), or --draw posts."
        )
    if draw == "posts,seeds,folds" and (len(groups) < 2 or len(frozenset().union(*groups)) < sum(map(len, groups))):
        raise UsageError(
            f"--draw {draw}: these are not the folds of a cross-validation (--data.folds), which share no post"
        )
    folds = []
    for units, group in groups.items():
        order = sorted(units, key=repr)
        table = np.array([[run[unit] for unit in order] for run in group])  # (R, n, 5)
        folds.append(sides(table))
    return folds


def _counts(a: Answer, b: Answer) -> np.ndarray:
    """(5,) numbers of gold entities, of predicted and correct ones of a, and of predicted and correct ones of b."""
    gold = a.gold
    return np.array([len(gold), len(a.predicted), len(gold & a.predicted), len(b.predicted), len(gold & b.predicted)])


def _add_types(types: dict[str, Counter[str]], a: Answer, b: Answer) -> None:
    for span in a.gold | a.predicted | b.predicted:
        in_a, in_b, in_gold = span in a.predicted, span in b.predicted, span in a.gold
        counts = types.setdefault(span.type, Counter())
        counts["gold"] += in_gold
        counts["predicted_a"] += in_a
        counts["predicted_b"] += in_b
        if in_gold:
            outcome = "both" if in_a and in_b else "only_a" if in_a else "only_b" if in_b else "neither"
            counts["correct_a"] += in_a
            counts["correct_b"] += in_b
            counts[outcome] += 1
