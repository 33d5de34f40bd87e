"""Posts for the error browser: words, gold, what each run said, and thumbnails; as plain data, kept small."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import Entity, ImageRef, Post
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError, MnerkitError
from mnerkit.report.folders import Record, mapping
from mnerkit.report.posts.answers import Asked, Library, file_of

SIDE = 160  # pixels of a thumbnail's longer side
MOST_POSTS = 20_000  # in a page, of all sets together
MOST_PICTURES = 4  # of a post
FEWEST_POSTS = 200  # of a set, however many sets there are
MISSING, DAMAGED, LEFT_OUT, UNKNOWN = -1, -2, -3, -4  # in place of a picture's number


@dataclass
class Shown:
    """A set of posts that some runs were asked about alike.

    Attributes:
        asked: the posts and answers.
        split: the split.
        runs: numbers of the runs, in the page's list, and the files of their predictions.
        kept: places of the posts that are shown.
        posts: the corpus's own, by id, where they are known.
    """

    asked: Asked
    split: str
    runs: dict[int, Path]
    kept: list[int] = field(default_factory=list)
    posts: dict[str, Post] = field(default_factory=dict)


class Pictures:
    """Thumbnails as data URIs, each picture once, up to a number of bytes."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.sources: list[str] = []
        self._known: dict[tuple[Path | int, int], int] = {}

    def number(self, ref: ImageRef, side: int = SIDE) -> int:
        """Place of a picture's thumbnail in `sources`; else `MISSING`, `DAMAGED` or `LEFT_OUT`."""
        if not ref.present:
            return MISSING
        key = (ref.path if ref.path is not None else id(ref), side)
        if key not in self._known:
            self._known[key] = self._add(ref, side)
        return self._known[key]

    def _add(self, ref: ImageRef, side: int) -> int:
        if self.left <= 0:
            return LEFT_OUT
        try:
            source = thumbnail(ref, side)
        except DataError:
            return DAMAGED
        if len(source) > self.left:
            self.left = 0
            return LEFT_OUT
        self.left -= len(source)
        self.sources.append(source)
        return len(self.sources) - 1


