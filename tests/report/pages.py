"""What a report's page says, read as text or in a headless browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "<script>alert(1)</script>"
PICTURE = '"><img src=x onerror=alert(1)>'
TURNS = 3  # starts of a browser that does not come to an end
# the sections of a page
VIEWS = ("overview", "learning", "breakdown", "tables", "ablations", "sweeps", "figures", "runs?run=0", "posts")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Seen(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # tag, name, value
        self.texts: list[tuple[str, str]] = []  # tag, text
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1] if self.tags else "", data))

    def embedded(self, name: str) -> Any:
        """Content of a script element with data."""
        place = [value for tag, key, value in self.attributes if tag == "script" and key == "id"].index(name)
        return json.loads([text for tag, text in self.texts if tag == "script" and text.startswith(("{", "["))][place])


def corpus(folder: Path) -> Path:
    """A corpus of one's own with the hostile tweet, whose picture has the hostile name."""
    from PIL import Image

    folder.mkdir()
    lines = [
        {"id": f"p{place}", "words": words, "tags": ["O"] * len(words), "images": [name]}
        for place, (words, name) in enumerate([(["see", SCRIPT, "now"], PICTURE), (["two", "words"], "gone.jpg")])
    ]
    for split in ("train", "valid", "test"):
        named = [{**line, "id": f"{split}{line['id']}"} for line in lines]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    Image.new("RGB", (300, 200), "teal").save(folder / PICTURE, "PNG")
    return folder


def in_browser(page: Path, place: str, folder: Path) -> tuple[Seen, str]:
    """What a headless browser made of the page (or of the one that it holds), and what it complained about."""
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", f"{page.as_uri()}{place}"]
    for turn in range(TURNS):
        try:
            done = subprocess.run(
                [*command, f"--user-data-dir={folder}-{turn}"], capture_output=True, text=True, timeout=60, check=False
            )
            break
        except subprocess.TimeoutExpired:  # once in a hundred starts a browser's clock stands still
            if turn == TURNS - 1:
                raise
    if done.returncode or "<html" not in done.stdout:
        pytest.skip(f"the browser does not start: {done.stderr[-200:]}")
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # data blocks are not what is shown
    return Seen(re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S)), "\n".join(complaints)


def texts(seen: Seen, tag: str) -> str:
    return " | ".join(text for owner, text in seen.texts if owner == tag)


def scripted(page: Path, place: str, script: str, folder: Path) -> Any:
    """What a script finds out in a copy of the page, whose policy would not let it run."""
    told = f"const out = document.createElement('output'); out.textContent = JSON.stringify((() => {{{script}}})());"
    copy = _opened(page, f"<script>{told} document.body.append(out);</script>")
    return _told(copy, place, folder)


# axe-core's findings in a section, and by how many pixels the page is wider than its window
AUDIT = """
  const tell = (found) => parent.postMessage({ place: location.hash, found }, "*");
  document.documentElement.dataset.theme = THEME;
  axe.run(document, { resultTypes: ["violations"] }).then((found) => tell({
    faults: found.violations.map((each) => [each.impact, each.id, each.nodes.map((node) => node.target.join(" "))]),
    passed: found.passes.map((each) => each.id),
    overflow: document.documentElement.scrollWidth - innerWidth,
  })).catch((error) => tell({ error: String(error) }));"""
# the page around the sections: what they tell, once all have
GATHER = """
  const told = {};
  addEventListener("message", ({ data }) => {
    told[data.place.slice(1)] = data.found;
    if (Object.keys(told).length < COUNT) return;
    const out = document.createElement("output");
    out.textContent = JSON.stringify(told);
    document.body.append(out);
  });"""


def audited(page: Path, places: Sequence[str], folder: Path, theme: str, width: int) -> dict[str, Any]:
    """What axe-core finds in sections of the page, in windows of a width: `faults`, `passed` and `overflow` of each."""
    pytest.importorskip("axe_core_python", reason="axe-core-python is not installed (extra dev)")
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    copy = _opened(page, f"<script>{axe}</script><script>{AUDIT.replace('THEME', json.dumps(theme))}</script>")
    # headless browsers have no window as narrow as a phone's
    size = f'width="{width}" height="844"'
    frames = "".join(f'<iframe src="{copy.name}#{place}" {size} title="{place}"></iframe>' for place in places)
    around = copy.with_name("framed.html")
    script = GATHER.replace("COUNT", str(len(places)))
    around.write_text(f"<!doctype html><html><body><script>{script}</script>{frames}</body></html>", encoding="utf-8")
    return _told(around, "", folder)


def _opened(page: Path, scripts: str) -> Path:
    """A copy of the page, without its policy, with scripts at its end."""
    text = page.read_text(encoding="utf-8")
    open_ = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert len(open_) < len(text)
    copy = page.with_name("scripted.html")
    copy.write_text(open_.replace("</body>", f"{scripts}</body>"), encoding="utf-8")
    return copy


def _told(page: Path, place: str, folder: Path) -> Any:
    """What a page's scripts say in its last element."""
    seen, complaints = in_browser(page, place, folder)
    assert complaints == ""
    told = [text for tag, text in seen.texts if tag == "output"]
    assert told, "the page's scripts came to no end"
    return json.loads(told[0])
