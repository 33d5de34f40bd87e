"""One record of a post: the keys that corpora and `mnerkit predict` read, and near misses of them, which are refused.

Both read records by `post_of`, so that a key has one meaning wherever a record stands.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mnerkit.data.corpus.corpus_files import ImageFolders, safe_name
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.errors import DataError, shown

KEYS = ("id", "words", "text", "label", "tags", "images", "captions", "boxes", "unit", "relevance")
# keys of other tools' records that are read as one of ours
OTHER_NAMES = {"tokens": "words", "ner_tags": "tags"}
# the same, where they hold lists and nothing else stands for them
LISTS = {
    **dict.fromkeys(("labels", "ner", "ner_labels", "ner_tag", "ner_label", "bio_tags", "entity_tags"), "tags"),
    "sentence": "words",
}
# names that others give to what a key holds; with one of them the key's own content would be lost without a word
NEAR_MISSES = {
    "id": "ids post_id tweet_id imgid",
    "words": "word token tokenized tokenised",
    "text": "texts full_text raw_text tweet tweet_text sentence sentences content body",
    "tags": "tag label_list labels ner ner_tag ner_label ner_labels bio bio_tags entity_tags",
    "images": "image img imgs image_id image_ids img_id img_ids image_name image_names image_path image_paths "
    "image_file image_files images_path picture pictures pic pics photo photos file_name filename",
    "captions": "caption image_caption image_captions img_caption img_captions",
    "boxes": "box bbox bboxes bounding_box bounding_boxes objects regions",
    "relevance": "relevances relevance_score relevance_scores image_relevance",
}
_NEAR = {name: key for key, names in NEAR_MISSES.items() for name in names.split()}
NEAR = 0.8  # difflib's ratio from which a key counts as a misspelt one
MOST_SHOWN = 12  # keys in a message
MOST_KEYS = 1000  # of a record; each unknown one is compared with ours
UNSPLIT = 8  # letters of scripts without blanks that stand together in a word: a phrase, and no word

_NO_BLANKS = re.compile(
    # Thai to Burmese, kana, Chinese characters
    f"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{{{UNSPLIT},}}"
)


@dataclass
class RecordNotes:
    """What was noticed in records and is no fault.

    Attributes:
        unread: keys that are not read, with how many records have them.
        renamed: keys that are read as another.
        taken: what the form of other tools' files was taken for, with counts of what it happened to.
        unsplit: texts with phrases that have no blanks between their words.
    """

    unread: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)
    unsplit: int = 0
    taken: dict[str, Counter[str]] = field(default_factory=dict)

    def take(self, what: str, **counts: int) -> None:
        """Note what was taken for what, and count what it happened to."""
        self.taken.setdefault(what, Counter()).update(counts)

    def remarks(self) -> list[str]:
        """Lines for the user; empty where nothing was noticed."""
        lines = ["; ".join(_counted(what, counts) for what, counts in self.taken.items())] if self.taken else []
        if self.renamed:
            taken = ", ".join(f"{key!r} as {(OTHER_NAMES | LISTS)[key]!r}" for key in sorted(self.renamed))
            lines.append(f"keys of records were read under other names: {taken}")
        if self.unread:
            keys = ", ".join(f"{key!r} ({count} records)" for key, count in self.unread.most_common(MOST_SHOWN))
            more = f" and {len(self.unread) - MOST_SHOWN} more" if len(self.unread) > MOST_SHOWN else ""
            lines.append(f"keys of records that are not read: {keys}{more}")
        if self.unsplit:
            lines.append(
                f"{self.unsplit} texts have phrases without blanks (Chinese, Japanese, Thai ...), each read as one "
                "word; give 'words', cut as those of the training corpus"
            )
        return lines


def _counted(what: str, counts: Counter[str]) -> str:
    found = ", ".join(f"{counts[part]} {part}" for part in sorted(counts))
    return f"{what} ({found})" if found else what


def post_of(
    record: Any,
    where: str,
    default_id: str,
    folders: ImageFolders | None = None,
    notes: RecordNotes | None = None,
    characters: bool = False,
) -> Post:
    """The post of one record, with what it says of its pictures.

    Args:
        record: `id`; `words`, or `text` as a list of words or one string; and optionally `label` or `tags`; `images`, a
            name or a list of names; `captions`, one a picture; `boxes`, for each picture a list of objects, or an
            object with `objects`, `unit` and `size` as a line of a box file has them, or None; `unit` of these boxes,
            pixels where there is none; `relevance`, for each picture a score from 0 to 1.
        where: file and line, for messages.
        default_id: the id where the record has none.
        folders: where its pictures are looked up; not at all where None.
        notes: counts keys that are not read.
        characters: whether each Chinese character or kana of a text is a word.

    Raises:
        DataError: a value is not what it should be, a key is nearly one of these, or a box lies outside its picture.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object with id, text and images, found {type(record).__name__}.")
    whole = record
    record = _with_our_keys(record, where, RecordNotes() if notes is None else notes)
    given = [key for key in ("words", "text") if key in record]
    if len(given) != 1:
        found = "both" if given else f"neither.\n{keys_of(whole)}"
        raise DataError(f"{where}: expected one of 'words' (a list) and 'text', found {found}.")
    content, text, offsets = record[given[0]], None, None
    if isinstance(content, str) and given == ["text"]:
        text = clean(content, where)
        words, offsets = split_text(text, characters)
        if notes is not None:
            notes.unsplit += any(map(_NO_BLANKS.search, words))
    elif given == ["text"] and not isinstance(content, list | tuple):
        raise DataError(f"{where}: 'text' must be a string or a list of strings, found {type(content).__name__}.")
    else:
        words = _strings(content, given[0], where)
    label = next((record[key] for key in ("label", "tags") if record.get(key) is not None), None)
    tags = None if label is None else _strings(label, "label", where)
    if tags is not None and len(tags) != len(words):
        raise DataError(f"{where}: {len(words)} words but {len(tags)} tags.")
    names = record.get("images") or []
    names = _strings([names] if isinstance(names, str) else names, "images", where)
    for name in names:
        safe_name(name, where)
    id_ = record.get("id")
    if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, str | int)):
        raise DataError(f"{where}: the id must be a string or a whole number, found {type(id_).__name__}.")
    captions = _strings(record.get("captions") or [], "captions", where)
    if captions and len(captions) != len(names):
        raise DataError(f"{where}: {len(names)} images but {len(captions)} captions; give one for each, in order.")
    images: Sequence[ImageRef] = [
        ImageRef(name, folders.find(name) if folders else None, caption=caption)
        for name, caption in zip(names, captions or [None] * len(names), strict=True)
    ]
    if record.get("boxes") is not None or record.get("relevance") is not None:
        from mnerkit.data.pictures.record_annotations import annotated  # here: it imports what reads records

        images = annotated(images, record, where)
    identity = default_id if id_ is None or id_ == "" else clean(str(id_), where)
    if identity.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", identity):
        raise DataError(f"{where}: the id {identity[:80]!r} is a path.\nIt must be a name: not absolute, without '..'.")
    return Post(identity, words, tags, tuple(images), text, offsets, numbered=isinstance(id_, int))


