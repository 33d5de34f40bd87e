"""Posts for the error browser: words, gold and predicted entities, and thumbnails; as plain data, kept small."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mnerkit.data.corpus import show
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import Entity, ImageRef, Post
from mnerkit.errors import DataError, MnerkitError, first_line
from mnerkit.report.folders import Record, mapping
from mnerkit.report.posts.answers import Library, file_of, predicted_split
from mnerkit.report.posts.groups import Training, training_counts
from mnerkit.scoring.post_sets import PostSet

PICTURE_BYTES = 3_000_000  # of a page
SIDE, SMALL = 160, 96  # pixels of a thumbnail's longer side; small ones where others would not find room
MOST_POSTS = 20_000  # in a page, of all sets together
MOST_PICTURES = 4  # of a post
_AT_ONCE = 64  # thumbnails
FEWEST_POSTS = 200  # of a set, however many sets there are
MISSING, DAMAGED, LEFT_OUT, UNKNOWN = -1, -2, -3, -4  # in place of a picture's number


@dataclass
class Shown:
    """A set of posts for the browser.

    Attributes:
        set: the posts and answers.
        split: the split.
        runs: numbers of the runs, in the page's list, and the files of their predictions.
        places: places of the posts that are shown.
        corpus: the corpus's own posts by id, where they are known.
        training: how often its training posts have an entity; empty where they are not known, or few-shot.
    """

    set: PostSet
    split: str
    runs: dict[int, Path] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    corpus: dict[str, Post] = field(default_factory=dict)
    training: Training = field(default_factory=dict)


class Pictures:
    """Thumbnails as data URIs, each picture once, up to a number of bytes."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.sources: list[str] = []
        self._numbers: dict[tuple[Path | int, int], int] = {}

    def number(self, ref: ImageRef, side: int = SIDE) -> int:
        """Place of a picture's thumbnail in `sources`, or `MISSING`, `DAMAGED` or `LEFT_OUT`."""
        if not ref.present:
            return MISSING
        key = _key(ref, side)
        if key not in self._numbers:
            self._numbers[key] = self._add(_thumbnail(ref, side)) if self.left > 0 else LEFT_OUT
        return self._numbers[key]

    def numbers(self, refs: Sequence[ImageRef]) -> list[int]:
        """`number` of many pictures, in this order; several are made at once, and small where not all find room."""
        first: dict[tuple[Path | int, int], ImageRef] = {}
        for ref in refs:
            if ref.present and _key(ref, SIDE) not in self._numbers:
                first.setdefault(_key(ref, SIDE), ref)
        new, side = list(first.values()), SIDE
        with ThreadPoolExecutor() as pool:  # Pillow works without the interpreter's lock
            if len(new) > _AT_ONCE:
                sizes = [len(source) for source in pool.map(_thumbnail, new[:_AT_ONCE]) if source is not None]
                side = SMALL if sum(sizes) * len(new) > self.left * len(sizes) else SIDE
            while new and self.left > 0:
                some, new = new[:_AT_ONCE], new[_AT_ONCE:]
                for ref, source in zip(some, pool.map(partial(_thumbnail, side=side), some), strict=True):
                    self._numbers[_key(ref, SIDE)] = self._add(source)
        return [self.number(ref) for ref in refs]

    def _add(self, source: str | None) -> int:
        if self.left <= 0:
            return LEFT_OUT
        if source is None:
            return DAMAGED
        self.left -= len(source)
        if self.left < 0:
            return LEFT_OUT
        self.sources.append(source)
        return len(self.sources) - 1


def _key(ref: ImageRef, side: int) -> tuple[Path | int, int]:
    return ref.path if ref.path is not None else id(ref), side


def _thumbnail(ref: ImageRef, side: int = SIDE) -> str | None:
    """A thumbnail; None where the picture is damaged."""
    try:
        return thumbnail(ref, side)
    except DataError:
        return None


def thumbnail(ref: ImageRef, side: int = SIDE) -> str:
    """A picture as a data URI; decoded under mnerkit's limits and encoded anew, so that nothing else of it is kept.

    Raises:
        DataError: see `decode`.
    """
    from PIL import features

    kind = "webp" if features.check("webp") else "jpeg"
    return show.thumbnail(ref, side, exact=0, kind=kind, quality=60 if side <= SIDE else 75)


