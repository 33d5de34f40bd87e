"""From a model's reply to spans of a post's words: strictly, and counting what can't be placed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mnerkit.data.corpus.post import Entity

MOST_ENTITIES = 1000  # of a reply; more are not looked at
MOST_OBJECTS = 20  # of a reply, the last ones, among which the one that was asked for is looked for
_START = re.compile(r'\{\s*"entities"\s*:')


@dataclass
class Parsed:
    """What a reply says.

    Attributes:
        spans: its entities in the post, in order; they do not overlap.
        readable: whether the reply holds the JSON object that was asked for.
        missing: whether there was no reply to read.
        malformed: entities that are not {"text": text, "type": text}.
        unknown_types: types that were not asked for, one for each entity that has one.
        unplaced: entities whose words are not in the post, or are already another entity's.
    """

    spans: list[Entity] = field(default_factory=list)
    readable: bool = True
    missing: bool = False
    malformed: int = 0
    unknown_types: list[str] = field(default_factory=list)
    unplaced: int = 0


def parsed(reply: str, words: Sequence[str], types: Sequence[str]) -> Parsed:
    """The entities of a reply, of which the last JSON object with the key `entities` counts.

    Entities are matched in their order: each with the first words behind the one before that read the same (blanks
    apart), else with the first that are free; where none do, the same without regard to case.
    """
    items = _items(reply)
    if items is None:
        return Parsed(readable=False)
    result, taken, behind = Parsed(), [False] * len(words), 0
    for item in items[:MOST_ENTITIES]:
        text, kind = (item.get("text"), item.get("type")) if isinstance(item, dict) else (None, None)
        if not (isinstance(text, str) and isinstance(kind, str) and text.strip()):
            result.malformed += 1
            continue
        if kind not in types:
            result.unknown_types.append(kind)
            continue
        place = _place(text, words, taken, behind)
        if place is None:
            result.unplaced += 1
            continue
        behind = place[1]
        taken[slice(*place)] = [True] * (place[1] - place[0])
        result.spans.append(Entity(*place, kind))
    result.spans.sort()
    return result


def types_in(reply: str) -> list[str]:
    """The types that a reply names, one for each entity."""
    items = (_items(reply) or [])[:MOST_ENTITIES]
    return [item["type"] for item in items if isinstance(item, dict) and isinstance(item.get("type"), str)]


def _items(reply: str) -> list[Any] | None:
    decoder = json.JSONDecoder()
    for start in reversed([match.start() for match in _START.finditer(reply)][-MOST_OBJECTS:]):
        try:
            content, _ = decoder.raw_decode(reply, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(items := content["entities"], list):
            return items
    return None


def _place(text: str, words: Sequence[str], taken: Sequence[bool], behind: int) -> tuple[int, int] | None:
    """Start and end of the words that read as `text`."""
    for fold in (str, str.casefold):
        wanted = fold("".join(text.split()))
        folded = [fold(word) for word in words]
        for first in (*range(behind, len(words)), *range(behind)):
            end = _end(wanted, folded, first)
            if end is not None and not any(taken[first:end]):
                return first, end
    return None


def _end(wanted: str, words: Sequence[str], first: int) -> int | None:
    """Where the words from `first` on have spelt `wanted` exactly."""
    done = 0
    for place in range(first, len(words)):
        if not wanted.startswith(words[place], done):
            return None
        done += len(words[place])
        if done == len(wanted):
            return place + 1
    return None
