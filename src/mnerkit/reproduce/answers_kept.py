"""Predictions of a run without words and gold entities, which the corpus has: small, and nobody's data is published.

The questions (posts, episodes), which many runs have in common, are one packed text; the answers of a run are another.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import entities

Row = dict[str, Any]
# of a line of `predictions.<split>.jsonl`, beside the post's id, where it is there
RULES = ("episode", "types", "support", "ignored")


def pack(content: Any) -> str:
    """Plain data as a short line of text."""
    return base64.b85encode(zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)).decode()


def unpack(text: str) -> Any:
    """What was packed.

    Raises:
        ValueError: nothing was.
    """
    try:
        return json.loads(zlib.decompress(base64.b85decode(text)))
    except zlib.error as error:
        raise ValueError(str(error)) from None


def name_of(questions: str) -> str:
    """Sixteen hex digits that name packed questions."""
    return hashlib.sha256(questions.encode()).hexdigest()[:16]


def parted(lines: Iterable[Row]) -> tuple[str, str]:
    """The questions and the answers of a run's predictions, both packed."""
    questions, answers = [], []
    for line in lines:
        rules = {name: line[name] for name in RULES if name in line}
        questions.append([line["id"], rules] if rules else [line["id"]])
        answers.append([[entity["type"], entity["start"], entity["end"]] for entity in line["entities"]])
    return pack(questions), pack(answers)


def joined(questions: str, answers: str, posts: Mapping[str, Post]) -> list[Row]:
    """The lines that were parted; gold entities are those of the types in play.

    Args:
        questions: packed posts and episodes.
        answers: packed entities.
        posts: id -> post.

    Raises:
        ValueError: the two are damaged, or do not belong together.
        KeyError: a post is not known.
    """
    lines = []
    for (name, *more), answer in zip(unpack(questions), unpack(answers), strict=True):
        rules, post = more[0] if more else {}, posts[name]
        spans = [Entity(start, end, kind) for kind, start, end in answer]
        gold = [span for span in entities(post.tags or ()) if span.type in rules.get("types", (span.type,))]
        line = {"id": name, "words": list(post.words), "entities": list(post.records(spans))}
        line["gold"] = [[span.start, span.end, span.type] for span in gold]
        lines.append(line | {rule: rules[rule] for rule in RULES if rule in rules})
    return lines
