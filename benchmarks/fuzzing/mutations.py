"""Changes of a file's bytes, lines, tokens and structure; each is decided by the generator of random numbers alone."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes, bytes], bytes]

NASTY = (
    b"\0",
    b"\xef\xbb\xbf",  # byte order mark
    b"\xed\xa0\x80",  # half of a surrogate pair, which is no UTF-8
    b"\\ud800",  # the same, escaped
    b"\\u0000",
    b"\xff\xfe",
    "\u2028".encode(),
    "\u0085".encode(),
    "\u202e".encode(),  # from right to left
    "\u0663".encode(),  # a digit to `int` and `float`, and not to people
    b"\x1b[31m",
    b"\r",
    b"\n",
    b"\n\n",
    b"\t",
    b" ",
    b"7" * 5000,
    b"1e400",
    b"-1",
    b"1_0",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"0",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"(" * 3000,
    b"- " * 2000,
    b"[" + b"0," * 5000 + b"0]",
    b'"',
    b"'",
    b"\\",
    b",",
    b"{}",
    b"[]",
    b"!!python/object/apply:os.system [x]",
    b"!!binary aGVsbG8=",
    b"!!set {a, b}",
    b"!!timestamp 2001-01-01",
    b"&a [*a]",
    b"*a",
    b"<<: *a",
    b"${model.lr}",
    b"${${}}",
    b"${oc.env:HOME}",
    b"~",
    b"? ",
    b"<!DOCTYPE a [<!ENTITY b 'c'><!ENTITY d '&b;&b;&b;&b;'>]>",
    b"&d;",
    b"<object>" * 500,
    b"]]>",
    b"../../etc/passwd",
    b"/etc/passwd",
    b"IMGID:",
    b"IMGID:1\n",
    b"-DOCSTART- -X- O\n",
    b"B-PER",
    b"I-LOC",
    b"S-ORG",
    b"O",
    b"\tO",
    b"B-",
)
LONG = 200_000  # letters of a line that is made long; now and then it is longer than readers take
LONGER = 1_200_000


def flip(draw: Random, content: bytes, _: bytes) -> bytes:
    """Change one bit."""
    changed = bytearray(content)
    if changed:
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite(draw: Random, content: bytes, _: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.randbytes(draw.choice((1, 2, 4, 8))) + content[at + draw.choice((0, 1, 4, 8)) :]


def delete(draw: Random, content: bytes, _: bytes) -> bytes:
    start, end = _span(draw, content)
    return content[:start] + content[end:]


def duplicate(draw: Random, content: bytes, _: bytes) -> bytes:
    start, end = _span(draw, content)
    return content[:end] + content[start:end] + content[end:]


def truncate(draw: Random, content: bytes, _: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def splice(draw: Random, content: bytes, other: bytes) -> bytes:
    """The beginning of one file with the end of another."""
    return content[: draw.randrange(len(content) + 1)] + other[draw.randrange(len(other) + 1) :]


def insert_nasty(draw: Random, content: bytes, _: bytes) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(NASTY) + content[at:]


def replace_token(draw: Random, content: bytes, _: bytes) -> bytes:
    """Put something nasty in the place of a number, a word or a quoted text."""
    start = draw.randrange(len(content) + 1)
    while start < len(content) and not (content[start : start + 1].isalnum() or content[start : start + 1] in b"\"'"):
        start += 1
    end = start + 1
    while end < len(content) and content[end : end + 1].isalnum():
        end += 1
    return content[:start] + draw.choice(NASTY) + content[end:]


def drop_line(draw: Random, content: bytes, _: bytes) -> bytes:
    lines = content.split(b"\n")
    del lines[draw.randrange(len(lines))]
    return b"\n".join(lines)


def swap_lines(draw: Random, content: bytes, _: bytes) -> bytes:
    lines = content.split(b"\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def repeat_line(draw: Random, content: bytes, _: bytes) -> bytes:
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at:at] = [lines[at]] * draw.choice((1, 1, 1, 50))
    return b"\n".join(lines)


def join_lines(draw: Random, content: bytes, _: bytes) -> bytes:
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at : at + 2] = [draw.choice((b"", b" ", b"\r")).join(lines[at : at + 2])]
    return b"\n".join(lines)


def end_lines_otherwise(draw: Random, content: bytes, _: bytes) -> bytes:
    return content.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\r\n", b"\n\n")))


def lengthen(draw: Random, content: bytes, _: bytes) -> bytes:
    """A very long line, word or list, or some ten thousand short lines."""
    at = draw.randrange(len(content) + 1)
    piece = draw.choice((b"a", b"a ", b"7", b"[", b'"a", ', b"\\", b"http://a ", b"a\tO\n", b"\xe2\x80\x8d"))
    length = LONGER if draw.random() < 0.1 and b"\n" not in piece else draw.choice((1000, LONG))
    if b"\n" in piece:
        length //= 2
    return content[:at] + piece * (length // len(piece)) + content[at:]


BYTES: tuple[Mutation, ...] = (flip, overwrite, delete, duplicate, truncate, splice)
LINES: tuple[Mutation, ...] = (drop_line, swap_lines, repeat_line, join_lines, end_lines_otherwise, lengthen)
TOKENS: tuple[Mutation, ...] = (insert_nasty, replace_token)


def _span(draw: Random, content: bytes) -> tuple[int, int]:
    start = draw.randrange(len(content) + 1)
    return start, min(len(content), start + draw.choice((1, 1, 2, 8, 64, 1024)))


# ------------------------------------------------------------------ structure


class Twice(dict[str, Any]):
    """A mapping that is written with its last key twice, with another value."""


def odd_value(draw: Random) -> Any:
    """A value that is seldom of the right kind."""
    return draw.choice(
        [
            None, True, False, 0, 1, -1, 3, 0.5, 1.5, 1e30, -0.0, 10**20, 10**400, float("nan"), float("inf"),
            "", " ", "a", "0", "1", "nan", "\ud800", "a\0b", "a\nb", "\u2028", "\x1b[31m", "../a", "/a", "B-PER", "O",
            "a" * 30_000, [], {}, [[]], [None], [1, 2], ["a"], ["a", "a"], {"a": 1}, [0.1] * 5000, ["a"] * 5000,
            nested(60), nested(250),
        ]
    )  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def restructured(draw: Random, content: Any) -> Any:
    """Plain data with one place changed: a key renamed, dropped or given twice; a value of another kind."""
    parents: list[Any] = []
    pending = [content]
    while pending:
        here = pending.pop()
        if isinstance(here, dict | list) and here:
            parents.append(here)
            pending.extend(here.values() if isinstance(here, dict) else here)
    if not parents:
        return odd_value(draw)
    parent = draw.choice(parents[:4] if draw.random() < 0.5 else parents)
    key = draw.choice(list(parent)) if isinstance(parent, dict) else draw.randrange(len(parent))
    value, how = parent[key], draw.randrange(8)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[near_miss(draw, str(key))] = parent.pop(key)
    elif how == 2 and isinstance(parent, dict):
        twice = Twice({name: part for name, part in parent.items() if name != key} | {key: value})
        return twice if parent is content else _replaced(content, parent, twice)
    elif how == 3:
        parent[key] = draw.choice(([value], {"a": value}, [value] * 3))
    elif how == 4:
        parent[key] = str(value)[:1000]
    else:
        parent[key] = odd_value(draw)
    return content


def _replaced(content: Any, old: Any, new: Any) -> Any:
    """The content with one of its parts replaced."""
    if content is old:
        return new
    if isinstance(content, dict):
        return {key: _replaced(part, old, new) for key, part in content.items()}
    if isinstance(content, list):
        return [_replaced(part, old, new) for part in content]
    return content


def near_miss(draw: Random, key: str) -> str:
    """A key that is nearly another one."""
    return draw.choice((key[:-1], key + "s", key.upper(), key + " ", key[::-1], f"_{key}", "", key[:1] + key))


def json_text(draw: Random, content: Any) -> str:
    """Plain data as JSON, with a key of each `Twice` twice."""

    def written(part: Any) -> str:
        if isinstance(part, dict):
            pairs = [f"{json.dumps(str(key))}: {written(value)}" for key, value in part.items()]
            if isinstance(part, Twice):
                pairs.append(f"{json.dumps(str(list(part)[-1]))}: {json.dumps(draw.choice((None, 1, 'a', ['a'], [])))}")
            return "{" + ", ".join(pairs) + "}"
        if isinstance(part, list):
            return "[" + ", ".join(map(written, part)) + "]"
        return _number(part) if type(part) is int else json.dumps(part)

    return written(content)


def _number(number: int) -> str:
    return "1" + "0" * 400 if number == 10**400 else str(number)


def restructure_json(draw: Random, content: bytes, _: bytes) -> bytes:
    """Change the structure of a JSON file."""
    try:
        return json_text(draw, restructured(draw, json.loads(content))).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return content


def restructure_json_line(draw: Random, content: bytes, _: bytes) -> bytes:
    """Change the structure of a line of JSON."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at] = restructure_json(draw, lines[at], b"")
    return b"\n".join(lines)


