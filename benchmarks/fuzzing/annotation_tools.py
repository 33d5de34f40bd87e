"""Records of annotation tools, and tables of posts to tag."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.plain_json import TAG, TAG_KEYS, lines_of, loads, of_types, spans, text, text_of, whole, with_prefixes
from fuzzing.posts import drawn_post, plain_record, plain_value, spelled, words_of
from fuzzing.reader import Reader
from mnerkit.data.batches.input_reader import BadLine, Form
from mnerkit.data.batches.inputs import input_reader
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.tags import entities
from mnerkit.data.corpus.tweet_tokenizer import split_text

SPAN_KEYS = ("entities", "ents", "label", "labels", "spans", "annotations")
STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
KINDS = ("label", "labels", "type", "entity_group", "entity_type")


def record(draw: Random) -> Any:
    """A post in the form of some tool."""
    id_, words, tags = drawn_post(draw)
    words = [word if word.strip() else "a" for word in words]  # a span of blanks alone covers no word
    content, found = " ".join(words), []
    for start, end, kind in spans(tags):
        first = sum(len(word) + 1 for word in words[:start])
        found.append((first, first + len(" ".join(words[start:end])), kind))
    rows = [[*each] for each in found]
    objects = [{"start": start, "end": end, "label": kind} for start, end, kind in found]
    results = [
        {"type": "labels", "value": {"start": start, "end": end, "text": content[start:end], "labels": [kind]}}
        for start, end, kind in found
    ]
    named: dict[str, Any] = {}
    for start, end, kind in found:
        named.setdefault(kind, {}).setdefault(content[start:end], []).append([start, end - 1])
    sentence = {"tokens": [{"orth": word, "ner": tag} for word, tag in zip(words, tags, strict=True)]}
    forms: list[Callable[[], Any]] = [
        lambda: {"id": id_, "text": content, draw.choice(("label", "labels", "entities")): rows},
        lambda: [content, {"entities": rows}],
        lambda: {"text": content, draw.choice(("ents", "spans")): objects, "answer": draw.choice(("accept", "reject"))},
        lambda: {"text": content, "entities": [{"start_offset": a, "end_offset": b, "type": c} for a, b, c in found]},
        lambda: {"id": 7, "data": {"text": content}, "annotations": [{"result": results}], "predictions": []},
        lambda: {"text": content, "label": named},
        lambda: {"tokenized_text": words, "ner": [[start, end - 1, kind] for start, end, kind in spans(tags)]},
        lambda: {"id": 0, "paragraphs": [{"sentences": [sentence, sentence]}, {"sentences": [sentence]}]},
        lambda: {"classes": ["PER"], "annotations": [[content, {"entities": rows}], None]},
        lambda: {"tokens": words, "ner_tags": [tag.replace("-", "_") for tag in tags]},
    ]
    return draw.choice(forms)()


def records(draw: Random) -> bytes:
    rows = [{"text": "Ann", "label": [[0, 3, "PER"]]}, *(record(draw) for _ in range(draw.randint(1, 5)))]
    draw.shuffle(rows)
    if draw.random() < 0.3:
        return json.dumps(rows).encode()
    return "".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n" for row in rows).encode()


def read_records(path: Path) -> Any:
    posts = read_posts(path, None, ImageFolders([path.parent]), RecordNotes())
    return [(list(post.words), [(s.start, s.end, s.type) for s in entities(post.tags or ())]) for post in posts]


def plain_records(path: Path) -> Any:
    content = text_of(path)
    first = next(line for line in lines_of(content) if line.strip(" \t")).strip()
    if (first[:1] == "{" and first[-1] in "{[,") or (first.startswith("[") and not is_pair(first)):
        given = loads(content)
        rows = given if isinstance(given, list) else [given]
    else:
        rows = [plain_value(line) for line in lines_of(content) if line.strip(" \t")]
    found = [post for row in rows for each in unwrapped(row) for post in [plain_post(each)]]
    assert found
    return found


def is_pair(line: str) -> bool:
    try:
        value = loads(line)
    except ValueError:
        return False
    return len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)


def unwrapped(row: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if isinstance(row, list | tuple):
        assert len(row) == 2
        yield {"text": text(row[0]), **row[1]}
        return
    assert isinstance(row, dict)
    lists = [key for key, rest in (("annotations", {"classes"}), ("data", {"version"})) if {*row} - {key} <= rest]
    lists = [key for key in lists if isinstance(row.get(key), list)]
    data, done, content = row.get("data"), row.get("annotations"), row.get("text")
    if lists and depth < 3:
        for each in row[lists[0]]:
            yield from unwrapped(each, depth + 1) if each is not None else ()
    elif isinstance(row.get("paragraphs"), list):
        for paragraph in row["paragraphs"]:
            tokens = [token for sentence in paragraph["sentences"] for token in sentence["tokens"]]
            tags = [token.get("ner", "O") for token in tokens]
            yield {
                "words": [token["orth"] for token in tokens],
                "tags": ["O" if t in ("-", "", None) else t for t in tags],
            }
    elif isinstance(data, dict) and isinstance(done, list):
        done = [each for each in done if not (isinstance(each, dict) and each.get("was_cancelled"))]
        assert len(done) < 2
        for each in done:
            values = [
                r.get("value") for r in each["result"] if r.get("type", "labels") in ("labels", "hypertextlabels")
            ]
            assert all(r.get("type") != "hypertextlabels" for r in each["result"])
            texts = [key for key, value in data.items() if isinstance(value, str)]
            key = "text" if "text" in data else texts[0]
            assert key == "text" or len(texts) == 1
            yield {**{k: v for k, v in data.items() if k != key}, "text": data[key], "entities": values}
    elif isinstance(content, str) and row.get("answer") in ("reject", "ignore"):
        return
    elif isinstance(content, str) and isinstance(row.get("label"), dict):
        pairs = [(kind, pair) for kind, names in row["label"].items() for each in names.values() for pair in each]
        yield {**row, "label": [[whole(first), whole(last) + 1, kind] for kind, (first, last) in pairs]}
    elif isinstance(row.get("tokenized_text"), list) and isinstance(row.get("ner"), list):
        words, tags = row["tokenized_text"], ["O"] * len(row["tokenized_text"])
        for first, last, kind in row["ner"]:
            kind = "_".join(str(kind).split())
            assert kind and 0 <= whole(first) <= whole(last) < len(words)
            assert tags[first : last + 1] == ["O"] * (last + 1 - first)
            tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
        yield {**{k: v for k, v in row.items() if k not in ("tokenized_text", "ner")}, "words": words, "tags": tags}
    else:
        yield row


def plain_post(row: dict[str, Any]) -> Any:
    content = row.get("text")
    key = next(
        (k for k in SPAN_KEYS if isinstance(row.get(k), list) and not any(isinstance(s, str) for s in row[k])), None
    )
    if not isinstance(content, str) or key is None or {"words", "tokens"} & {*row}:
        row = {name: row[name] for name in row if name not in SPAN_KEYS or name in TAG_KEYS}
        tags = next((row[name] for name in TAG_KEYS if row.get(name) is not None), None)
        assert isinstance(tags, list)
        tags = [spelled(text(tag)) for tag in tags]
        tags = with_prefixes(tags) if of_types(tags) else tags
        assert all(map(TAG.fullmatch, tags))
        as_bio = {k: [bio(tag) for tag in tags] if k in TAG_KEYS and v else v for k, v in row.items()}
        _, words, _, _ = plain_record(as_bio, "x")
        return list(words), spans(tags)
    words, offsets = split_text(content, characters=True)
    given = []
    for each in row[key]:
        if isinstance(each, dict):
            each = [next((each[name] for name in names if name in each), None) for names in (STARTS, ENDS, KINDS)]
        start, end, kind, *_ = each
        kind = kind[0] if isinstance(kind, list) and len(kind) == 1 else kind
        kind = "_".join(text(kind).split())
        assert kind and 0 <= whole(start) < whole(end) <= len(content)
        inside = [place for place, (a, b) in enumerate(offsets) if a < end and b > start]
        assert inside
        given.append((start - end, start, inside[0], inside[-1] + 1, kind))
    taken: list[tuple[int, int, str]] = []
    for _, _, first, last, kind in sorted(given, key=lambda each: each[:2]):
        if all(last <= a or b <= first for a, b, _ in taken):
            taken.append((first, last, kind))
    return list(words), sorted(taken)


def bio(tag: str) -> str:
    return {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}.get(tag[0], tag[0]) + tag[1:]


# ------------------------------------------------------------------ tables of posts to tag


def table(separator: str) -> Callable[[Random], bytes]:
    def made(draw: Random) -> bytes:
        content = io.StringIO()
        head = draw.choice((["text"], ["id", "text"], ["id", "words", "images"], ["Text", "image", "caption"]))
        rows = csv.writer(content, delimiter=separator, lineterminator=draw.choice(("\n", "\r\n")))
        rows.writerow(head)
        for _ in range(draw.randint(1, 6)):
            id_, words, _ = drawn_post(draw)
            cells = {"id": id_, "images": "a.jpg;b.jpg", "image": "a.jpg", "caption": "a, cat"}
            rows.writerow([cells.get(name, " ".join(words)) for name in head])
        return content.getvalue().encode()

    return made


def read_table(form: Form) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        with path.open("rb") as stream:
            reader = input_reader(stream, str(path), ImageFolders([path.parent]), notes=RecordNotes(), form=form)
            items = [item for block in reader.blocks(100) for item in block]
        return [None if isinstance(item, BadLine) else words_of(item.words) for item in items]

    return read


def plain_table(separator: str) -> Callable[[Path], Any]:
    """The rows' words, of a table of which every row is well; else all letters of the file."""

    def read(path: Path) -> list[str] | str:
        raw = path.read_bytes()
        limit = csv.field_size_limit(1 << 30)
        try:
            assert raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"{", b"[")  # the content tells another form
            assert b"\r" not in raw.replace(b"\r\n", b"")  # which ends a row here alone
            content = io.StringIO(raw.decode("utf-8-sig"), newline="")
            head, *rows = [
                row for row in csv.reader(content, delimiter=separator, strict=True) if any(map(str.strip, row))
            ]
            names = [name.strip().lower() for name in head]
            column = next(names.index(name) for name in ("text", "words", "tokens") if name in names)
            assert all(len(row) == len(head) for row in rows)
            return [words_of([row[column]]) for row in rows]
        except (csv.Error, AssertionError, ValueError, StopIteration):
            return letters(raw.decode("utf-8", "replace"))
        finally:
            csv.field_size_limit(limit)

    return read


def letters(content: str) -> str:
    return words_of([content.replace('"', "").replace("\ufeff", "")])


def same_rows(read: list[str | None], plain: list[str] | str) -> bool:
    """Each row has its place, and what is read of it is what stands there; of a damaged table, in its order."""
    if isinstance(plain, list):
        return len(read) == len(plain) and all(one in (None, other) for one, other in zip(read, plain, strict=True))
    place = 0
    for words in map(letters, filter(None, read)):
        place = plain.find(words, place) + len(words)
        if place < len(words):
            return False
    return True


READERS = (
    Reader("annotation tools", "train.jsonl", "json lines", records, read_records, plain_records),
    Reader("table to tag", "in.csv", "lines", table(","), read_table("csv"), plain_table(","), agree=same_rows),
    Reader("tabs to tag", "in.tsv", "lines", table("\t"), read_table("tsv"), plain_table("\t"), agree=same_rows),
)
