"""Figures of a report against numbers made by hand; what a run folder holds is checked, and shown as text."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pages import SCRIPT, Seen, corpus, in_browser, scripted, texts
from small_runs import GOOD, WORDS, Write

from mnerkit import report
from mnerkit.atomic_files import write_json, write_lines
from mnerkit.cli import main
from mnerkit.errors import DataError
from mnerkit.report.posts import browser
from mnerkit.runs import figure_file

POST: dict[str, Any] = {
    "id": "testp0",
    "episode": None,
    "words": ["see", SCRIPT, "now"],
    "gold": [[1, 2, "PER"]],
    "said": [[1, 2, "LOC"]],
    "rows": [[SCRIPT, "LOC"]],
    "columns": [["image", 0, None], [SCRIPT, 0, [0.0, 0.0, 0.5, 0.5]]],
    "maps": [["layer 1", [[0.9, 0.1]]], ["layer 2", [[0.25, 0.75]]]],
}
ATTENTION = {"about": "attention", "posts": [POST]}
POINTS = {
    "about": "points",
    "types": ["LOC", SCRIPT],
    "points": [[0.0, 0.0, 0, "Oakland", "p0"], [1.0, 0.5, 1, SCRIPT, "p1"]],
    "posts_read": 2,
}

SECTIONS = ("Overview", "Learning", "Breakdown", "Tables", "Ablations", "Sweeps", "Figures", "Runs", "Posts")


def facts_of(page: Path) -> dict[str, Any]:
    return Seen(page.read_text(encoding="utf-8")).embedded("facts")


def with_r(run: Path, lines: list[dict[str, Any]], **counts: list[int]) -> Path:
    """Make a run one of the discriminator: counts of R in its scores, R in its predictions."""
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"] = {"mean_r": 0.5, **{key.replace("_", "/"): value for key, value in counts.items()}}
    write_json(run / "metrics.json", metrics)
    write_lines(run / "predictions.test.jsonl", lines)
    return run


# ---------------------------------------------------------------- R


def test_the_histogram_counts_images_by_truth_over_the_seeds(
    write_run: Write, write_table: Write, tmp_path: Path
) -> None:
    runs = [
        with_r(write_run("a", GOOD), [], histogram=[3, 4], relevant_histogram=[0, 3], irrelevant_histogram=[3, 1]),
        with_r(write_run("b", GOOD, 1), [], histogram=[1, 1], relevant_histogram=[1, 0], irrelevant_histogram=[0, 1]),
    ]
    columns = [{"name": name, "corpus": "corp", "split": "test", "metric": "mean_r"} for name in ("R", "AUC")]
    cells = [
        {
            "row": 0,
            "column": n,
            "state": "done",
            "metric": "mean_r",
            "runs": [f"../../../runs/bert/corp/{run.name}" for run in runs],
        }
        for n in (0, 1)
    ]
    table = write_table([runs], columns=columns, cells=cells, draw=["histogram"])
    report.write(tmp_path / "report", [table])
    (drawn,) = facts_of(tmp_path / "report" / "index.html")["tables"][0]["figures"]  # once, however many columns
    assert drawn["series"] == [["relevant images", [1, 3]], ["irrelevant images", [3, 2]]]
    assert "sums over 2 seeds" in drawn["about"]


def test_without_truth_there_is_one_histogram_and_damaged_counts_are_told(write_run: Write, tmp_path: Path) -> None:
    whole = with_r(write_run("a", GOOD), [], histogram=[3, 4])
    broken = with_r(write_run("b", GOOD, 1), [], histogram=["<b>", 4])
    report.write(tmp_path / "report", runs=[whole, broken])
    first, second = facts_of(tmp_path / "report" / "index.html")["figures"]
    assert first["drawn"][0]["series"] == [["images", [3, 4]]]
    assert second["drawn"][0]["kind"] == "absent" and "no histogram of R" in second["drawn"][0]["about"]


def test_r_stands_under_its_picture_and_posts_with_several_come_first(write_run: Write, tmp_path: Path) -> None:
    folder = corpus(tmp_path / "mine")
    two = {
        "id": "other",
        "images": ["a.jpg", "b.jpg", "c.jpg"],
        "scores": [0.8, 0.0, 0.3],
        "raw": [1.5, None],
        "blank": 0,
    }
    one = {"id": "testp1", "images": ["gone.jpg"], "scores": [0.25], "raw": [-1.0], "blank": 0.1}
    both = {**two, "id": "both", "raw": [1.5, 0.0, -1.0]}
    run = with_r(write_run("a", GOOD, corpus=str(folder)), [one, two, both], histogram=[1, 2])
    report.write(tmp_path / "report", runs=[run])
    drawn = facts_of(tmp_path / "report" / "index.html")["figures"][0]["drawn"][1]
    assert [post["id"] for post in drawn["posts"]] == ["both", "testp1", "other"]
    assert [post["scores"] for post in drawn["posts"]] == [[0.8, 0.0, 0.3], [0.25], [0.8, None]]
    known, unknown = drawn["posts"][1], drawn["posts"][2]
    assert known["words"] == ["two", "words"] and known["shots"] == [["gone.jpg", browser.MISSING, ""]]
    assert unknown["words"] == [] and unknown["shots"][0] == ["a.jpg", browser.UNKNOWN, ""]


@pytest.mark.parametrize(
    "wrong",
    [
        "[]",
        '{"id": 1}',
        '{"id": "a", "images": ["b"], "scores": [7], "raw": [1]}',
        '{"id": "a", "images": ["b"], "scores": [1%s], "raw": [1]}' % ("0" * 400),
        "\x00",
    ],
    ids=range(5),
)
def test_lines_without_r_are_told_by_their_number(write_run: Write, tmp_path: Path, wrong: str) -> None:
    run = with_r(write_run("a", GOOD), [], histogram=[1, 2])
    (run / "predictions.test.jsonl").write_text(wrong + "\n")
    report.write(tmp_path / "report", runs=[run])
    drawn = facts_of(tmp_path / "report" / "index.html")["figures"][0]["drawn"][1]
    assert drawn["kind"] == "absent" and "jsonl:1: no line with the R of images" in drawn["about"]


# ---------------------------------------------------------------- what is kept in run folders


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    for kind, content in {"attention": ATTENTION, "tsne": POINTS}.items():
        path = figure_file.write(tmp_path, kind, "dev", json.loads(json.dumps(content)))
        assert path == tmp_path / "figures" / f"{kind}.dev.json"
        assert figure_file.read(path).items() >= content.items()


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("attention", {"version": 2}, "of version 2"),
        ("attention", {"kind": "painting"}, "is no figure"),
        ("attention", {"about": 3}, "about must be a text, got 3"),
        ("attention", {"extra": 3}, "no key 'extra'"),
        ("attention", {"posts": [{**POST, "maps": [["layer 1", [[0.9]]]]}]}, "not 1 x 2"),
        ("attention", {"posts": [{**POST, "maps": [["layer 1", [["<b>", 1]]]]}]}, "must be a number, got '<b>'"),
        ("attention", {"posts": [{**POST, "said": [[2, 9, "LOC"]]}]}, "outside the post"),
        (
            "attention",
            {"posts": [{**POST, "columns": [["a", 0, [1, 2]]] * 2}]},
            "value 3 of the list is missing",
        ),
        ("attention", {"posts": [POST] * 51}, "posts must be a list of at most 50"),
        ("tsne", {"points": [[0.0, 0.0, 5, "a", "b"]]}, "a type that has no name"),
        ("tsne", {"types": "PER"}, "types must be a list, got 'PER'"),
    ],
)
def test_a_file_that_no_mnerkit_wrote_is_refused_in_one_line(
    tmp_path: Path, kind: str, change: dict[str, Any], said: str
) -> None:
    path = figure_file.write(tmp_path, kind, "test", ATTENTION if kind == "attention" else POINTS)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=said) as refused:
        figure_file.read(path)
    assert "\n" not in str(refused.value)


def test_a_table_shows_the_figures_that_it_asks_for_and_says_what_is_not_drawn_yet(
    write_run: Write, write_table: Write, tmp_path: Path
) -> None:
    run = write_run("a", GOOD, corpus=str(corpus(tmp_path / "mine")))
    path = figure_file.write(run, "attention", "test", ATTENTION)
    figure_file.write(run, "tsne", "dev", POINTS)
    out, table = tmp_path / "report", write_table([[run]], draw=["attention", "tsne", "cases"])
    report.write(out, [table])
    facts = facts_of(out / "index.html")
    maps, absent, cases = facts["tables"][0]["figures"]
    (post,) = maps["posts"]
    assert maps["types"] == ["LOC", "PER"] and (post["gold"], post["said"]) == ([1, 2, 1], [1, 2, 0])
    assert post["maps"] == POST["maps"] and post["shots"][0][1] == 0
    assert absent["kind"] == "absent" and f"mnerkit draw tsne {run.resolve()}`" in absent["about"]
    assert cases["runs"] == [0]
    (other,) = facts["figures"]  # nobody asked for it, and it is there
    assert [each["points"] for each in other["drawn"]] == [POINTS["points"]]
    path.write_text("{")
    problems = report.write(out, [table]).problems
    assert any("attention.test.json is damaged" in each for each in problems)


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def drawn(write_run: Write, tmp_path: Path) -> Path:
    """The page of a run with figures of every kind and hostile names."""
    lines = [{"id": "testp0", "images": ["a.jpg", SCRIPT], "scores": [0.8, 0.25], "raw": [1.5, -1.0], "blank": 0.0}]
    run = with_r(write_run("a", GOOD, corpus=str(corpus(tmp_path / "mine"))), lines, histogram=[1, 20, 300])
    figure_file.write(run, "attention", "test", ATTENTION)
    square = [[word, "PER" if word == "Kevin" else ""] for word in WORDS]
    nodes = [[word, None, None] for word in WORDS[:-1]] + [["1", 0, [0, 0, 1, 1]]]
    weights = [[(row - column) / 5 for column in range(5)] for row in range(5)]
    graph = {**POST, "words": WORDS, "rows": square, "columns": nodes, "maps": [["A", weights], ["A'", weights]]}
    figure_file.write(run, "adjacency", "test", {"about": "graph", "posts": [graph]})
    figure_file.write(run, "tsne", "test", POINTS)
    report.write(tmp_path / "report", runs=[run])
    return tmp_path / "report" / "index.html"


def test_every_kind_is_drawn_and_hostile_names_are_text(drawn: Path, tmp_path: Path) -> None:
    script = """
      return [0, 1, 2, 3, 4].map((k) => { go("figures", { k }); return main.innerHTML; }).join("");"""
    seen = Seen(scripted(drawn, "#figures", script, tmp_path / "profile"))
    assert "script" not in seen.tags and not [name for _, name, _ in seen.attributes if name.startswith("on")]
    classes = [(tag, value) for tag, name, value in seen.attributes if name == "class"]
    # two cells of attention, two maps of 5 x 5 of which the lower triangle is above 0 and the upper one below
    assert (classes.count(("rect", "cell")), classes.count(("rect", "cell below"))) == (2 + 2 * 15, 2 * 10)
    assert classes.count(("rect", "bin")) == 3 and classes.count(("path", "dot")) == 2
    assert classes.count(("span", "box")) == 1 and classes.count(("line", "divide")) == 4
    assert SCRIPT in texts(seen, "title") and SCRIPT in texts(seen, "h3") + texts(seen, "p") + texts(seen, "mark")
    assert "0.750" in texts(seen, "text") and "0.900" not in texts(seen, "text"), "the last layer comes first"
    assert "R = 0.80" in texts(seen, "b") and "not known here" in texts(seen, "figcaption")
    assert "layer 1" in texts(seen, "option")
    (opacity,) = {value for tag, name, value in seen.attributes if (tag, name) == ("rect", "style") and "0.15" in value}
    assert opacity.startswith("fill-opacity")  # 0.45 * 0.25 / 0.75: text on a cell stays readable


def test_a_layer_of_weights_is_smooth_and_hides_no_picture(drawn: Path, tmp_path: Path) -> None:
    script = """
      const layer = layerOf([["a", [0, 0, 0.5, 1], 1, 0], ["b", [0.5, 0, 1, 1], -0.5, 0]], 1);
      const { data } = layer.getContext("2d").getImageData(0, GRAIN / 2, GRAIN, 1);
      return [...Array(GRAIN).keys()].map((n) => [...data.slice(4 * n, 4 * n + 4)]);"""
    points = scripted(drawn, "#figures", script, tmp_path / "profile")
    opacity = [alpha / 255 for *_, alpha in points]
    assert 0.6 < max(opacity) < 0.75 and min(opacity) < 0.05  # between the two weights lies one of nothing
    assert max(abs(one - other) for one, other in pairwise(opacity)) < 0.1
    (red, _, _, _), (_, _, blue, _) = points[3], points[-3]
    assert red > points[3][1] and blue > points[-3][0], "warm above 0, cold below"


def test_the_figure_that_was_asked_for_comes_first(write_run: Write, tmp_path: Path) -> None:
    run, page = write_run("a", GOOD), tmp_path / "page.html"
    figure_file.write(run, "attention", "test", ATTENTION)
    figure_file.write(run, "tsne", "test", POINTS)
    assert main(["draw", "tsne", str(run), "--out", str(page)]) == 0
    [own] = Seen(page.read_text()).embedded("facts")["figures"]
    assert [each["kind"] for each in own["drawn"]] == ["tsne", "attention"]


def test_a_page_without_figures_says_so(write_run: Write, tmp_path: Path) -> None:
    report.write(tmp_path / "report", runs=[write_run("a", GOOD)])
    seen, complaints = in_browser(tmp_path / "report" / "index.html", "#figures", tmp_path / "profile")
    assert complaints == "" and "none of the runs has one" in texts(seen, "p")


def test_maps_of_several_posts_are_regions_with_names_of_their_own(write_run: Write, tmp_path: Path) -> None:
    run = write_run("a", GOOD, corpus=str(corpus(tmp_path / "mine")))
    figure_file.write(run, "attention", "test", {**ATTENTION, "posts": [POST, {**POST, "id": "testp1", "episode": 3}]})
    report.write(tmp_path / "report", runs=[run])
    seen, complaints = in_browser(tmp_path / "report" / "index.html", "#figures", tmp_path / "profile")
    names = [value for tag, name, value in seen.attributes if (tag, name) == ("div", "aria-label")]
    assert (complaints, names) == ("", ["layer 2 of post testp0", "layer 2 of post testp1 · episode 3"])


def test_a_page_of_figures_leads_to_what_it_holds_alone(
    write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, page = write_run("a", GOOD), tmp_path / "page.html"
    figure_file.write(run, "tsne", "test", POINTS)
    assert main(["draw", "tsne", str(run), "--out", str(page)]) == 0
    seen, complaints = in_browser(page, "", tmp_path / "profile")
    assert (complaints, sections(seen)) == ("", ["Breakdown", "Figures", "Runs"])
    report.write(tmp_path / "report", runs=[run])
    seen, complaints = in_browser(tmp_path / "report" / "index.html", "#sweeps", tmp_path / "profile")
    assert sections(seen) == ["Overview", "Breakdown", "Tables", "Sweeps", "Figures", "Runs", "Posts"]


def sections(seen: Seen) -> list[str]:
    """Names of the sections that the page leads to."""
    return [text for owner, text in seen.texts if owner == "a" and text in SECTIONS]
