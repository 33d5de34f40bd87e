"""A server with OpenAI's interface, over HTTP: retries, a limit of requests a second, and what it may reply."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import urlsplit

from mnerkit.errors import DataError, UsageError, first_line, shown
from mnerkit_plugins.prompted.options import PromptedOptions
from mnerkit_plugins.prompted.prompt import Message, Question
from mnerkit_plugins.prompted.replies import MOST_CHARACTERS, Reply

KEY = "MNERKIT_LLM_KEY"
MOST_BYTES = 8 << 20  # of a response
LONGEST_WAIT = 60.0  # seconds between two tries
BUSY = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))  # another try may succeed
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Again(Exception):
    """A request that is worth another try.

    Args:
        why: what went wrong, for people.
        wait: seconds that the server asks to wait.
    """

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _Refused(Exception):
    """No connection: nothing listens at the address."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would take the key to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Endpoint:
    """Asks a model of a server. Its methods may be called by several threads at once.

    Args:
        o: the options; `endpoint` and `llm` are given.
    """

    def __init__(self, o: PromptedOptions) -> None:
        assert o.endpoint is not None and o.llm is not None
        self.options, self.model = o, o.llm
        self.url = o.endpoint.rstrip("/") + "/chat/completions"
        # read when it is needed and held here alone: no file, message or log may show it
        self._key = os.environ.get(KEY, "").strip()
        handlers: list[Any] = [_NoRedirect()]
        if urlsplit(self.url).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy would ask its own loopback
        self._opener = urllib.request.build_opener(*handlers)
        self._stopped, self._lock, self._next = threading.Event(), threading.Lock(), 0.0
        self._answered = False
        self.requests = 0

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model

    def ask_all(
        self, questions: Sequence[Question], keep: Callable[[Question, Reply], None], _device: object = None
    ) -> None:
        """Ask several questions at once; `keep` gets each reply as soon as it is there."""

        def ask(question: Question) -> None:
            keep(question, self.ask(question.messages))

        pool = ThreadPoolExecutor(min(self.options.parallel, len(questions)))
        try:
            for future in as_completed([pool.submit(ask, each) for each in questions]):
                future.result()
        except BaseException:
            self.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)  # replies that are on their way still arrive, and are kept

    def ask(self, messages: list[Message]) -> Reply:
        """The model's reply, without sampling.

        Raises:
            UsageError: the server refuses the key, the model's name or the request.
            DataError: it does not answer, or not as OpenAI's interface does, also after retries.
        """
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.options.max_new_tokens}
        content, wait = json.dumps(body).encode(), self.options.backoff
        for left in range(self.options.retries, -1, -1):
            self._wait_for_turn()
            try:
                reply = self._request(content)
                self._answered = True
                return reply
            except _Refused as problem:
                if not self._answered:  # nobody has ever answered there: a wrong address, which no try makes right
                    raise DataError(self._line(f"does not answer: {problem}; is the server running?")) from None
                why, least = str(problem), 0.0
            except _Again as problem:
                why, least = str(problem), problem.wait
            if left:
                self._sleep(min(max(wait, least), LONGEST_WAIT))
                wait *= 2
        tries = self.options.retries + 1
        raise DataError(self._line(f"{why}, in {tries} tries; the same command goes on where it stopped")) from None

    def stop(self) -> None:
        """Let no thread wait any longer."""
        self._stopped.set()

    def _line(self, text: str) -> str:
        return self._without_key(f"--model.endpoint {self.options.endpoint} {text}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "(the key)") if self._key else text

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise DataError(self._line("was not asked any further"))

    def _wait_for_turn(self) -> None:
        """Wait until the limit of requests a second leaves room."""
        with self._lock:
            now = time.monotonic()
            start = max(self._next, now)
            self._next = start + (1 / self.options.per_second if self.options.per_second else 0)
            self.requests += 1
        self._sleep(start - now)

    def _request(self, content: bytes) -> Reply:
        headers = {"Content-Type": "application/json", "User-Agent": "mnerkit"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, content, headers, method="POST")
        end = time.monotonic() + self.options.timeout
        try:
            with self._opener.open(request, timeout=self.options.timeout) as response:
                return self._reply(self._read(response, end))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, self._said(error, end)) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _Again(f"gives no answer within {self.options.timeout:g} s") from None
            if isinstance(error.reason, ConnectionResetError | BrokenPipeError):
                raise _Again("ends the connection") from None
            raise _Refused(first_line(error.reason)) from None
        except TimeoutError:
            raise _Again(f"gives no answer within {self.options.timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"ends the connection ({type(error).__name__})") from None

    def _read(self, response: Any, end: float) -> bytes:
        """The body, of limited size, within the time that is left."""
        parts, size = [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise DataError(self._line(f"sends more than {MOST_BYTES >> 20} MB in reply to a question"))
            if time.monotonic() > end:
                raise TimeoutError
        return b"".join(parts)

    def _reply(self, content: bytes) -> Reply:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise _Again("sends no JSON") from None
        try:
            text = answer["choices"][0]["message"]["content"]
            usage = answer.get("usage") or {}
            tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        except (LookupError, TypeError, AttributeError):
            raise _Again("sends JSON without choices[0].message.content, as OpenAI's interface has it") from None
        if not isinstance(text, str | None):
            raise _Again("sends a reply that is no text")
        # a reply without text is one: a model may have said nothing, or spent all of its tokens on thinking
        return Reply((text or "")[:MOST_CHARACTERS], *(count if type(count) is int else None for count in tokens))

    def _said(self, error: urllib.error.HTTPError, end: float) -> str:
        """The server's message about a refusal, shortened."""
        try:
            content = self._read(error, end)
            answer = json.loads(content)
            message = answer["error"]["message"] if isinstance(answer["error"], dict) else answer["error"]
        except Exception:  # whatever else it sent
            message = ""
        return f" ({shown(self._without_key(str(message)), 200)})" if message else ""

    def _refusal(self, error: urllib.error.HTTPError, said: str) -> Exception:
        code = error.code
        if code in BUSY:
            wait = error.headers.get("Retry-After", "")
            return _Again(f"answers {code}{said}", float(wait) if wait.isascii() and wait.isdigit() else 0.0)
        if code in (401, 403):
            how = "the key in the environment variable" if self._key else "a request without a key; give it in"
            return UsageError(self._line(f"refuses {how} {KEY}: it answers {code}{said}"))
        if code == 404:
            return UsageError(self._line(f"answers 404{said}: no model {self.model!r}, or no such address"))
        if 300 <= code < 400:
            return UsageError(self._line(f"answers {code}: it points to another address; give that one"))
        return UsageError(self._line(f"refuses the request: it answers {code}{said}"))
