"""JSON and tags as the plain readers read them: with the standard library, in few lines, and strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TAG = re.compile(r"O|[BISEULM]-\S+")
TYPE = re.compile(r"[^\W\d_][^\s,;]{0,80}")  # a tag without a prefix
TAG_KEYS = ("label", "tags", "ner_tags", "labels", "ner")


def text_of(path: Path) -> str:
    text = path.read_bytes().decode("utf-8-sig")
    assert "\0" not in text
    return text


def lines_of(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.split("\n")]


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key twice"
    return dict(pairs)


def loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=once)


def rows_of(path: Path) -> Iterator[Any]:
    for line in lines_of(text_of(path)):
        if line.strip():
            yield loads(line)


def whole(number: Any) -> int:
    assert type(number) is int
    return number


def text(value: Any) -> str:
    assert isinstance(value, str)
    return value


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Entities of any of BIO, IOB1 and BIOES: a tag goes on with the entity before, if it has its type."""
    found: list[list[Any]] = []
    for place, tag in enumerate(tags):
        role, _, kind = tag.partition("-")
        if role == "O":
            continue
        if role in "BSU" or not found or found[-1][1:] != [place, kind]:
            found.append([place, place + 1, kind])
        else:
            found[-1][1] = place + 1
    return [(start, end, kind) for start, end, kind in found]


def of_types(tags: Sequence[str]) -> bool:
    """Whether tags are types alone, and perhaps O."""
    types = {*tags} - {"O"}
    return bool(types) and all(TYPE.fullmatch(tag) and not TAG.fullmatch(tag) for tag in types)


def with_prefixes(tags: Sequence[str]) -> list[str]:
    """BIO tags of types alone."""
    return [
        tag if tag == "O" else f"{'I' if place and tags[place - 1] == tag else 'B'}-{tag}"
        for place, tag in enumerate(tags)
    ]


def plain_float(written: str) -> float:
    assert set(written.strip()) <= set("0123456789+-.eE")
    return float(written)
