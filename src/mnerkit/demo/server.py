"""A page on this machine's loopback address where a person types posts and sees them tagged."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from markupsafe import Markup

from mnerkit.demo.forms import read_form
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.tagged_posts import as_html
from mnerkit.release import RELEASE
from mnerkit.templates import asset, render

if TYPE_CHECKING:
    from mnerkit.demo.answer import Answer, Demo

HOST = "127.0.0.1"
MOST_BYTES = 16 << 20  # of a form with its pictures
_PATIENCE = 30.0  # seconds that a browser may be silent
_HEADERS = {
    # nothing is loaded from anywhere, no script runs, and no other page may show this one
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Serves the page; `serve_forever()` until it is stopped.

    Args:
        demo: the method.
        port: of the address; 0 for any free one.

    Raises:
        UsageError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, demo: Demo, port: int) -> None:
        self.demo = demo
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as problem:
            raise UsageError(f"--port {port} can't be used ({problem}); give another one, or 0 for any") from None

    @property
    def address(self) -> str:
        """What a browser is given to open the page."""
        return f"http://{HOST}:{self.server_port}/"

    @property
    def own_hosts(self) -> set[str]:
        """Names under which a browser may ask; of others a foreign page has sent it here."""
        return {f"{name}:{self.server_port}" for name in (HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    server_version, sys_version = f"mnerkit/{RELEASE}", ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        """The empty page, or that of the text in its address (`?text=...`)."""
        target = urlsplit(self.path)
        if not self._is_ours():
            return
        if target.path != "/":
            self._send(HTTPStatus.NOT_FOUND, self._page(problem="There is only one page here, /."))
            return
        try:
            values = parse_qs(target.query, max_num_fields=10)
        except ValueError:
            values = {}
        text, caption = (values.get(name, [""])[0] for name in ("text", "caption"))
        if text or caption:
            self._answer(text, [], caption)
        else:
            self._send(HTTPStatus.OK, self._page())

    def do_POST(self) -> None:
        """The page with the post of the form."""
        if not self._is_ours():
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 12):
            self._send(HTTPStatus.LENGTH_REQUIRED, self._page(problem="The form has no length."))
            return
        if int(length) > MOST_BYTES:
            problem = f"The form has {int(length) / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB are read."
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._page(problem=problem))
            return
        try:
            parts = read_form(self.rfile.read(int(length)), self.headers.get("Content-Type", ""))
        except DataError as problem:
            self._send(HTTPStatus.BAD_REQUEST, self._page(problem=str(problem)))
            return
        texts = {part.name: part.content.decode(errors="replace") for part in parts if part.name != "picture"}
        # a browser sends an empty file where none was chosen
        pictures = [part.content for part in parts if part.name == "picture" and part.content]
        self._answer(texts.get("text", ""), pictures, texts.get("caption", ""))

    def _is_ours(self) -> bool:
        """Whether the request comes from this page or from the address line; if not, it is refused."""
        hosts, origin = self.server.own_hosts, self.headers.get("Origin")
        if self.headers.get("Host") in hosts and (origin is None or urlsplit(origin).netloc in hosts):
            return True
        self._send(HTTPStatus.FORBIDDEN, self._page(problem=f"Open {self.server.address} in a browser."))
        return False

    def _answer(self, text: str, pictures: list[bytes], caption: str) -> None:
        try:
            answer = self.server.demo.answer(text, pictures, caption)
        except DataError as problem:
            self._send(HTTPStatus.BAD_REQUEST, self._page(text, caption, problem=str(problem)))
            return
        self._send(HTTPStatus.OK, self._page(text, caption, answer))

    def _page(self, text: str = "", caption: str = "", answer: Answer | None = None, problem: str = "") -> str:
        demo = self.server.demo
        types = demo.predictor.types
        return render(
            __package__ or "",
            "page.html",
            style=Markup(asset(__package__ or "", "page.css")),
            plugin=demo.plugin,
            types=types,
            most_pictures=demo.most_pictures,
            reads_captions=demo.reads_captions,
            text=text,
            caption=caption,
            problem=problem,
            answer=answer,
            tagged=Markup(as_html(answer.rows, types, ids=False)) if answer else "",
        )

    def _send(self, status: HTTPStatus, page: str) -> None:
        content = page.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": "text/html; charset=utf-8"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")  # what was not read of a refused form is no next request
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Write no line for each request: it would hold what somebody has typed."""
