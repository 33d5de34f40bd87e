"""`mnerkit demo`: its page in a browser and over HTTP, what it refuses, and the forms that it reads."""

from __future__ import annotations

import base64
import html
import http.client
import io
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pages
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from urllib3 import encode_multipart_formdata

from mnerkit import registry
from mnerkit.cli import main
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.probe import generate, types_of
from mnerkit.demo import server as server_module
from mnerkit.demo.answer import MOST_LETTERS, Demo
from mnerkit.demo.forms import MOST_PARTS, read_form
from mnerkit.demo.looks import looks_of
from mnerkit.demo.server import DemoServer
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads.softmax import SoftmaxHead
from mnerkit.methods.predictor import Predictor

HOSTILE = "</textarea><script>alert(1)</script>"


def predictor_of(plugin: str, **options: Any) -> Predictor:
    """The predictor of a method without training: it finds something in nearly every text."""
    torch.manual_seed(0)
    method = registry.get(plugin).load()(head=SoftmaxHead(), text="tiny-bert", **options)
    method.build(CorpusFacts.of(types_of("multi"), generate("multi", "train", 4)))
    return Predictor(method)


@contextmanager
def serving(demo: Demo) -> Iterator[DemoServer]:
    """The page of a method on a free port."""
    with DemoServer(demo, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with serving(Demo(predictor_of("cross", vision="tiny"))) as server:
        yield server


def picture(form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (90, 60), "teal").save(stream, form)
    return stream.getvalue()


def asked(server: DemoServer, method: str, path: str = "/", body: Any = None, **headers: str) -> tuple[int, str, Any]:
    """Status, page and headers of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, names)
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()
    return response.status, page, response.headers


def posted(server: DemoServer, fields: list[tuple[str, Any]], **headers: str) -> tuple[int, str]:
    body, kind = encode_multipart_formdata(fields)
    status, page, _ = asked(server, "POST", "/", body, Content_Type=kind, **headers)
    return status, page


def test_a_text_with_a_picture_is_shown_with_its_entities_and_where_the_method_looked(server: DemoServer) -> None:
    pictures = [("picture", ("a.png", picture())), ("picture", ("b.jpg", picture("JPEG")))]
    status, page = posted(server, [("text", f"Ann Lee {HOSTILE} leaves Rome"), *pictures])
    assert status == 200 and HOSTILE not in page and "&lt;/textarea&gt;" in page
    entities = page.split('aria-label="Entities"')[1].split("</section>")[0].count("<mark")
    looks = page.split('aria-label="Where the method looked"')[1]
    assert 0 < entities == looks.count("<figure>") and looks.count("<svg") == 2 * entities
    # each picture with its layer of weights; all is in the page
    assert looks.count("data:image/jpeg;base64,") == looks.count("data:image/png;base64,") == 2 * entities
    assert "src=" not in page and "http" not in page


def test_a_browser_shows_the_page_and_runs_no_script(server: DemoServer, tmp_path: Path) -> None:
    if pages.CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    address = f"{server.address}?{urlencode({'text': f'Ann Lee {HOSTILE} leaves Rome'})}"
    command = [pages.CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path}", address], capture_output=True, text=True, timeout=120, check=True
    )
    seen = pages.Seen(done.stdout)
    assert "script" not in seen.tags and {"mark", "textarea", "button"} <= set(seen.tags)
    assert HOSTILE in html.unescape(done.stdout)


def test_every_page_forbids_scripts_and_frames(server: DemoServer) -> None:
    for path, status in (("/", 200), ("/etc/passwd", 404), ("/?text=", 200)):
        found, _, headers = asked(server, "GET", path)
        policy = headers["Content-Security-Policy"]
        assert found == status and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([("text", "  ")], "the text has no words"),
        ([("text", "x" * (MOST_LETTERS + 1))], f"at most {MOST_LETTERS:,} are read"),
        ([("text", "Ann"), ("picture", ("a.png", b"no picture"))], "picture 1 is not a picture"),
        ([("text", "Ann"), ("picture", ("a.png", picture()[:60]))], "picture 1 is truncated or damaged"),
        ([("text", "Ann")] + [("picture", ("a.png", picture()))] * 5, "5 pictures; the method reads 4"),
        ([("text", "Ann")] * (MOST_PARTS + 1), f"has more than {MOST_PARTS} fields"),
    ],
)
def test_what_cannot_be_tagged_is_reported_on_the_page(server: DemoServer, fields: Any, problem: str) -> None:
    status, page = posted(server, fields)
    assert status == 400 and problem in page and 'role="alert"' in page


def test_requests_of_other_pages_are_refused(server: DemoServer) -> None:
    assert asked(server, "GET", "/?text=Ann", Host="attacker.example")[0] == 403
    assert posted(server, [("text", "Ann")], Origin="http://attacker.example")[0] == 403
    assert posted(server, [("text", "Ann")], Origin=server.address.rstrip("/"))[0] == 200


def test_a_form_that_is_too_large_or_has_no_length_is_not_read(
    server: DemoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(server, "POST", "/", iter([b"text"]), Transfer_Encoding="chunked")[0] == 411
    monkeypatch.setattr(server_module, "MOST_BYTES", 3)
    assert asked(server, "POST", "/", b"text")[0] == 413
    assert asked(server, "POST", "/", b"tex")[:1] == (400,)


def test_only_this_machine_reaches_the_page(server: DemoServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(UsageError, match=r"--port \d+ can't be used"):
        DemoServer(server.demo, server.server_port)


def test_a_method_that_reads_no_pictures_asks_for_none() -> None:
    with serving(Demo(predictor_of("bert"))) as server:
        _, page, _ = asked(server, "GET", "/")
        assert "reads no pictures" in page and '<input type="file"' not in page
        status, page = posted(server, [("text", "Ann Lee"), ("picture", ("a.png", picture()))])
        assert status == 400 and "1 picture; the method reads 0" in page


def test_heat_lies_where_the_weight_is() -> None:
    left, right = ["1", 0, [0.0, 0.0, 0.5, 1.0]], ["2", 0, [0.5, 0.0, 1.0, 1.0]]
    post = {"rows": [["Ann", "PER"]], "columns": [left, right, ["image", 0, None]]}
    post["maps"] = [["layer 1", [[0.1, 0.5, 0.2]]], ["layer 2", [[0.1, 0.7, 0.0]]]]
    ref = generate("default", "dev", 1)[0].images[0]
    (look,) = looks_of(post, ("PER",), [ref])
    assert look.greatest == pytest.approx(0.6) and look.places == (("image", pytest.approx(0.1)),)
    (overlay,) = look.overlays
    layer = Image.open(io.BytesIO(base64.b64decode(overlay.heat.partition(",")[2])))
    opacity = layer.getchannel("A")
    assert layer.size == (overlay.width, overlay.height)
    at = [opacity.getpixel((round(share * layer.width), layer.height // 2)) for share in (0.1, 0.9)]
    assert at[0] == pytest.approx(at[1] / 6, abs=4) and at[1] > 120


@given(st.lists(st.tuples(st.from_regex(r"\A[a-z]{1,9}\Z"), st.binary(max_size=60)), max_size=MOST_PARTS))
def test_a_form_is_read_as_it_was_sent(fields: list[tuple[str, bytes]]) -> None:
    body, kind = encode_multipart_formdata([(name, ("a.bin", content)) for name, content in fields])
    assert [(part.name, part.content) for part in read_form(body, kind)] == fields


@given(st.binary(max_size=300), st.sampled_from(["multipart/form-data; boundary=xx", "text/plain", ""]))
def test_a_damaged_form_is_refused_and_nothing_else(body: bytes, kind: str) -> None:
    for content in (body, b"--xx\r\n" + body, b"--xx\r\n\r\n" + body + b"\r\n--xx--"):
        with suppress(DataError):
            parts = read_form(content, kind)
            assert kind.startswith("multipart") and sum(len(part.content) for part in parts) <= len(content)


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    fit = ["fit", "--plugin", "bilstm", "--name", "one", "--runs_dir", str(tmp_path), "--data.limit", "60"]
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]) == 0
    command = [sys.executable, "-m", "mnerkit", "demo", str(tmp_path / "bilstm" / "probe" / "one"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        port = int(address.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/?text=Ann+Lee")
        assert connection.getresponse().status == 200
        with socket.create_connection(("127.0.0.1", port)) as silent:  # it holds up nobody
            silent.send(b"GET / HT")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_a_number(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "run", "--port", port]) == 2
    assert "is not a number from 0 to 65535" in capsys.readouterr().err
