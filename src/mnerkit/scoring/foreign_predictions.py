"""Predictions that other programs wrote, beside the gold posts that they are of. Nothing here imports torch.

Two formats, told apart by content:

- **columns**: a word a line, blank lines between posts; the last column is the predicted tag, and of three columns or
  more the one before it may be the gold tag. `IMGID:` lines name the posts where there are any.
- **JSON lines**: an object a post with its `id`, and `entities` (`start` and `end` in words, `type`), `predictions` or
  `tags`; tags beside one of the others are the gold tags.

Tags are BIO in any spelling that the lenient rule reads alike (IOB1, IOB2), or BIOES.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.corpus import LABELS, renamed_type
from mnerkit.data.corpus.foreign_columns import bio_tag, is_docstart, is_tag
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import tags_of
from mnerkit.data.corpus.text_lines import beginning, is_blank, json_lines, lines
from mnerkit.errors import DataError, shown

# the first one that a record has is what was predicted; of the last three, one beside it is the gold tags
_TAG_KEYS = ("entities", "predictions", "predicted", "tags", "label", "ner_tags")
_GOLD_KEYS = _TAG_KEYS[3:]
_WORD_KEYS = ("words", "tokens", "text")


@dataclass(frozen=True)
class PredictedPost:
    """What a file says of a post.

    Attributes:
        where: file and line.
        tags: predicted BIO tags; None where entities are given, whose words are only known with the gold post.
        id: its id; None where the file names no posts.
        words: its words; None where the file has none.
        gold: its gold tags; None where the file has none.
        spans: predicted entities, where they are given.
    """

    where: str
    tags: tuple[str, ...] | None
    id: str | None = None
    words: tuple[str, ...] | None = None
    gold: tuple[str, ...] | None = None
    spans: tuple[Entity, ...] = ()


def read_predictions(path: Path) -> list[PredictedPost]:
    """The posts of a file of predictions, in its order.

    Raises:
        DataError: with file and line, where it is in neither format; or it holds no post.
    """
    posts = list(_records(path) if beginning(path).lstrip().startswith("{") else _columns(path))
    if not posts:
        raise DataError(f"{path} holds no predictions.")
    if len({post.id is None for post in posts}) > 1:
        without = next(post for post in posts if post.id is None)
        raise DataError(f"{without.where}: a post without an id, and others have one.")
    return posts


def _records(path: Path) -> Iterator[PredictedPost]:
    for where, record in json_lines(path):
        id_ = record.get("id")
        if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, str | int)):
            raise DataError(f"{where}: the id must be a string or a whole number.")
        key = next((key for key in _TAG_KEYS if record.get(key) is not None), None)
        if key is None:
            keys = ", ".join(shown(each) for each in list(record)[:8]) or "none"
            accepted = "id, words, and entities, predictions or tags"
            raise DataError(f"{where}: no prediction. Its keys are {keys}; accepted are {accepted}.")
        words = next((record[name] for name in _WORD_KEYS if isinstance(record.get(name), list)), None)
        if words is not None:
            words = _texts(words, "words", where)
        tags, spans = None, tuple[Entity, ...]()
        if key == "entities":
            spans = tuple(_spans(record[key], where))
        else:
            tags = _bio_tags(record, key, where)
        gold_key = next((name for name in _GOLD_KEYS if name != key and record.get(name) is not None), None)
        gold = None if gold_key is None else tuple(map(renamed_type, _bio_tags(record, gold_key, where)))
        yield PredictedPost(where, tags, None if id_ is None else str(id_), words, gold, spans)


def _bio_tags(record: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    return tuple(bio_tag(tag, where) for tag in _texts(record[key], key, where))


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise DataError(f"{where}: {key!r} must be a list of strings.")
    return tuple(value)


def _spans(value: Any, where: str) -> Iterator[Entity]:
    """Entities, each an object with start, end and type, or a list of these three.

    Raises:
        DataError: naming the first one that is neither.
    """
    if not isinstance(value, list):
        raise DataError(f"{where}: 'entities' must be a list.")
    for each in value:
        parts = [each.get(key) for key in ("start", "end", "type")] if isinstance(each, dict) else each
        if not isinstance(parts, list) or len(parts) != 3:
            raise DataError(f"{where}: {shown(each)} is no entity; it needs start, end and type.")
        start, end, kind = parts
        if not all(type(bound) is int for bound in (start, end)) or not isinstance(kind, str) or not kind:
            raise DataError(f"{where}: {shown(each)} is no entity: start and end are numbers of words, type is a name.")
        yield Entity(start, end, LABELS.get(kind, kind))


def _columns(path: Path) -> Iterator[PredictedPost]:
    """Posts of a file of columns.

    Raises:
        DataError: with file and line: another number of columns than above, or a last column that is no tag.
    """
    id_: str | None = None
    rows: list[list[str]] = []
    first, width, separator, named = 0, 0, "", False
    blocks: list[tuple[int, str | None, list[list[str]]]] = []
    for number, text in lines(path):
        is_name = text.startswith("IMGID:") and "\t" not in text
        if is_name or is_blank(text) or is_docstart(text):
            if rows:
                blocks.append((first, id_, rows))
                rows, id_ = [], None
            if is_name:
                id_, named = text.removeprefix("IMGID:").strip(), True
            continue
        separator = separator or ("\t" if "\t" in text else " ")
        row = text.split(separator) if separator == "\t" else text.split()
        width = width or len(row)
        if len(row) != width or width < 2 or not row[0]:
            raise DataError(
                f"{path}:{number}: expected {'two columns or more' if width < 2 else f'{width} columns'}, word first "
                f"and predicted tag last, found {len(row)} in {shown(text)}."
            )
        if not is_tag(row[-1]):
            raise DataError(f"{path}:{number}: {shown(row[-1])} in the last column is no tag.")
        first = first if rows else number
        rows.append(row)
    if rows:
        blocks.append((first, id_, rows))
    has_gold = width > 2 and all(is_tag(row[-2]) for _, _, block in blocks for row in block)
    for first, id_, block in blocks:
        where = f"{path}:{first}"
        if named and id_ is None:
            raise DataError(f"{where}: a post without an IMGID: line, and others have one.")
        yield PredictedPost(
            where,
            tuple(bio_tag(row[-1], where) for row in block),
            id_,
            tuple(row[0] for row in block),
            tuple(renamed_type(bio_tag(row[-2], where)) for row in block) if has_gold else None,
        )


def gold_of(predicted: Sequence[PredictedPost], path: Path) -> list[Post]:
    """The gold posts that a file holds itself.

    Raises:
        DataError: a post of it has no gold tags, or no words.
    """
    if any(post.gold is None or post.words is None for post in predicted):
        raise DataError(f"{path} has no gold tags beside the predicted ones; name the posts: --gold CORPUS or FILE")
    return [
        Post(post.id or f"{path.stem}-{number}", post.words or (), post.gold)
        for number, post in enumerate(predicted, 1)
    ]


def aligned(predicted: Sequence[PredictedPost], gold: Sequence[Post], name: str) -> list[list[str]]:
    """Predicted tags of each gold post, in the order of the gold posts.

    Args:
        predicted: all posts of a file.
        gold: all posts that are scored.
        name: what the gold posts are called in messages.

    Raises:
        DataError: naming the first post that is missing, there twice, in another place, of another corpus, or has other
            words or gold tags.
    """
    pair = _by_place if predicted[0].id is None else _by_id
    return [_tags(post, own, name) for post, own in pair(predicted, gold, name)]


def _by_id(predicted: Sequence[PredictedPost], gold: Sequence[Post], name: str) -> list[tuple[PredictedPost, Post]]:
    own = {post.id: post for post in gold}
    found: dict[str, PredictedPost] = {}
    times: Counter[str] = Counter()
    for post in predicted:
        assert post.id is not None
        times[post.id] += 1
        id_ = f"{post.id}#{times[post.id]}" if times[post.id] > 1 else post.id  # as a corpus renames its own
        if id_ not in own:
            if times[post.id] > 1:
                raise DataError(
                    f"{post.where}: post {shown(post.id)} is there twice; the first: {found[post.id].where}"
                )
            raise DataError(f"{post.where}: post {shown(post.id)} is none of {name}: another corpus or split?")
        found[id_] = post
    if missing := [id_ for id_ in own if id_ not in found]:
        raise DataError(f"{len(missing)} posts of {name} have no prediction, the first: {shown(missing[0])}")
    order, own_order = list(found), list(own)
    if order not in (own_order, sorted(own_order)):  # sorted: as mnerkit writes its own
        place = next(place for place, id_ in enumerate(order) if id_ != own_order[place])
        raise DataError(
            f"{found[order[place]].where}: the posts are in another order than in {name}: {shown(order[place])} stands "
            f"where {shown(own_order[place])} should. Write them in that order, or sorted by id."
        )
    return [(found[post.id], post) for post in gold]


def _by_place(predicted: Sequence[PredictedPost], gold: Sequence[Post], name: str) -> list[tuple[PredictedPost, Post]]:
    """Posts without ids: they must stand in the order of the gold posts."""
    if any(post.words is None for post in predicted):
        post = next(post for post in predicted if post.words is None)
        raise DataError(f"{post.where}: neither id nor words, so nobody knows which post of {name} this is")
    places: dict[tuple[str, ...], list[int]] = {}
    for place, own in enumerate(gold):
        places.setdefault(own.words, []).append(place)
    for place, post in enumerate(predicted):
        assert post.words is not None
        if place < len(gold) and gold[place].words == post.words:
            continue
        text = shown(" ".join(post.words[:8]))
        elsewhere = places.get(post.words, [])
        if not elsewhere:
            raise DataError(f"{post.where}: the post {text} is none of {name}: another corpus, split or tokenization?")
        if elsewhere[-1] < place:
            raise DataError(f"{post.where}: the post {text} is there twice, or in another place than in {name}")
        left = gold[place].id
        raise DataError(
            f"{post.where}: post {shown(left)} of {name} is missing here, or the posts are in another order: {text} "
            f"is number {elsewhere[0] + 1} of {name}"
        )
    if len(predicted) < len(gold):
        raise DataError(
            f"{len(gold) - len(predicted)} posts of {name} have no prediction, the first: "
            f"{shown(gold[len(predicted)].id)}"
        )
    return list(zip(predicted, gold, strict=True))


def _tags(post: PredictedPost, own: Post, name: str) -> list[str]:
    """Predicted tags of a gold post.

    Raises:
        DataError: words, gold tags, the number of tags or an entity's bounds are not the post's.
    """
    assert own.tags is not None
    if post.words is not None and post.words != own.words:
        place = next(
            (place for place, (a, b) in enumerate(zip(post.words, own.words, strict=False)) if a != b),
            min(len(post.words), len(own.words)),
        )
        theirs, ours = (words[place : place + 1] for words in (post.words, own.words))
        raise DataError(
            f"{post.where}: post {shown(own.id)} has other words than in {name}: word {place + 1} is "
            f"{shown(theirs[0]) if theirs else 'missing'}, and {shown(ours[0]) if ours else 'nothing'} there"
        )
    if post.gold is not None and post.gold != own.tags:
        raise DataError(
            f"{post.where}: post {shown(own.id)} has other gold tags than in {name}: another label release?"
        )
    if post.tags is None:
        taken: set[int] = set()
        for span in post.spans:
            words = set(range(span.start, span.end))
            if not 0 <= span.start < span.end <= len(own.words) or taken & words:
                problem = "overlaps another one" if taken & words else f"lies outside its {len(own.words)} words"
                which = f"the {span.type} of post {shown(own.id)} from word {span.start} to {span.end}"
                raise DataError(f"{post.where}: {which} {problem}")
            taken |= words
        return tags_of(post.spans, len(own.words))
    if len(post.tags) != len(own.words):
        raise DataError(f"{post.where}: {len(post.tags)} tags, and post {shown(own.id)} has {len(own.words)} words")
    return [renamed_type(tag) for tag in post.tags]
