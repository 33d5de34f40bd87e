"""The report's page: nothing of the data is obeyed, damaged runs hide nothing, and it stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import BAD, GOOD, WORDS, Write, rows

from mnerkit import report
from mnerkit.cli import main
from mnerkit.data.post import ImageRef
from mnerkit.errors import DataError, UsageError
from mnerkit.report import browser
from mnerkit.report.page import as_json

SCRIPT = "<script>alert(1)</script>"
PICTURE = '"><img src=x onerror=alert(1)>'
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


@pytest.fixture
def hostile(tmp_path: Path, write_run: Write) -> Path:
    """The page of two runs that were asked about the hostile tweet."""
    folder = corpus(tmp_path / "mine")
    spans = {"good": [[1, 2, "PER"]], "bad": [[1, 2, SCRIPT]]}
    runs = []
    for name, said in spans.items():
        lines = [
            {
                "id": "testp0",
                "words": ["see", SCRIPT, "now"],
                "gold": [[1, 2, "PER"]],
                "entities": [{"start": start, "end": end, "type": kind} for start, end, kind in said],
            },
            {"id": "testp1", "words": ["two", "words"], "gold": [], "entities": []},
        ]
        runs.append(write_run(name, GOOD, seed=len(runs), lines=lines, corpus=str(folder), types=["PER"]))
    assert report.write(tmp_path / "report", runs=runs).problems == []
    return tmp_path / "report" / "index.html"


def test_a_hostile_tweet_and_picture_name_are_text(hostile: Path) -> None:
    seen = Seen(page := hostile.read_text(encoding="utf-8"))
    assert "img" not in seen.tags and seen.tags.count("script") == 4
    assert not [name for _, name, _ in seen.attributes if name.startswith("on") or name in ("src", "srcset", "style")]
    assert SCRIPT not in page and "<img" not in page
    [set_] = seen.embedded("sets")
    assert set_["posts"][0][1] == ["see", SCRIPT, "now"] and set_["types"] == [SCRIPT, "PER"]
    assert set_["posts"][0][4] == [[PICTURE, 0, ""]] and set_["posts"][1][4] == [["gone.jpg", browser.MISSING, ""]]
    assert all(source.startswith("data:image/") for source in seen.embedded("pictures"))


def test_only_the_page_s_own_script_and_style_may_run_and_nothing_is_loaded(hostile: Path) -> None:
    page = hostile.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    script = re.search(r"<script>(.*)</script>", page, re.S)
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert policy and script and style
    assert policy.group(1).startswith("default-src 'none'; img-src data:; ")
    for kind, content in {"script": script.group(1), "style": style.group(1)}.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy.group(1)
    code = script.group(1)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|fetch\(|XMLHttp", code
    )
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


@pytest.mark.parametrize("text", ["</script><b>", "<!--<script>", "\u2028\u2029&amp;", "\ud800", "\x00\x1b"])
def test_embedded_text_comes_back_and_ends_no_element(text: str) -> None:
    embedded = as_json([text])
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == [text.replace("\ud800", "\ufffd")]
    embedded.encode("utf-8")
    with pytest.raises(ValueError):
        as_json([float("nan")])


def test_damaged_runs_and_tables_get_a_line_each_and_the_rest_is_there(
    tmp_path: Path, write_run: Write, write_table: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_run("good", GOOD)
    broken = {
        name: write_run(name, GOOD, seed=seed) for seed, name in enumerate(["json", "old", "open", "bomb", "lines"], 1)
    }
    (broken["json"] / "metrics.json").write_text('{"test": NaN}')
    (broken["old"] / "env.json").write_text('{"mnerkit": "7.1.0"}')
    (broken["open"] / "metrics.json").unlink()
    (broken["bomb"] / "config.yaml").write_text("a: &a [1, 1]\nb: [*a, *a]\nplugin: bert\n")
    (broken["lines"] / "predictions.test.jsonl").write_text("[1]\n")
    table = write_table([[good], [broken["json"]]])
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    out = tmp_path / "report"
    asked = [str(tmp_path / "runs"), "--tables", str(table), str(wrong), "--out", str(out)]
    assert main(["report", *asked]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 7 and all(line.startswith("mnerkit: ") for line in said)
    for expected in (
        "metrics.json is damaged: NaN",
        "by mnerkit 7.1.0; this is",
        "is not finished",
        "aliases",
        "no table",
        "jsonl:1: no prediction",
        "pictures of corp are left out: ",
    ):
        assert sum(expected in line for line in said) == 1, expected
    facts = Seen((out / "index.html").read_text()).embedded("facts")
    assert [f"mnerkit: {each}" for each in facts["problems"]] == said
    assert [cell["state"] for cell in facts["tables"][0]["cells"]] == ["done", "failed"]
    assert sorted(run["path"].split("/")[-1] for run in facts["runs"]) == ["good", "lines"]
    assert (out / "tables/paper/table1.tex").is_file() and (out / "tables/runs.csv").is_file()


@pytest.mark.parametrize("value", ["1e999", "1" + 400 * "0", "true", '"x"', "1e308"], ids=range(5))
def test_a_figure_that_is_none_is_left_out_and_the_report_is_there(
    tmp_path: Path, write_run: Write, write_table: Write, value: str
) -> None:
    runs = [write_run(name, GOOD, seed=seed) for seed, name in enumerate(("good", "bad", "worse"))]
    for run in runs[1:]:
        content = json.loads((run / "metrics.json").read_text())
        content["test"] |= {"f1": "HERE", "type/PER/f1": "HERE"}
        (run / "metrics.json").write_text(json.dumps(content).replace('"HERE"', value))
    table = write_table([runs])
    report.write(tmp_path / "report", [table], runs)
    facts = Seen((tmp_path / "report" / "index.html").read_text()).embedded("facts")
    [cell] = facts["tables"][0]["cells"]
    assert (cell["mean"], cell["seeds"]) == (100.0, [0])
    assert ["f1" in run["scores"]["test"] for run in facts["runs"]] == [True, False, False]
    text = json.loads(table.read_text())
    text["cells"][0]["printed"] = "HERE"
    table.write_text(json.dumps(text).replace('"HERE"', value))
    assert "not a figure" in report.write(tmp_path / "report", [table], runs).problems[0]


def test_a_share_is_shown_in_percent_beside_ours(tmp_path: Path, write_run: Write, write_table: Write) -> None:
    raws = {"0.7547": "75.47", "75.5": "75.47", "75.47": "75.47", "75.470": "75.470", "75.47*": "75.47"}
    cells = [
        {"row": row, "column": 0, "printed": 75.47, "printed_raw": raw, "state": "missing"}
        for row, raw in enumerate(raws)
    ]
    table = write_table([[] for _ in raws], cells=cells)
    report.write(tmp_path / "report", [table])
    facts = Seen((tmp_path / "report" / "index.html").read_text()).embedded("facts")
    assert [cell["printed"] for cell in facts["tables"][0]["cells"]] == list(raws.values())
    markdown = (tmp_path / "report/tables/paper/table1.md").read_text()
    assert "missing (75.47)" in markdown and "0.7547" not in markdown


def test_a_command_can_be_pasted_into_a_shell(tmp_path: Path, write_run: Write) -> None:
    run = write_run("with blanks; $(x)", GOOD)
    command = ["mnerkit", "fit", "--name", "with blanks; $(x)", "--data.root", "/a b"]
    (run / "env.json").write_text(json.dumps({"command": command}))
    report.write(tmp_path / "report", runs=[run])
    [told] = Seen((tmp_path / "report" / "index.html").read_text()).embedded("facts")["runs"]
    assert shlex.split(told["command"]) == command
    assert shlex.split(told["repeat"]) == ["mnerkit", "runs", "repeat", run.as_posix()]


def test_a_report_that_can_not_be_made_leaves_nothing(
    tmp_path: Path, write_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise ValueError("no page")

    monkeypatch.setattr("mnerkit.report.writing.page", broken)
    with pytest.raises(ValueError, match="no page"):
        report.write(tmp_path / "report", runs=[write_run("a", GOOD)])
    assert not (tmp_path / "report").exists()


def test_a_report_replaces_a_report_when_asked_and_nothing_else(
    tmp_path: Path, write_run: Write, write_table: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run("a", GOOD), tmp_path / "report"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert main(["report", str(run), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    (out / "mine.txt").write_text("kept")
    table = write_table([[run]])
    assert main(["report", "--tables", str(table.parent.parent), "--out", str(out), "--overwrite"]) == 0
    assert (out / "mine.txt").is_file() and not (out / "tables/runs.csv").exists()
    other = tmp_path / "other"
    (other / "tables").mkdir(parents=True)
    with pytest.raises(UsageError, match="is there and is no report's"):
        report.write(other, runs=[run])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--out", "x"], "takes run folders, or --tables"),
        (["nowhere", "--out", "x"], "no run at nowhere"),
        (["--tables", "nowhere.json", "--out", "x"], "no table file at nowhere.json"),
        (["a", "--out", "x", "--tabels", "y"], "Did you mean '--tables'"),
        (["a"], "--out"),
        (["a", "--out", "x", "--posts", "0"], "not a whole number above 0"),
    ],
)
def test_mistakes_get_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *argv]) in (1, 2)
    assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_nothing_that_can_be_reported_is_an_error(tmp_path: Path, write_run: Write) -> None:
    run = write_run("a", GOOD)
    (run / "metrics.json").write_text("[")
    with pytest.raises(DataError, match=r"nothing to report.*\n.*metrics.json is damaged"):
        report.write(tmp_path / "report", runs=[run])


def test_posts_that_runs_differ_on_are_kept_and_get_pictures_first(write_run: Write) -> None:
    asked = browser.Library()
    good, bad = write_run("good", GOOD), write_run("bad", [*GOOD[:-4], *BAD[-4:]], seed=1)
    both = [asked.of(run, "test") for run in (good, bad)]
    assert both[0] is both[1] and browser._kept(both[0], 3) == [20, 21, 22]
    assert browser._kept(both[0], 100) == list(range(24))


def test_pictures_stop_at_the_budget_and_damaged_ones_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG not really")
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    refs = [ImageRef(f"{n}.png", pixels=noise + np.uint8(n)) for n in range(3)]
    one = len(browser.thumbnail(refs[0]))
    pictures = browser.Pictures(int(one * 1.5))
    assert pictures.number(refs[0]) == pictures.number(refs[0]) == 0
    assert pictures.number(ImageRef("bad.png", path=bad)) == browser.DAMAGED
    assert pictures.number(ImageRef("gone.png")) == browser.MISSING
    assert [pictures.number(ref) for ref in refs[1:]] == [browser.LEFT_OUT] * 2
    assert len(pictures.sources) == 1


def test_each_further_run_costs_a_few_bytes_a_post(write_run: Write, tmp_path: Path) -> None:
    posts = 400
    lines = [{**row, "id": f"p{n}"} for n, row in enumerate(rows(GOOD) * (posts // 24 + 1))][:posts]
    sizes = []
    for count in (2, 12):
        while len(sizes) < 2 and len(list((tmp_path / "runs").rglob("config.yaml"))) < count:
            seed = len(list((tmp_path / "runs").rglob("config.yaml")))
            write_run(f"r{seed}", GOOD, seed=seed, lines=lines)
        report.write(tmp_path / "report", runs=list((tmp_path / "runs").glob("*/*/*")))
        page = (tmp_path / "report" / "index.html").read_text()
        sizes.append(len(page))
    # 200 runs of 4,000 posts are then some 3 MB
    assert (sizes[1] - sizes[0]) / 10 < 4 * posts + 5000


# ---------------------------------------------------------------- in a browser


def in_browser(page: Path, place: str, folder: Path) -> tuple[Seen, str]:
    """What a headless browser made of the page, and what it complained about."""
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", f"--user-data-dir={folder}", "--dump-dom"]
    done = subprocess.run(
        [*command, f"{page.as_uri()}{place}"], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode or "<html" not in done.stdout:
        pytest.skip(f"the browser does not start: {done.stderr[-200:]}")
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # data blocks are not what is shown
    return Seen(re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S)), "\n".join(complaints)


def texts(seen: Seen, tag: str) -> str:
    return " | ".join(text for owner, text in seen.texts if owner == tag)


def test_a_browser_shows_hostile_posts_as_text_and_filters_them(hostile: Path, tmp_path: Path) -> None:
    seen, complaints = in_browser(hostile, "#posts?show=spoiled", tmp_path / "profile")
    assert complaints == ""
    assert seen.tags.count("article") == 1 and SCRIPT in texts(seen, "mark")
    images = [value for tag, name, value in seen.attributes if tag == "img" and name == "src"]
    assert len(images) == 1 and images[0].startswith("data:image/")
    assert ("img", "alt", f"picture {PICTURE}") in seen.attributes
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert {"right", "wrong", "missed"} <= {
        value for tag, name, value in seen.attributes if tag == "mark" and name == "class"
    }
    assert "spoiled: A right, B wrong (1)" in texts(seen, "option")


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("#posts?q=two+words", 1),
        ("#posts?picture=1", 1),
        ("#posts?type=1&show=right", 0),
        ("#posts?a=1&b=0&show=corrected", 1),
    ],
)
def test_filters_of_the_error_browser(hostile: Path, tmp_path: Path, place: str, wanted: int) -> None:
    seen, complaints = in_browser(hostile, place, tmp_path / "profile")
    assert (seen.tags.count("article"), complaints) == (wanted, "")


def scripted(page: Path, place: str, script: str, folder: Path) -> Any:
    """What a script finds out in a copy of the page, whose policy would not let it run."""
    open_ = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    assert len(open_) < len(page.read_text(encoding="utf-8"))
    told = f"const out = document.createElement('output'); out.textContent = JSON.stringify((() => {{{script}}})());"
    copy = page.with_name("scripted.html")
    ending = f"<script>{told} document.body.append(out);</script></body>"
    copy.write_text(open_.replace("</body>", ending), encoding="utf-8")
    seen, complaints = in_browser(copy, place, folder)
    assert complaints == ""
    return json.loads(next(text for tag, text in seen.texts if tag == "output"))


@pytest.mark.parametrize(("place", "wanted"), [("#posts?b=none", "none"), ("#posts", "1"), ("#posts?a=1&b=0", "0")])
def test_run_b_is_the_one_that_is_compared(hostile: Path, tmp_path: Path, place: str, wanted: str) -> None:
    script = """
      const label = [...document.querySelectorAll("label")].find((each) => each.textContent.startsWith("Run B"));
      return [label.querySelector("select").value, document.querySelector("article").querySelectorAll("h4").length];"""
    sides = 1 if wanted == "none" else 2
    assert scripted(hostile, place, script, tmp_path / "profile") == [wanted, sides]


def test_the_focus_stays_with_the_pager_at_its_ends(tmp_path: Path, write_run: Write) -> None:
    lines = [{**row, "id": f"p{n}"} for n, row in enumerate(rows(GOOD) * 2)][:30]  # two pages
    report.write(tmp_path / "report", runs=[write_run("a", GOOD, lines=lines)])
    script = """
      const press = (text) => {
        [...document.querySelectorAll(".pager button")].find((each) => each.textContent === text).click();
        return document.activeElement.textContent;
      };
      return [press("Next page"), press("Previous page")];"""
    found = scripted(tmp_path / "report" / "index.html", "#posts", script, tmp_path / "profile")
    assert found == ["Previous page", "Next page"]


@pytest.mark.parametrize(
    "view", ["overview", "tables", "ablations", "sweeps", "figures", "confusion", "runs?run=0", "nonsense"]
)
def test_every_section_opens_without_a_complaint(
    tmp_path: Path, write_run: Write, write_table: Write, view: str
) -> None:
    full = write_run("full", GOOD)
    write_run("less", BAD, ablation="less")
    names = ["0.1", "0.5"]
    columns = [{"name": name, "corpus": "corp"} for name in names]
    cells = [
        {"row": 0, "column": n, "printed": 40 + n, "state": "done", "runs": ["../../../runs/bert/corp/full"]}
        for n in (0, 1)
    ]
    sweep = {"option": "model.delta", "values": [0.1, 0.5]}
    table = write_table([[full]], what="sweep", columns=columns, cells=cells, sweep=sweep)
    report.write(tmp_path / "report", [table], list((tmp_path / "runs").glob("*/*/*")))
    seen, complaints = in_browser(tmp_path / "report" / "index.html", f"#{view}", tmp_path / "profile")
    assert complaints == "" and seen.tags.count("h2") == 1
    assert {"tables": "caption", "sweeps": "svg", "runs?run=0": "dl", "ablations": "ul"}.get(view, "main") in seen.tags
    assert " ".join(WORDS) not in texts(seen, "p")
