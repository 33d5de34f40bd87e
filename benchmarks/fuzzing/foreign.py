"""Predictions that other programs wrote, as `mnerkit score` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.plain_json import TAG, lines_of, loads, spans, text, text_of, whole
from fuzzing.posts import DOCSTART, drawn_posts
from fuzzing.reader import Reader
from mnerkit.data.corpus.corpus import LABELS
from mnerkit.scoring.foreign_predictions import read_predictions

OTHERS = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
TAGGED = ("entities", "predictions", "predicted", "tags", "label", "ner_tags")


def columns(draw: Random) -> bytes:
    named, gold = draw.random() < 0.5, draw.random() < 0.5
    separator = draw.choice("\t ")
    rows: list[str] = []
    for id_, words, tags in drawn_posts(draw):
        rows += [f"IMGID:{id_}"] if named else []
        for word, tag in zip(words, tags, strict=True):
            shown = word if separator == "\t" or len(word.split()) == 1 else "x"
            rows.append(separator.join([shown, *([tag] if gold else []), draw.choice((tag, "O"))]))
        rows.append("")
    return "\n".join(rows).encode()


def json_lines(draw: Random) -> bytes:
    named, rows = draw.random() < 0.7, []
    for place, (_, words, tags) in enumerate(drawn_posts(draw)):
        row: dict[str, Any] = {"id": f"p{place}"} if named else {}
        if draw.random() < 0.5 or not named:
            row[draw.choice(("words", "tokens"))] = words
        if draw.random() < 0.5:
            row["entities"] = [
                {"start": start, "end": end, "type": kind} if draw.random() < 0.5 else [start, end, kind]
                for start, end, kind in spans(tags)
            ]
        else:
            row[draw.choice(TAGGED[1:])] = tags
        rows.append(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n")
    return "".join(rows).encode()


def read_foreign(path: Path) -> Any:
    return [
        (post.id, post.words, post.tags, [(span.start, span.end, span.type) for span in post.spans])
        for post in read_predictions(path)
    ]


def bio(tag: str) -> str:
    assert TAG.fullmatch(tag)
    return OTHERS.get(tag[0], tag[0]) + tag[1:]


def plain_foreign(path: Path) -> Any:
    rows = lines_of(text_of(path))
    first = next(row for row in rows if row.strip(" \t"))
    found = plain_records(rows) if first.lstrip().startswith("{") else plain_columns(rows)
    assert found and len({each[0] is None for each in found}) == 1
    return found


def plain_records(rows: list[str]) -> Any:
    found = []
    for row in rows:
        if not row.strip():
            continue
        record = loads(row)
        assert isinstance(record, dict)
        id_ = record.get("id")
        assert id_ is None or isinstance(id_, str) or type(id_) is int
        key = next(key for key in TAGGED if record.get(key) is not None)
        words = next((record[key] for key in ("words", "tokens", "text") if isinstance(record.get(key), list)), None)
        words = None if words is None else tuple(map(text, words))
        assert isinstance(record[key], list)
        tags, entities = None, []
        if key == "entities":
            for each in record[key]:
                start, end, kind = (each[name] for name in ("start", "end", "type")) if isinstance(each, dict) else each
                assert isinstance(each, dict | list) and text(kind)
                entities.append((whole(start), whole(end), LABELS.get(kind, kind)))
        else:
            tags = tuple(bio(text(tag)) for tag in record[key])
        found.append((None if id_ is None else str(id_), words, tags, entities))
    return found


def plain_columns(rows: list[str]) -> Any:
    found: list[Any] = []
    own: list[list[str]] = []
    id_, named = None, False
    body = [row for row in rows if row.strip(" \t") and not DOCSTART.match(row)]
    body = [row for row in body if not row.startswith("IMGID:") or "\t" in row]
    tabs = "\t" in body[0]
    for row in [*rows, ""]:
        name = row.startswith("IMGID:") and "\t" not in row
        if name or not row.strip(" \t") or DOCSTART.match(row):
            if own:
                found.append((id_, tuple(cells[0] for cells in own), tuple(bio(cells[-1]) for cells in own), []))
                id_, own = None, []
            if name:
                id_, named = row[6:].strip(), True
            continue
        own.append(row.split("\t") if tabs else row.split())
        assert own[-1][0]
    widths = {len(row.split("\t") if tabs else row.split()) for row in body}
    assert len(widths) == 1 and min(widths) > 1
    assert not named or all(each[0] is not None for each in found)
    return found


READERS = (
    Reader("scored columns", "system.txt", "lines", columns, read_foreign, plain_foreign),
    Reader("scored JSON lines", "system.jsonl", "json lines", json_lines, read_foreign, plain_foreign),
)
