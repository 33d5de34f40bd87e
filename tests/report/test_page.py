"""The report's page: nothing of the data is obeyed, damaged runs hide nothing, and it stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from pages import PICTURE, SCRIPT, Seen
from small_runs import BAD, GOOD, Write, rows

from mnerkit import report
from mnerkit.cli import main
from mnerkit.data.corpus.post import ImageRef
from mnerkit.errors import DataError, UsageError
from mnerkit.printable import printable
from mnerkit.report.posts import browser
from mnerkit.templates import as_json
from mnerkit.type_colours import colours_of


def test_a_hostile_tweet_and_picture_name_are_text(hostile: Path) -> None:
    seen = Seen(page := hostile.read_text(encoding="utf-8"))
    assert "img" not in seen.tags and seen.tags.count("script") == 4
    assert not [name for _, name, _ in seen.attributes if name.startswith("on") or name in ("src", "srcset", "style")]
    assert SCRIPT not in page and "<img" not in page
    [set_] = seen.embedded("sets")
    assert set_["posts"][0][1] == ["see", SCRIPT, "now"] and set_["types"] == [SCRIPT, "PER"]
    assert set_["posts"][0][4] == [[PICTURE, 0, ""]] and set_["posts"][1][4] == [["gone.jpg", browser.MISSING, ""]]
    assert all(source.startswith("data:image/") for source in seen.embedded("pictures"))
    # the colour that the terminal has for it
    assert seen.embedded("facts")["colours"]["PER"] == [colours_of(["PER"])["PER"], "#000000"]


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


@pytest.mark.parametrize("text", ["</script><b>", "<!--<script>", "\u2028\u2029&amp;", "\ud800", "\x00\x1b", "\u202e"])
def test_embedded_text_comes_back_escaped_and_ends_no_element(text: str) -> None:
    embedded = as_json([text])
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == [printable(text)]
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
    assert "table.json: cells[0]: printed must be" in report.write(tmp_path / "report", [table], runs).problems[0]


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

    monkeypatch.setattr("mnerkit.report.page.writing.page", broken)
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
    table = write_table([[run]], smoke=True)  # so that it makes no table of all runs
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
    assert both[0] is both[1] and browser._chosen(both[0], 3) == [20, 21, 22]
    assert browser._chosen(both[0], 100) == list(range(24))


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