def restructure_yaml(draw: Random, content: bytes, _: bytes) -> bytes:
    """Change the structure of a YAML file."""
    import yaml

    try:
        # JSON is YAML, and can have a key twice
        changed = restructured(draw, yaml.safe_load(content))
        if draw.random() < 0.5:
            return json_text(draw, changed).encode("utf-8", "surrogatepass")
        return yaml.safe_dump(_plain(changed)).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return content


def _plain(content: Any) -> Any:
    """The same with plain mappings."""
    if isinstance(content, dict):
        return {key: _plain(part) for key, part in content.items()}
    return [_plain(part) for part in content] if isinstance(content, list) else content


def resize_png(draw: Random, content: bytes, _: bytes) -> bytes:
    """Another size in a PNG's head, with the right checksum."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 33:
        return content
    sides = (0, 1, 7, 16, 8191, 65535, 50_000_000, 1 << 31)
    head = b"IHDR" + struct.pack(">II", draw.choice(sides), draw.choice(sides)) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]


# the mutations that suit a form; each group is as likely as another
FORMS: dict[str, tuple[tuple[Mutation, ...], ...]] = {
    "lines": (BYTES, LINES, TOKENS),
    "json": (BYTES, LINES, TOKENS, (restructure_json,), (restructure_json,)),
    "json lines": (BYTES, LINES, TOKENS, (restructure_json_line,), (restructure_json_line,)),
    "yaml": (BYTES, LINES, TOKENS, (restructure_yaml,), (restructure_yaml,)),
    "bytes": (BYTES,),
    "picture": (BYTES, BYTES, (resize_png,)),
}


def mutated(draw: Random, form: str, content: bytes, other: bytes) -> bytes:
    """A file with one to four changes.

    Args:
        draw: decides them.
        form: which changes suit it (`FORMS`).
        content: the file.
        other: another file of the same kind, to splice with.
    """
    count = min(4, 1 + int(draw.expovariate(1.2)))
    for _ in range(count):
        content = draw.choice(draw.choice(FORMS[form]))(draw, content, other)
    return content[: 4 << 20]
