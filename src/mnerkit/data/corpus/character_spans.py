"""Records whose entities are spans of characters, as annotation tools export them, as records of words and tags.

- **doccano**: `{"text": ..., "label": [[start, end, type], ...]}` (older: `labels`; with relations: `entities`)
- **spaCy**: `{"text": ..., "entities": [[start, end, type], ...]}`; `ents` of `Doc.to_json`
- **Prodigy**: `{"text": ..., "spans": [{"start", "end", "label"}]}`

A span may also be an object with `start`, `end` (or `start_offset`, `end_offset`) and `label` (`labels`, `type`). The
text is split into words as raw texts are, unless `tokens` with `start` and `end` stand beside it.
`mnerkit.data.corpus.annotation_tools` brings the records of other tools into this form.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.records import RecordNotes, clean
from mnerkit.data.corpus.tags import insert_disjoint, tags_of
from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.errors import DataError, shown

_KEYS = ("entities", "ents", "label", "labels", "spans", "annotations")
_STARTS, _ENDS, _TYPES = (
    ("start", "start_offset"),
    ("end", "end_offset"),
    ("label", "labels", "type", "entity_group", "entity_type"),
)

Span = tuple[int, int, str]


def in_words(record: Any, where: str, notes: RecordNotes) -> Any:
    """A record with `words` and `tags` in place of a text and spans of characters; any other record as it is.

    Spans that end within a word are widened to whole words. Of spans that overlap the longest stays, of equally long
    ones the first. Both are noted, with their number.

    Args:
        record: what was read.
        where: file and line, for messages.
        notes: takes what was done.

    Raises:
        DataError: a span that is malformed, lies outside the text or covers no word.
    """
    plain = record if isinstance(record, dict) else {}
    text, key = plain.get("text"), next((key for key in _KEYS if _are_spans(plain.get(key))), None)
    if not isinstance(text, str) or key is None or "words" in plain:
        return record
    given = plain.get("tokens")
    if given is not None and not _are_spans(given):
        return record
    clean(text, where)
    if given:
        offsets: Sequence[tuple[int, int]] = _given_offsets(given, text, where)
        words = tuple(text[start:end] for start, end in offsets)
    else:
        words, offsets = split_text(text, characters=True)  # a span may begin between any two
    spans = [_span(each, where, notes) for each in plain[key]]
    entities: list[Entity] = []
    for start, end, type_ in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        first, last = _words_of(start, end, offsets, text, where)
        widened = offsets[first][0] < start or offsets[last - 1][1] > end
        if not insert_disjoint(entities, Entity(first, last, type_)):
            notes.take("of spans that overlap the longest was read", **{"left out": 1})
        elif widened:
            notes.take("spans that end within a word were widened to whole words", spans=1)
    how = "their tokens" if given else "words"
    notes.take(f"texts with spans of characters in {key!r} were split into {how}")
    rest = {name: value for name, value in plain.items() if name not in ("text", "tokens", *_KEYS)}
    return {**rest, "words": list(words), "tags": tags_of(entities, len(words))}


def _given_offsets(tokens: Sequence[Any], text: str, where: str) -> list[tuple[int, int]]:
    """Bounds of the words that a record names, those of blanks left out.

    Raises:
        DataError: they are not in order within the text.
    """
    offsets: list[tuple[int, int]] = []
    position = 0
    for each in tokens:
        start, end = (each.get("start"), each.get("end")) if isinstance(each, dict) else (None, None)
        if type(start) is not int or type(end) is not int or not position <= start < end <= len(text):
            raise DataError(
                f"{where}: {shown(each, 60)} under 'tokens' is no word of the text.\nTokens have 'start' and 'end', in "
                "their order."
            )
        position = end
        if text[start:end].strip():
            offsets.append((start, end))
    return offsets


def _are_spans(value: Any) -> bool:
    """Whether a value may be a list of spans, and no list of tags."""
    return isinstance(value, list | tuple) and not any(isinstance(each, str) for each in value)


def _span(value: Any, where: str, notes: RecordNotes) -> Span:
    found: Sequence[Any] = ()
    if isinstance(value, dict):
        found = [next((value[name] for name in names if name in value), None) for names in (_STARTS, _ENDS, _TYPES)]
    elif isinstance(value, list | tuple) and len(value) >= 3:
        found = value[:3]
    if len(found) == 3 and isinstance(found[2], list) and len(found[2]) == 1:
        found = [*found[:2], found[2][0]]
    if len(found) != 3 or type(found[0]) is not int or type(found[1]) is not int or not isinstance(found[2], str):
        raise DataError(
            f"{where}: {shown(value, 60)} is no span.\nA span is [start, end, type], or an object of these."
        )
    type_ = "_".join(clean(found[2], where).split())
    if not type_:
        raise DataError(f"{where}: {shown(found[2], 40)!r} is no entity type.")
    if type_ != found[2]:
        notes.take("blanks in entity types were read as _", types=1)
    return found[0], found[1], type_


def _words_of(start: int, end: int, offsets: Sequence[tuple[int, int]], text: str, where: str) -> tuple[int, int]:
    """The first word of a span, and the one behind its last."""
    if not 0 <= start < end <= len(text):
        raise DataError(f"{where}: the span {start} to {end} lies outside its text of {len(text)} characters.")
    first = bisect_right(offsets, start, key=itemgetter(1))
    last = bisect_left(offsets, end, key=itemgetter(0))
    if first >= last:
        raise DataError(f"{where}: the span {start} to {end}, {shown(text[start:end], 40)!r}, covers no word.")
    return first, last
