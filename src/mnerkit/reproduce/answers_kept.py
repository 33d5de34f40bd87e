"""Predictions of a run without words and gold entities, which the corpus has: small, and nobody's data is published.

What many runs were asked alike (posts, episodes) is one packed text, what each of them said another one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnerkit.data.corpus.post import Post
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


def name_of(asked: str) -> str:
    """Sixteen hex digits that name what runs were asked."""
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def parted(lines: Iterable[Row]) -> tuple[str, str]:
    """What a run was asked, and what it said, both packed."""
    asked, said = [], []
    for line in lines:
        rules = {name: line[name] for name in RULES if name in line}
        asked.append([line["id"], rules] if rules else [line["id"]])
        said.append([[each["type"], each["start"], each["end"]] for each in line["entities"]])
    return pack(asked), pack(said)


def joined(asked: str, said: str, posts: Mapping[str, Post]) -> list[Row]:
    """The lines that were parted; gold entities are those of the types in play.

    Args:
        asked: what the run was asked, packed.
        said: what it said, packed.
        posts: id -> post.

    Raises:
        ValueError: the two are damaged, or do not belong together.
        KeyError: a post is not known.
    """
    lines = []
    for (name, *more), found in zip(unpack(asked), unpack(said), strict=True):
        rules, post = more[0] if more else {}, posts[name]
        line = {"id": name, "words": list(post.words), "entities": list(_entities(found, post.words))}
        gold = [
            [each.start, each.end, each.type]
            for each in entities(post.tags or ())
            if each.type in rules.get("types", (each.type,))
        ]
        lines.append({**line, "gold": gold, **{rule: rules[rule] for rule in RULES if rule in rules}})
    return lines


def _entities(flat: Sequence[Sequence[Any]], words: Sequence[str]) -> Iterable[Row]:
    """Entities with their places in the words, and in the words joined by blanks."""
    text, starts, place = " ".join(words), [], 0
    for word in words:
        starts.append(place)
        place += len(word) + 1
    for kind, start, end in flat:
        first, last = starts[start], starts[end - 1] + len(words[end - 1])
        spot = {"start": start, "end": end, "char_start": first, "char_end": last}
        yield {"type": kind, **spot, "text": text[first:last]}
