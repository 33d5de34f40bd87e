"""A scripted server with OpenAI's interface: it answers from the truth, and fails in ways that a test asks for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[str, list[dict[str, Any]]], Any]


def text_of(content: Any) -> str:
    """The text of a message."""
    return content if isinstance(content, str) else content[0]["text"]


def asked_text(messages: list[dict[str, Any]]) -> str:
    """The words of the post that is asked about."""
    return text_of(messages[-1]["content"]).partition("\n")[0].removeprefix("Post: ")


class ScriptedLlm(ThreadingHTTPServer):
    """The server.

    Attributes:
        say: from a post's text and the messages, what is replied: a text; (status, body) in place of a reply; None to
            hang up.
        requests: the bodies of all requests.
        keys: the header `Authorization` of each.
        replied: the post's texts that got a reply.
        wait: seconds before each answer.
    """

    daemon_threads = True

    def __init__(self, say: Say) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.say, self.wait = say, 0.0
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.replied: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """What `--model.endpoint` is."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that was killed hears no reply."""


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedLlm

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = body["messages"]
        text = asked_text(messages)
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            try:
                said = self.server.say(text, messages) if self.path == "/v1/chat/completions" else (404, b"{}")
            except Exception as wrong:  # of the script, which the test is to show
                said = (418, json.dumps({"error": repr(wrong)}).encode())
        time.sleep(self.server.wait)
        if said is None:
            self.close_connection = True
            return
        usage = {"prompt_tokens": sum(len(text_of(each["content"])) for each in messages), "completion_tokens": 7}
        reply = {"choices": [{"message": {"role": "assistant", "content": said}}], "usage": usage}
        status, content = (200, json.dumps(reply).encode()) if isinstance(said, str) else said
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if isinstance(said, str):
            with self.server.lock:
                self.server.replied.append(text)


@contextmanager
def scripted_llm(say: Say) -> Iterator[ScriptedLlm]:
    """A running server."""
    server = ScriptedLlm(say)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
