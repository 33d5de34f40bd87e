"""Predictions of a run without the words of its posts, which the corpus has: small, and nobody's text is published.

What many runs were asked alike (posts, gold entities, episodes) is one packed text, what each of them said another one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
# of a line of `predictions.<split>.jsonl`, beside the post's id and gold entities, where it is there
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
        asked.append([line["id"], line["gold"], rules] if rules else [line["id"], line["gold"]])
        said.append([[each["type"], each["start"], each["end"]] for each in line["entities"]])
    return pack(asked), pack(said)


def joined(asked: str, said: str, words: Mapping[str, Sequence[str]]) -> list[Row]:
    """The lines that were parted.

    Args:
        asked: what the run was asked, packed.
        said: what it said, packed.
        words: id -> words of the post.

    Raises:
        ValueError: the two are damaged, or do not belong together.
        KeyError: a post is not known.
    """
    lines = []
    for (name, gold, *more), entities in zip(unpack(asked), unpack(said), strict=True):
        rules = more[0] if more else {}
        line = {"id": name, "words": list(words[name]), "entities": list(_entities(entities, words[name]))}
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