def _with_our_keys(record: dict[Any, Any], where: str, notes: RecordNotes) -> dict[Any, Any]:
    """The record under the keys that are read here; others are noted.

    Raises:
        DataError: a key that nearly is one of ours.
    """
    if record.keys() <= _KEYS:
        return record
    if len(record) > MOST_KEYS:
        raise DataError(f"{where}: {len(record)} keys; the limit is {MOST_KEYS}.\n{keys_of(record)}")
    ours = {key: value for key, value in record.items() if key in _KEYS}
    others = {key: value for key, value in record.items() if key not in _KEYS}
    for name, key in (OTHER_NAMES | LISTS).items():
        if name in others and not _same(key) & ours.keys() and (name in OTHER_NAMES or _is_flat_list(others[name])):
            ours[key] = others.pop(name)
            notes.renamed[name] += 1
    for name in others:
        meant = _meant(str(name))
        # a tweet may well have an id and a text under several names
        if meant is None or (meant in ("id", "text", "words") and _same(meant) & ours.keys()):
            notes.unread[str(name)[:40]] += 1
        else:
            near = f"the key {str(name)[:40]!r} is not read. Did you mean {meant!r}?"
            raise DataError(f"{where}: {near}\n{keys_of(record)}.")
    return ours


def tags_key(record: Any) -> str | None:
    """The key of a record that holds its tags, under whatever name that is read."""
    if not isinstance(record, dict):
        return None
    names = [name for name, key in (OTHER_NAMES | LISTS).items() if key == "tags"]
    return next((key for key in ("label", "tags", *names) if _is_flat_list(record.get(key))), None)


def _is_flat_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value)


def _same(key: str) -> set[str]:
    """The keys of which a record has one."""
    return next(({*keys} for keys in (("words", "text"), ("label", "tags")) if key in keys), {key})


def _meant(name: str) -> str | None:
    """The key that a name is a near miss of."""
    plain = re.sub(r"[\s\-]+", "_", name.strip().lower())
    if plain in _KEYS:
        return plain
    if plain in _NEAR:
        return _NEAR[plain]
    near = difflib.get_close_matches(plain[:40], KEYS, n=1, cutoff=NEAR)
    return near[0] if near else None


def keys_of(record: dict[Any, Any]) -> str:
    """What a message says of the keys of a record."""
    shown = ", ".join(ascii(str(key)[:40])[1:-1] for key in list(record)[:MOST_SHOWN])
    more = " ..." if len(record) > MOST_SHOWN else ""
    return f"Its keys are {shown or 'none'}{more}; accepted are {', '.join(KEYS)}"


def _strings(value: Any, key: str, where: str) -> tuple[str, ...]:
    try:
        whole = "".join(value) if isinstance(value, list | tuple) else None
    except TypeError:
        whole = None
    if whole is None:
        found = next((each for each in value if not isinstance(each, str)), "") if isinstance(value, list) else value
        what = f"a list with {type(found).__name__}" if isinstance(value, list) else type(found).__name__
        raise DataError(f"{where}: {key!r} must be a list of strings, found {what}: {shown(found, 40)}.")
    if not whole.isascii() or "\0" in whole:
        for each in value:
            clean(each, where)
    return tuple(value)


def clean(text: str, where: str) -> str:
    """The text, if a file can be written with it.

    Raises:
        DataError: half of a surrogate pair, or a NUL.
    """
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{where}: half of a surrogate pair in {ascii(text)[:60]}; no file can be written with it.")
    if "\0" in text:
        raise DataError(f"{where}: a NUL character in {ascii(text)[:60]}.")
    return text


_KEYS = frozenset(KEYS)