def thumbnail(ref: ImageRef, side: int = SIDE) -> str:
    """A picture as a data URI; decoded under mnerkit's limits and encoded anew, so that nothing else of it is kept.

    Raises:
        DataError: see `images.decode`.
    """
    from PIL import Image, features

    image = Image.fromarray(decode(ref))
    small = max(image.size) <= 96  # generated ones, kept exactly
    image.thumbnail((side, side))
    kind = "PNG" if small else "WEBP" if features.check("webp") else "JPEG"
    content = io.BytesIO()
    image.save(content, kind, **({"optimize": True} if small else {"quality": 60}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def sets(records: Sequence[Record], library: Library, root: Path | None, limit: int) -> tuple[list[Shown], list[str]]:
    """The sets of posts that the runs were asked about, and what was wrong.

    Of each run, its first split with predictions counts (test before dev).

    Args:
        records: the runs, in the page's order.
        library: where predictions are read.
        root: folder of the corpora; that of each run's configuration where None.
        limit: at most so many posts of a set.
    """
    found: dict[int, Shown] = {}
    problems = []
    for number, record in enumerate(records):
        splits = [split for split in record.splits() if file_of(record.path, split).is_file()]
        if not splits:
            continue
        try:
            asked = library.of(record.path, splits[0])
        except DataError as problem:
            problems.append(str(problem))
            continue
        shown = found.setdefault(id(asked), Shown(asked, splits[0], {}))
        shown.runs[number] = file_of(record.path, splits[0])
    for shown in found.values():
        shown.kept = _kept(shown.asked, min(limit, max(FEWEST_POSTS, MOST_POSTS // len(found))))
        try:
            shown.posts = _posts(records[next(iter(shown.runs))], shown, root)
        except MnerkitError as problem:
            said = f"pictures of {records[next(iter(shown.runs))].corpus} are left out: {str(problem).splitlines()[0]}"
            problems += [said] if said not in problems else []
    return list(found.values()), problems


def _kept(asked: Asked, limit: int) -> list[int]:
    """Places of at most `limit` posts, in order; where some are left out, those stay of which runs differ."""
    if len(asked.posts) <= limit:
        return list(range(len(asked.posts)))
    return sorted(_by_interest(asked, range(len(asked.posts)))[:limit])


def _by_interest(asked: Asked, places: Iterable[int]) -> list[int]:
    """Places of posts: first where runs differ, then where all are wrong alike, then where all are right."""

    def rank(place: int) -> int:
        answers = asked.answers[place]
        return 0 if len(answers) > 1 else 1 if answers[0] != asked.posts[place].gold else 2

    return sorted(places, key=rank)


def _posts(record: Record, shown: Shown, root: Path | None) -> dict[str, Post]:
    """The corpus's posts by id, as far as their words are those that the runs saw."""
    words = {post.id: post.words for post in shown.asked.posts}
    known = corpus_posts(record, shown.split, root)
    return {name: post for name, post in known.items() if words.get(name) == post.words}


def corpus_posts(record: Record, split: str, root: Path | None) -> dict[str, Post]:
    """The posts of a split of a run's corpus, by id; none of another corpus's split (`test@NAME`).

    Args:
        record: the run.
        split: the split.
        root: folder of the corpora; that of the run's configuration where None.

    Raises:
        MnerkitError: the corpus can't be read.
    """
    data = mapping(record.config.get("data"))
    name, own_root, variant = data.get("corpus", "probe"), data.get("root"), data.get("variant")
    if "@" in split or any(each is not None and not isinstance(each, str) for each in (name, own_root, variant)):
        return {}
    corpus = load_corpus(str(name or "probe"), root or own_root, variant, splits=(split,))
    return {post.id: post for post in corpus.splits[split]}


# ------------------------------------------------------------------ plain data


def plain(shown: Shown, pictures: Pictures) -> dict[str, Any]:
    """What the page gets of a set.

    A post is `[id, words, gold, flags, pictures, episode, types]`; entities are flat: `[start, end, type, ...]`, types
    by number; flags: 1 ambiguous, 2 a picture is there; pictures: `[name, number, caption]`.
    """
    asked = shown.asked
    types = asked.types
    number = {kind: place for place, kind in enumerate(types)}
    numbers = _pictures(shown, pictures)
    ambiguous = _ambiguous(shown)

    def flat(entities: Iterable[Entity]) -> list[int]:
        return [value for each in sorted(entities) for value in (each.start, each.end, number[each.type])]

    posts = []
    for place in shown.kept:
        post, known = asked.posts[place], shown.posts.get(asked.posts[place].id)
        refs = known.images[:MOST_PICTURES] if known else ()
        shots = [[ref.name, numbers[place, at], ref.caption or ""] for at, ref in enumerate(refs)]
        flags = int(place in ambiguous) + 2 * any(ref.present for ref in refs)
        posts.append([post.id, list(post.words), flat(post.gold), flags, shots, post.episode, list(post.types)])
    return {
        "split": shown.split,
        "total": len(asked.posts),
        "types": types,
        "posts": posts,
        "answers": [[flat(said) for said in asked.answers[place]] for place in shown.kept],
        "said": {str(run): asked.runs[file][shown.kept].tolist() for run, file in shown.runs.items()},
        "truth": any(post.truth for post in shown.posts.values()),
    }


def _pictures(shown: Shown, pictures: Pictures) -> dict[tuple[int, int], int]:
    """Number of each picture; the first ones of the posts that matter most come first, since bytes may run out."""
    places = _by_interest(shown.asked, shown.kept)
    found = {}
    for at in range(MOST_PICTURES):
        for place in places:
            post = shown.posts.get(shown.asked.posts[place].id)
            if post is not None and at < len(post.images):
                found[place, at] = pictures.number(post.images[at])
    return found


def _ambiguous(shown: Shown) -> set[int]:
    """Places of posts with an entity whose words do not tell its type.

    A generated corpus knows them. In others an entity counts whose words are gold with another type elsewhere in the
    set.
    """
    if any(post.truth for post in shown.posts.values()):
        known = {
            post.id
            for post in shown.posts.values()
            if post.truth and any(each.ambiguous for each in post.truth.entities)
        }
        return {place for place, post in enumerate(shown.asked.posts) if post.id in known}
    surfaces: dict[tuple[str, ...], set[str]] = {}
    of_post: list[set[tuple[str, ...]]] = []
    for post in shown.asked.posts:
        own = set()
        for each in post.gold:
            surface = tuple(word.lower() for word in post.words[each.start : each.end])
            surfaces.setdefault(surface, set()).add(each.type)
            own.add(surface)
        of_post.append(own)
    return {place for place, own in enumerate(of_post) if any(len(surfaces[each]) > 1 for each in own)}
