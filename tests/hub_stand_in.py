"""A stand-in of the Hugging Face hub on this machine: those of its endpoints that push and fetch a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        commits: repository -> revision -> path -> content; the last revision is `main`.
        asked: method and path of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit with these files over those of the last one."""
        commits = self.commits.setdefault(repo, {})
        content = {**(list(commits.values())[-1] if commits else {}), **files}
        named = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in content.items())
        revision = hashlib.sha1(json.dumps([len(commits), named]).encode()).hexdigest()
        commits[revision] = content
        return revision


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid username or password."})
            return
        for pattern, answer in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                answer(self, body, **found.groupdict())
                return
        self._send(404, {"error": f"nothing here: {path}"})

    def _send(self, code: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _files(self, repo: str, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        """Revision and files; None, with an answer, where there are none."""
        commits = self.server.commits.get(repo)
        if commits is None:
            self._send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        revision = [*commits][-1] if revision in (None, "main") and commits else revision
        if revision not in commits:
            self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return None
        return revision, commits[revision]

    def root(self, _: bytes) -> None:
        self._send(200, {})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        code = 409 if repo in self.server.commits else 200
        self.server.commits.setdefault(repo, {})
        self._send(code, {"url": f"{self.server.url}/{repo}"})

    def validate(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, repo: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def batch(self, body: bytes, repo: str) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        self.server.large[oid] = body
        self._send(200 if hashlib.sha256(body).hexdigest() == oid else 400, {})

    def commit(self, body: bytes, repo: str) -> None:
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        revision = self.server.commit(repo, files)
        self._send(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{revision}", "commitOid": revision})

    def info(self, _: bytes, repo: str, revision: str | None = None) -> None:
        if found := self._files(repo, revision):
            siblings = [{"rfilename": path, "size": len(data)} for path, data in found[1].items()]
            self._send(200, {"id": repo, "sha": found[0], "private": False, "tags": [], "siblings": siblings})

    def resolve(self, _: bytes, repo: str, revision: str, path: str) -> None:
        found = self._files(repo, revision)
        if found is None:
            return
        if path not in found[1]:
            self._send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        data = found[1][path]
        self._send(200, data, X_Repo_Commit=found[0], ETag=f'"{hashlib.sha256(data).hexdigest()}"')


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES = {
    r"HEAD /": _Handler.root,
    r"POST /api/repos/create": _Handler.create,
    r"POST /api/validate-yaml": _Handler.validate,
    rf"POST /api/models/{_REPO}/preupload/main": _Handler.preupload,
    rf"POST /{_REPO}\.git/info/lfs/objects/batch": _Handler.batch,
    r"PUT /lfs/(?P<oid>\w+)": _Handler.put,
    rf"POST /api/models/{_REPO}/commit/main": _Handler.commit,
    rf"GET /api/models/{_REPO}": _Handler.info,
    rf"GET /api/models/{_REPO}/revision/(?P<revision>\w+)": _Handler.info,
    rf"(GET|HEAD) /{_REPO}/resolve/(?P<revision>\w+)/(?P<path>.+)": _Handler.resolve,
}


@contextmanager
def running() -> Iterator[Hub]:
    """The server, while the block runs."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
