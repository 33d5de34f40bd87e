"""Replies of models as JSON lines `{"id", "model", "prompt_digest", "reply"}`: paid for once, replayed offline."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import append

COLUMNS = ("id", "model", "prompt_digest", "reply")
MOST_CHARACTERS = 1 << 20  # of a reply


@dataclass(frozen=True)
class Reply:
    """What a model replied to a question.

    Attributes:
        text: the reply.
        prompt_tokens: tokens that the model read, as the server counts them; None where it does not.
        completion_tokens: tokens that it wrote.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ReplyCache:
    """The replies of one model that are on disk; each is there before the next question of its thread is asked.

    A reply that a kill cut off is not read, and what follows begins on a line of its own.

    Args:
        folder: where the files of all models lie; None: replies are kept in memory alone.
        model: name of the model.
    """

    def __init__(self, folder: Path | None, model: str) -> None:
        self.model = model
        name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', model)[-60:]}-{hashlib.sha256(model.encode()).hexdigest()[:12]}.jsonl"
        self.path = None if folder is None else folder / name
        self._replies: dict[tuple[str, str], Reply] = {}
        self._lock = threading.Lock()
        if self.path is not None and self.path.is_file():
            for row in _rows(self.path):
                with suppress(KeyError, TypeError):
                    if row["model"] == model:
                        reply = Reply(row["reply"], row.get("prompt_tokens"), row.get("completion_tokens"))
                        self._replies[row["id"], row["prompt_digest"]] = reply

    def get(self, post: str, digest: str) -> Reply | None:
        """The reply to a question about a post, if there is one."""
        return self._replies.get((post, digest))

    def add(self, post: str, digest: str, reply: Reply) -> None:
        """Write a reply to the end of the file, in one piece."""
        with self._lock:
            self._replies[post, digest] = reply
            if self.path is None:
                return
            row: dict[str, Any] = {"id": post, "model": self.model, "prompt_digest": digest, "reply": reply.text}
            row |= {name: value for name, value in asdict(reply).items() if name != "text" and value is not None}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                whole = not size or os.pread(descriptor, 1, size - 1) == b"\n"
                append(descriptor, (b"" if whole else b"\n") + json.dumps(row).encode() + b"\n", self.path)
            finally:
                os.close(descriptor)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of our own file that are whole."""
    with path.open("rb") as stream:
        for line in stream:
            with suppress(ValueError, RecursionError):
                row = json.loads(line) if line.endswith(b"\n") else None
                if isinstance(row, dict) and all(isinstance(row.get(name), str) for name in COLUMNS):
                    yield row