def sets(
    records: Sequence[Record], library: Library, root: Path | None, limit: int, problems: list[str]
) -> list[Shown]:
    """The sets of posts on which the runs were scored.

    Args:
        records: the runs, in the page's order; of each, its first split with predictions counts.
        library: where predictions are read.
        root: folder of the corpora; that of each run's configuration where None.
        limit: at most so many posts of a set.
        problems: what was wrong is added, a line each.
    """
    shown_by_set: dict[PostSet, Shown] = {}
    for number, record in enumerate(records):
        if split := predicted_split(record):
            try:
                posts = library.of(record.path, split)
                shown_by_set.setdefault(posts, Shown(posts, split)).runs[number] = file_of(record.path, split)
            except DataError as problem:
                problems.append(str(problem))
    for shown in shown_by_set.values():
        record = records[next(iter(shown.runs))]
        most = min(limit, max(FEWEST_POSTS, MOST_POSTS // len(shown_by_set)))
        shown.places = _chosen(shown.set, most)
        try:
            corpus = corpus_posts(record.config, shown.split, root)
            if not record.protocol.get("episodic"):
                shown.training = training_counts(corpus_posts(record.config, "train", root).values())
        except MnerkitError as problem:
            add_line(problems, f"pictures of {record.corpus} are left out", problem)
            continue
        words = {post.id: post.words for post in shown.set.posts}
        shown.corpus = {name: post for name, post in corpus.items() if words.get(name) == post.words}
    return list(shown_by_set.values())


def _chosen(posts: PostSet, most: int) -> list[int]:
    """Places of at most so many posts, in order; posts on which runs differ are left out last."""
    return sorted(posts.by_interest(range(len(posts.posts)))[:most])


def add_line(problems: list[str], what: str, problem: Exception) -> None:
    """Add what is wrong and the first line of the reason, once."""
    line = f"{what}: {first_line(problem)}"
    problems += [line] if line not in problems else []


def corpus_posts(config: Mapping[str, Any], split: str, root: Path | str | None) -> dict[str, Post]:
    """The posts of a split of a run's corpus, by id; none of another corpus's split (`test@NAME`).

    Args:
        config: the run's configuration.
        split: the split.
        root: folder of the corpora; that of the configuration where None.

    Raises:
        MnerkitError: the corpus can't be read.
    """
    data = mapping(config.get("data"))
    name, own_root, variant = data.get("corpus", "probe"), data.get("root"), data.get("variant")
    columns = data.get("columns")
    texts = (name, own_root, variant, columns)
    if "@" in split or any(value is not None and not isinstance(value, str) for value in texts):
        return {}
    splits = (split,) if data.get("folds") is None else ("train", "dev")  # of which a fold is made
    corpus = load_corpus(str(name or "probe"), root or own_root, variant, splits=splits, columns=columns)
    return {post.id: post for posts in corpus.splits.values() for post in posts}


# ------------------------------------------------------------------ plain data


def plain(shown: Shown, pictures: Pictures) -> dict[str, Any]:
    """The data of a set for the page.

    A post is `[id, words, gold, flags, pictures, episode, types]`; entities are flat: `[start, end, type, ...]`, types
    by number; flags: 1 ambiguous, 2 a picture is there; pictures: `[name, number, caption]`.
    """
    posts = shown.set
    number = {kind: place for place, kind in enumerate(posts.types)}
    numbers = _pictures(shown, pictures)
    truths = {post.id: post.truth for post in shown.corpus.values() if post.truth}
    ambiguous = posts.ambiguous(truths)

    def flat(entities: Iterable[Entity]) -> list[int]:
        return [value for span in sorted(entities) for value in (span.start, span.end, number[span.type])]

    rows = []
    for place in shown.places:
        post = posts.posts[place]
        refs = shown.corpus[post.id].images[:MOST_PICTURES] if post.id in shown.corpus else ()
        shots = [[ref.name, numbers[place, at], ref.caption or ""] for at, ref in enumerate(refs)]
        flags = int(place in ambiguous) + 2 * any(ref.present for ref in refs)
        rows.append([post.id, list(post.words), flat(post.gold), flags, shots, post.episode, list(post.types)])
    return {
        "split": shown.split,
        "total": len(posts.posts),
        "types": list(number),
        "posts": rows,
        "answers": [[flat(answer) for answer in posts.answers[place]] for place in shown.places],
        "said": {str(run): posts.systems[file][shown.places].tolist() for run, file in shown.runs.items()},
        "truth": bool(truths),
    }


def _pictures(shown: Shown, pictures: Pictures) -> dict[tuple[int, int], int]:
    """Number of each picture. The pictures of the most interesting posts come first, since bytes may run out."""
    posts = [(place, shown.corpus.get(shown.set.posts[place].id)) for place in shown.set.by_interest(shown.places)]
    refs = {
        (place, at): post.images[at]
        for at in range(MOST_PICTURES)
        for place, post in posts
        if post is not None and at < len(post.images)
    }
    return dict(zip(refs, pictures.numbers(list(refs.values())), strict=True))
