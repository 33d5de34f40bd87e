"""Whether two posts are one and the same, also across corpora: a merged set holds the posts of another under new names.

A post is known by keys of 8 bytes. Posts that share a key are the same, whichever kind of key it is:

- `id`: its id within a corpus that has a name; names like `O_26` and `16_05_01_113` are Twitter-2017's in any corpus;
- `id and words`: the id and the exact words, since in several sets ids simply count;
- `words`: the letters and digits of its text in one case, so that it does not matter how it was cut into words; once
  with links and mentions, once without. A text shorter than `LONG` bytes counts only where it holds an entity, and one
  shorter than `SHORT` never: "good morning" is not one post;
- `picture`: the name of a picture within a corpus that has a name; elsewhere only a name that can't be a count;
- `picture file`: the content of a picture's file.

A picture that more than `MANY` posts of a split share is a stand-in or a stock picture, and no evidence. Generated
posts have the first two keys alone: their sentences repeat by design. Checkpoints of older releases hold only these.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.data.corpus.corpus_files import is_image_name, merged_mark
from mnerkit.data.corpus.post import Post
from mnerkit.errors import DataError

KINDS = ("id", "id and words", "words", "picture", "picture file")  # in the order in which a match is named
OF_ID = KINDS[:2]
LONG, SHORT = 20, 8  # bytes of letters and digits: some four words, and one
MANY = 3
_PICTURES = KINDS[3:]

_OF_TWITTER2017 = re.compile(r"O_\d+|1[67]_\d\d_(?:\d\d_)?\d+")
_NO_COUNT = re.compile(r"[1-9]\d{9}|(?=.*\d)(?=.*[a-f])[0-9a-f]{16}")  # the id of a tweet, a digest
_HTML = re.compile(r"&\s?(#?\w{1,31})\s?;")
_LINK = re.compile(r"https?\s?:\s?/\s?/\s?(?:t\s?\.\s?co\s?/\s?\w+|\S+)|<\s?(?:url|link)\s?>|\b(?:httpurl|url_link)\b")
_MENTION = re.compile(r"@\s?\w+|<\s?(?:user|mention)\s?>")
_SAMPLE = 1 << 14  # bytes of a larger file that are read: a third at its start, in the middle and at the end


def id_keys(post: Post, corpus: str) -> set[int]:
    """The keys of a post by its id."""
    return {key for keys in _id_keys(post, corpus).values() for key in keys}


def repeats_of(posts: Iterable[Post], corpus: str, trained: Mapping[str, str]) -> set[int]:
    """`id_keys` of dev or test posts that are like a training post of their own corpus, under another id.

    Args:
        posts: the posts.
        corpus: their corpus's name.
        trained: `trained_posts` of them.
    """
    return {key for post in posts if trained.get(post.id, "id") not in OF_ID for key in id_keys(post, corpus)}


def _id_keys(post: Post, corpus: str) -> dict[str, list[int]]:
    home, id_ = _home(post, corpus)
    keys = {"id and words": [_hash("words", id_, *post.words)]}
    if home in CORPORA:
        keys["id"] = [_hash("corpus", home, id_)]
    return keys


def post_keys(post: Post, corpus: str) -> dict[str, list[int]]:
    """Keys of a post of `corpus` by their kind: numbers from -2**63 to 2**63 - 1."""
    keys = _id_keys(post, corpus)
    if post.truth is None:
        keys["words"] = [_hash("text", text) for text in _texts(post)]
        keys["picture"] = [_hash("picture", *name) for image in post.images if (name := _picture(image.name, corpus))]
        keys["picture file"] = [
            _hash("file", digest) for image in post.images if image.path and (digest := file_digest(image.path))
        ]
    return keys


def keys_of(posts: Iterable[Post], corpus: str) -> list[int]:
    """Keys of all posts, in ascending order."""
    return sorted({key for kinds in evidence(posts, corpus).values() for keys in kinds.values() for key in keys})


def trained_posts(posts: Iterable[Post], corpus: str, trained_on: Iterable[int]) -> dict[str, str]:
    """Those among `posts` that were trained on: the kind of key that says so, by id.

    Args:
        posts: of one split of `corpus`.
        corpus: a name of `CORPORA`, or a folder's.
        trained_on: `keys_of` the training posts.
    """
    known = trained_on if isinstance(trained_on, frozenset) else frozenset(trained_on)
    return {
        id_: next(kind for kind in KINDS if not known.isdisjoint(kinds.get(kind, ())))
        for id_, kinds in (evidence(posts, corpus) if known else {}).items()
        if any(not known.isdisjoint(keys) for keys in kinds.values())
    }


def counts_by_kind(trained: Mapping[str, str]) -> dict[str, int]:
    """How many of `trained_posts` are known by each kind of key."""
    counts = Counter(trained.values())
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def described(counts: Mapping[str, int]) -> str:
    """Counts by kind as text: `2 by words, 1 by picture file`."""
    return ", ".join(f"{count} by {kind}" for kind, count in counts.items())


def check_unseen(
    posts: Iterable[Post],
    corpus: str,
    trained: Mapping[str, str],
    split: str = "test",
    repeats: Collection[int] = (),
) -> None:
    """Refuse to score posts that a checkpoint was trained with.

    Args:
        posts: posts of `corpus`.
        corpus: a name of `CORPORA`, or a folder's.
        trained: `trained_posts` of them.
        split: of the posts.
        repeats: `repeats_of` the corpus that was trained on; these posts are no reason.

    Raises:
        DataError: with the number of such posts, by which keys they are known, and the first.
    """
    known = {post.id for post in posts if post.id in trained and not id_keys(post, corpus).isdisjoint(repeats)}
    common = {id_: kind for id_, kind in trained.items() if id_ not in known}
    if common:
        raise DataError(
            f"the checkpoint was trained with {len(common)} of the {split} posts of {corpus}, the first is "
            f"{next(iter(common))!r} ({described(counts_by_kind(common))}).\nA {split} figure with them means nothing: "
            "leave them out with --data.drop_trained true, or train without them."
        )


def file_digest(path: Path) -> str:
    """A digest of a file's size and content, of a large one of samples; empty where it can't be read, or is empty."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            whole = hashlib.sha256(str(size).encode())
            starts: Sequence[int] = (0,) if size <= _SAMPLE else (0, size // 2, size - _SAMPLE // 3)
            for start in starts:
                stream.seek(start)
                whole.update(stream.read(_SAMPLE if len(starts) == 1 else _SAMPLE // 3))
    except OSError:
        return ""
    return whole.hexdigest() if size else ""


def plain_text(words: Iterable[str]) -> str:
    """The letters and digits of a text in one case, without links and mentions."""
    return _letters(_MENTION.sub(" ", _LINK.sub(" ", _unescaped(words))))


def plain_words(words: Iterable[str]) -> frozenset[str]:
    """The words of a text in one case, without links, mentions and punctuation."""
    text = _MENTION.sub(" ", _LINK.sub(" ", _unescaped(words)))
    return frozenset("".join(letter if letter.isalnum() else " " for letter in text).split())


def _texts(post: Post) -> set[str]:
    """The texts by which a post is known."""
    least = SHORT if any(tag != "O" for tag in post.tags or ()) else LONG
    texts = {_letters(_unescaped(post.words)), plain_text(post.words)}
    return {text for text in texts if len(text.encode("utf-8", "surrogatepass")) >= least}


def _unescaped(words: Iterable[str]) -> str:
    text = html.unescape(_HTML.sub(r"&\1;", " ".join(words)))
    return unicodedata.normalize("NFKC", text).casefold()


def _letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def evidence(posts: Iterable[Post], corpus: str) -> dict[str, dict[str, list[int]]]:
    """Keys by id and kind, without those of pictures that many posts share."""
    keys = {post.id: post_keys(post, corpus) for post in posts}
    holders: dict[int, int] = defaultdict(int)
    for kinds in keys.values():
        for key in {key for kind in _PICTURES for key in kinds.get(kind, ())}:
            holders[key] += 1
    for kinds in keys.values():
        for kind in _PICTURES:
            if kind in kinds:
                kinds[kind] = [key for key in kinds[kind] if holders[key] <= MANY]
    return keys


def _picture(name: str, corpus: str) -> tuple[str, str] | None:
    """The corpus that a picture comes from, and its name there; None where the name is no evidence."""
    mark = merged_mark(name)
    stem = _stem(PurePosixPath(name[len(mark) :]).name)
    home = _corpus_of(stem, mark.rstrip("-") or corpus)
    if home in CORPORA:
        return home, stem
    return ("", stem) if _NO_COUNT.search(stem.lower()) else None


def _home(post: Post, corpus: str) -> tuple[str, str]:
    """The corpus that a post comes from, and its id there."""
    names = [post.id, *(image.name for image in post.images if len(post.images) == 1)]
    for name in names:
        if mark := merged_mark(name):
            return mark.rstrip("-"), _stem(name[len(mark) :])
    return _corpus_of(_stem(post.id), corpus), _stem(post.id)


def _corpus_of(stem: str, corpus: str) -> str:
    """The corpus that names something so: Twitter-2017's names are like no other's."""
    if _OF_TWITTER2017.fullmatch(stem):
        return "twitter2017"
    return {"mner-mi-plus": "mner-mi"}.get(corpus, corpus)


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if is_image_name(name) else name


def _hash(*parts: str) -> int:
    text = "\n".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)
