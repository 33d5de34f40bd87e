"""Records whose entities are spans of characters, as annotation tools export them, as records of words and tags.

- **doccano**: `{"text": ..., "label": [[start, end, type], ...]}` (older versions: `labels`)
- **spaCy**: `{"text": ..., "entities": [[start, end, type], ...]}`, or `[text, {"entities": [...]}]`
- **Label Studio**: `{"data": {"text": ...}, "annotations": [{"result": [{"value": {"start", "end", "labels"}}]}]}`

A span may also be an object with `start`, `end` (or `start_offset`, `end_offset`) and `label` (`labels`, `type`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.records import RecordNotes, clean
from mnerkit.data.corpus.tags import tags_of
from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.errors import DataError, shown

_KEYS = ("entities", "label", "labels", "spans")
_STARTS, _ENDS, _TYPES = ("start", "start_offset"), ("end", "end_offset"), ("label", "labels", "type")

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
    plain = _without_wrapping(record, where)
    text, key = plain.get("text"), next((key for key in _KEYS if _are_spans(plain.get(key))), None)
    if not isinstance(text, str) or key is None or "words" in plain or "tokens" in plain:
        return record
    words, offsets = split_text(clean(text, where))
    spans = [_span(each, where) for each in plain[key]]
    entities: list[Entity] = []
    for start, end, type_ in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        first, last = _words_of(start, end, offsets, text, where)
        widened = offsets[first][0] < start or offsets[last - 1][1] > end
        if any(first < other.end and other.start < last for other in entities):
            notes.take("of spans that overlap the longest was read", **{"left out": 1})
            continue
        if widened:
            notes.take("spans that end within a word were widened to whole words", spans=1)
        entities.append(Entity(first, last, type_))
    notes.take(f"texts with spans of characters in {key!r} were split into words")
    rest = {name: value for name, value in plain.items() if name not in ("text", *_KEYS)}
    return {**rest, "words": list(words), "tags": tags_of(entities, len(words))}


def _without_wrapping(record: Any, where: str) -> Mapping[str, Any]:
    """The record with `text` and spans at its top, as doccano has them; empty where there is nothing of the kind."""
    if isinstance(record, list) and len(record) == 2 and isinstance(record[0], str) and isinstance(record[1], dict):
        return {"text": record[0], **record[1]}
    if not isinstance(record, dict):
        return {}
    data, annotations = record.get("data"), record.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return record
    if len(annotations) != 1:
        raise DataError(
            f"{where}: {len(annotations)} annotations of one text.\nExport one for each task, from Label Studio."
        )
    results = annotations[0].get("result") if isinstance(annotations[0], dict) else None
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise DataError(f"{where}: the annotation of Label Studio has no list 'result'.")
    values = [each.get("value") for each in results if each.get("type", "labels") == "labels"]
    rest = {key: record[key] for key in ("id",) if key in record}
    return {**rest, **data, "entities": values}


def _are_spans(value: Any) -> bool:
    """Whether a value may be a list of spans, and no list of tags."""
    return isinstance(value, list) and not any(isinstance(each, str) for each in value)


def _span(value: Any, where: str) -> Span:
    found: Sequence[Any] = ()
    if isinstance(value, dict):
        found = [next((value[name] for name in names if name in value), None) for names in (_STARTS, _ENDS, _TYPES)]
    elif isinstance(value, list) and len(value) >= 3:
        found = value[:3]
    if len(found) == 3 and isinstance(found[2], list) and len(found[2]) == 1:
        found = [*found[:2], found[2][0]]
    if len(found) != 3 or type(found[0]) is not int or type(found[1]) is not int or not isinstance(found[2], str):
        raise DataError(
            f"{where}: {shown(value, 60)} is no span.\nA span is [start, end, type], or an object of these."
        )
    if not found[2] or any(letter.isspace() for letter in found[2]):
        raise DataError(f"{where}: {shown(found[2], 40)!r} is no entity type: it must be one word.")
    return found[0], found[1], clean(found[2], where)


def _words_of(start: int, end: int, offsets: Sequence[tuple[int, int]], text: str, where: str) -> tuple[int, int]:
    """The first word of a span, and the one behind its last."""
    if not 0 <= start < end <= len(text):
        raise DataError(f"{where}: the span {start} to {end} lies outside its text of {len(text)} characters.")
    first = bisect_right([stop for _, stop in offsets], start)
    last = bisect_left([begin for begin, _ in offsets], end)
    if first >= last:
        raise DataError(f"{where}: the span {start} to {end}, {shown(text[start:end], 40)!r}, covers no word.")
    return first, last
