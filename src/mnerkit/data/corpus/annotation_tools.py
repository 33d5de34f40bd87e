"""Records as annotation tools wrap them, unwrapped: a text with spans of characters, or words with tags.

- **Label Studio**: `{"data": {"text": ...}, "annotations": [{"result": [...]}], "predictions": [...]}`; predictions are
  not read, tasks without an annotation are passed over
- **spaCy**: `[text, {"entities": ...}]`, `{"classes": ..., "annotations": [...]}`, and the training format of its
  version 2, `{"paragraphs": [{"sentences": [{"tokens": [{"orth", "ner"}]}]}]}`, of which a paragraph is a post
- **Prodigy**: `{"text", "spans", "answer"}`; examples that were not accepted are passed over
- **CLUENER**: `{"text", "label": {type: {name: [[first, last]]}}}`
- **GLiNER**: `{"tokenized_text", "ner": [[first word, last word, type]]}`
- `{"data": [...]}` around any of these
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.tags import insert_disjoint, tags_of
from mnerkit.errors import DataError, shown

_MOST_DEPTH = 3  # wrappings in wrappings


def unwrapped(record: Any, where: str, notes: RecordNotes, depth: int = 0) -> Iterator[Any]:
    """The records in a record of a tool; any other record as it is.

    Args:
        record: what was read.
        where: file and line, for messages.
        notes: takes what was passed over.
        depth: how many wrappings were taken off.

    Raises:
        DataError: the record is a tool's, and malformed.
    """
    if isinstance(record, list | tuple) and len(record) == 2:
        text, rest = record
        yield {"text": text, **rest} if isinstance(text, str) and isinstance(rest, dict) else record
    elif not isinstance(record, dict):
        yield record
    elif depth < _MOST_DEPTH and (inner := _list_within(record)) is not None:
        for each in inner:
            if each is not None:  # a text that nobody has looked at
                yield from unwrapped(each, where, notes, depth + 1)
    elif isinstance(record.get("paragraphs"), list):
        for each in record["paragraphs"]:
            yield _paragraph(each, where)
    elif isinstance(record.get("data"), dict) and isinstance(record.get("annotations"), list):
        yield from _task(record, where, notes)
    elif isinstance(record.get("text"), str) and record.get("answer") in ("reject", "ignore"):
        notes.take("examples that were not accepted are passed over", examples=1)
    elif isinstance(record.get("text"), str) and isinstance(record.get("label"), dict):
        yield {**record, "label": list(_named_spans(record["label"], where))}
    elif isinstance(record.get("tokenized_text"), list) and isinstance(record.get("ner"), list):
        yield _words_and_spans(record, where)
    else:
        yield record


def _list_within(record: Mapping[str, Any]) -> list[Any] | None:
    """The records of an object that holds nothing else."""
    for key, others in (("annotations", {"classes"}), ("data", {"version"})):
        if isinstance(record.get(key), list) and record.keys() - {key} <= others:
            return list(record[key])
    return None


def _task(task: Mapping[str, Any], where: str, notes: RecordNotes) -> Iterator[dict[str, Any]]:
    """A task of Label Studio as a text with entities."""
    done = [each for each in task["annotations"] if not (isinstance(each, dict) and each.get("was_cancelled"))]
    if not done:
        notes.take("tasks without an annotation are passed over", tasks=1)
        return
    if len(done) > 1:
        raise DataError(f"{where}: {len(done)} annotations of one text.\nExport one for each task, from Label Studio.")
    results = done[0].get("result") if isinstance(done[0], dict) else None
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise DataError(f"{where}: the annotation of Label Studio has no list 'result'.")
    spans = [_label(each) for each in results if each.get("type", "labels") in ("labels", "hypertextlabels")]
    data = dict(task["data"])
    key = "text" if "text" in data else _key_of_text(data, spans)
    if key is None:
        keys = ", ".join(shown(name, 40) for name in list(data)[:8]) or "none"
        raise DataError(f"{where}: 'data' of Label Studio has no text; its keys are {keys}.")
    post = {"id": task["id"]} if "id" in task else {}
    post |= {"text": data.pop(key), "entities": spans}
    if isinstance(data.get("image"), str) and "images" not in data:
        post["images"] = [PurePosixPath(data.pop("image")).name]
        notes.take("pictures of Label Studio are called after the last part of their addresses", pictures=1)
    yield {**data, **post}


def _label(result: Mapping[str, Any]) -> Any:
    """The span of a result; of hypertext the bounds in the text alone."""
    value = result.get("value")
    if result.get("type") == "hypertextlabels" and isinstance(value, dict):
        bounds = value.get("globalOffsets")
        return {**(bounds if isinstance(bounds, dict) else {}), "labels": value.get("hypertextlabels")}
    return value


def _key_of_text(data: Mapping[str, Any], spans: Sequence[Any]) -> str | None:
    """The key of the text that the spans are of, whatever it is called."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    dicts = [each for each in spans if isinstance(each, dict)]
    cited = [each for each in dicts if isinstance(each.get("text"), str) and type(each.get("start")) is int]
    for key, text in texts.items():
        if cited and all(text.startswith(each["text"], each["start"]) for each in cited):
            return key
    return next(iter(texts)) if len(texts) == 1 else None


def _paragraph(paragraph: Any, where: str) -> dict[str, Any]:
    """A paragraph of spaCy's training format as words and tags."""
    try:
        tokens = [token for sentence in paragraph["sentences"] for token in sentence["tokens"]]
        words, tags = [token["orth"] for token in tokens], [token.get("ner", "O") for token in tokens]
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{where}: a paragraph of spaCy needs 'sentences' with 'tokens', each with 'orth'.") from None
    return {"words": words, "tags": ["O" if tag in ("-", "", None) else tag for tag in tags]}


def _named_spans(label: Mapping[str, Any], where: str) -> Iterator[list[Any]]:
    """Spans of CLUENER, whose last character is counted in."""
    for kind, names in label.items():
        for name, pairs in names.items() if isinstance(names, dict) else [(kind, None)]:
            for pair in pairs if isinstance(pairs, list) else [None]:
                if not isinstance(pair, list) or len(pair) != 2 or not all(type(bound) is int for bound in pair):
                    raise DataError(
                        f"{where}: {shown(name, 40)!r} under 'label' needs a list of [first, last] characters."
                    )
                yield [pair[0], pair[1] + 1, kind]


def _words_and_spans(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A record of GLiNER, whose last word is counted in."""
    words = record["tokenized_text"]
    entities: list[Entity] = []
    for each in record["ner"]:
        if not isinstance(each, list) or len(each) != 3 or not all(type(bound) is int for bound in each[:2]):
            raise DataError(f"{where}: {shown(each, 40)} under 'ner' is no [first word, last word, type].")
        span = Entity(each[0], each[1] + 1, "_".join(str(each[2]).split()))
        if not 0 <= span.start < span.end <= len(words) or not span.type:
            raise DataError(f"{where}: {shown(each, 40)} under 'ner' lies outside its {len(words)} words.")
        if not insert_disjoint(entities, span):
            raise DataError(f"{where}: {shown(each, 40)} under 'ner' overlaps another entity.")
    rest = {key: value for key, value in record.items() if key not in ("tokenized_text", "ner")}
    return {**rest, "words": words, "tags": tags_of(entities, len(words))}
