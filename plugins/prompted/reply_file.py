"""Replies that somebody collected: JSON lines `{"id", "reply", "model", "prompt_digest"}` (`--model.replies FILE`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, UsageError, did_you_mean, shown
from mnerkit.strict_json import loads
from mnerkit_plugins.prompted.parsing import types_in
from mnerkit_plugins.prompted.prompt import Question
from mnerkit_plugins.prompted.replies import MOST_CHARACTERS, Reply

MOST_LINE = 8 << 20  # bytes


class ReplyFile:
    """Replies of one model by post.

    Args:
        file: its path.
        model: name of the model; default: the one that all lines name.

    Attributes:
        name: of the model.

    Raises:
        DataError: the file is missing or malformed, or holds two replies to one question.
        UsageError: it has replies of several models, or does not name the model, and none is given.
    """

    def __init__(self, file: str, model: str | None) -> None:
        self.path = Path(file).expanduser()
        self.replies: dict[str, dict[str | None, Reply]] = {}
        self.lines: dict[str, int] = {}
        models: Counter[str] = Counter()
        for number, row in self._rows():
            where = f"{self.path}:{number}"
            texts = {name: row.get(name) for name in ("id", "reply", "model", "prompt_digest")}
            if any(not isinstance(texts[name], str) for name in ("id", "reply")) or any(
                not isinstance(value, str | None) for value in texts.values()
            ):
                raise DataError(f'{where}: a line is {{"id": TEXT, "reply": TEXT}}, with "model" and "prompt_digest"')
            if model is not None and texts["model"] not in (None, model):
                continue
            models[texts["model"] or ""] += 1
            of_post = self.replies.setdefault(str(texts["id"]), {})
            if of_post.setdefault(texts["prompt_digest"], reply := _reply(row)) != reply:
                raise DataError(f"{where}: a second, other reply to one question about post {shown(texts['id'])}")
            self.lines.setdefault(str(texts["id"]), number)
        named = [name for name in models if name]
        if (model is None and len(models) != 1) or not (model or named):
            what = f"replies of {len(named)} models" if len(named) > 1 else "lines that do not name their model"
            raise UsageError(f"--model.replies {file} holds {what}: give one as --model.llm NAME")
        if not models:
            raise DataError(f"{self.path}: no reply of {model}")
        self.name = model or named[0]

    def _rows(self) -> Any:
        try:
            with self.path.open("rb") as stream:
                for number, line in enumerate(iter(lambda: stream.readline(MOST_LINE), b""), start=1):
                    try:
                        row = loads(line.decode("utf-8")) if line.strip() else None
                    except (ValueError, RecursionError):
                        raise DataError(f"{self.path}:{number}: no line of JSON") from None
                    if row is not None and not isinstance(row, dict):
                        raise DataError(f"{self.path}:{number}: no JSON object")
                    if row is not None:
                        yield number, row
        except OSError as problem:
            raise DataError(f"--model.replies {self.path}: {problem.strerror}") from None

    def check(self, ids: Collection[str], types: Sequence[str]) -> None:
        """Refuse replies of other posts, or most of whose types are other ones.

        Args:
            ids: of all posts of the corpus.
            types: of the corpus.

        Raises:
            DataError: naming the first post, or the types.
        """
        for post, number in self.lines.items():
            if post not in ids:
                near = did_you_mean(post, ids) if len(ids) < 10_000 else ""
                raise DataError(f"{self.path}:{number}: post {shown(post)} is not in the corpus.{near}")
        kinds = Counter(
            kind for of_post in self.replies.values() for reply in of_post.values() for kind in types_in(reply.text)
        )
        others = [kind for kind, _ in kinds.most_common() if kind not in types]
        if 2 * sum(kinds[kind] for kind in others) > sum(kinds.values()):
            raise DataError(
                f"{self.path}: its replies name the types {shown(', '.join(others[:5]))}, and the corpus has "
                f"{', '.join(types)}"
            )

    def get(self, question: Question) -> Reply | None:
        """The reply to a question; one that does not say what was asked is a reply to any question about its post.

        Raises:
            DataError: the replies about the post are all to other questions.
        """
        of_post = self.replies.get(question.id)
        if of_post is None:
            return None
        reply = of_post.get(question.digest, of_post.get(None))
        if reply is None:
            raise DataError(
                f"{self.path}:{self.lines[question.id]}: the reply about post {shown(question.id)} is to another "
                f"prompt ({shown(next(iter(of_post)))}) than this run's ({question.digest}); give the options that it "
                "was asked with, or leave prompt_digest out of the lines"
            )
        return reply


def _reply(row: dict[str, Any]) -> Reply:
    tokens = (row.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Reply(row["reply"][:MOST_CHARACTERS], *(count if type(count) is int else None for count in tokens))
