"""The page of cases: right, wrong and missed entities of several runs, and nothing of the data that a browser obeys."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnerkit.cli import main
from mnerkit.errors import DataError
from mnerkit.report.posts import cases
from mnerkit.scoring.comparison import Key, common_posts, differing_posts, pooled_f1

HOSTILE = "<script>alert('&')</script>"


def row(
    number: int, found: list[tuple[int, int, str]], gold: list[tuple[int, int, str]], **more: Any
) -> dict[str, Any]:
    return {
        "id": f"post{number}",
        "words": ["Kevin", HOSTILE, "Oakland", "now"],
        "entities": [{"start": start, "end": end, "type": kind} for start, end, kind in found],
        "gold": gold,
        **more,
    }


GOLD: list[tuple[int, int, str]] = [(0, 2, "PER"), (2, 3, "LOC")]


def write(folder: Path, rows: list[dict[str, Any]], split: str = "test") -> Path:
    folder.mkdir(parents=True)
    (folder / f"predictions.{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    good = write(tmp_path / "good", [row(1, GOLD, GOLD), row(2, [], []), row(3, GOLD, GOLD)])
    bad = write(tmp_path / "bad", [row(2, [], []), row(1, [(0, 2, f"{HOSTILE}")], GOLD), row(4, [], GOLD)])
    (bad / "config.yaml").write_text(yaml.safe_dump({"plugin": HOSTILE, "data": {"corpus": "nowhere"}}))
    return [good, bad]


class Seen(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.marks: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.marks += [value or "" for name, value in attrs if tag == "mark" and name == "class"]

    def handle_data(self, data: str) -> None:
        self.text += data


def common(runs: list[cases.RunCases]) -> list[Key]:
    return common_posts([run.folder for run in runs], [run.cases for run in runs])


def test_a_page_tells_right_wrong_and_missed_entities_of_common_posts(two: list[Path]) -> None:
    runs = [cases.read_run(path) for path in two]
    keys = common(runs)
    assert keys == [(-1, "post1"), (-1, "post2")]
    assert differing_posts([run.cases for run in runs], keys) == [(-1, "post1")]
    assert [pooled_f1(run.cases[key] for key in keys) for run in runs] == [100.0, 0.0]
    seen = Seen(cases.page(runs, keys, keys[:1], {}))
    assert seen.marks[3:] == ["gold", "gold", "right", "right", "wrong", "missed", "missed"]  # after the legend's
    assert "F1 100.0 on 2 posts" in seen.text and "1 of 2 posts" in seen.text


def test_nothing_of_the_data_is_obeyed(two: list[Path]) -> None:
    runs = [cases.read_run(path) for path in two]
    keys = common(runs)
    page = cases.page(runs, keys, keys, {})
    seen = Seen(page)
    assert "script" not in seen.tags and "<script" not in page
    assert seen.text.count(HOSTILE) >= 6


def test_the_command_writes_a_page_with_thumbnails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mnerkit.data.corpus.corpus import load_corpus

    posts = load_corpus("probe", variant="fewshot", splits=("dev",), limit=3).splits["dev"]
    rows = [{"id": post.id, "words": post.words, "entities": [], "gold": [], "episode": 4} for post in posts]
    run = write(tmp_path / "run", rows, "dev")
    data = {"corpus": "probe", "variant": "fewshot", "limit": 3}
    (run / "config.yaml").write_text(yaml.safe_dump({"plugin": "mousing", "ablation": "no_image", "data": data}))
    out = tmp_path / "page.html"
    assert main(["draw", "cases", str(run), str(run), "--split", "dev", "--out", str(out)]) == 0
    page = out.read_text()
    assert page.count('<img src="data:image/') == sum(bool(post.images) for post in posts) > 0
    assert page.count("mousing no_image run") == 2
    assert main(["draw", "cases", str(run), "--split", "dev", "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_corpus_that_is_not_there_leaves_the_pictures_out_and_says_so(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["draw", "cases", str(two[1]), str(two[0]), "--out", str(out), "--differ"]) == 0
    assert "pictures are left out" in capsys.readouterr().err
    assert "1 of 2 posts" in out.read_text()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], r"predictions\.test\.jsonl:1: no prediction with gold"),
        ([json.dumps(row(1, [(0, 9, "PER")], []))], ":1: no prediction with gold"),
        ([json.dumps({"id": "x", "words": ["a"], "entities": []})], "with gold entities"),
        (["[]"], ":1: no prediction with gold"),
        ([], "holds no predictions"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, lines: list[str], says: str) -> None:
    folder = write(tmp_path / "run", [])
    (folder / "predictions.test.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=says):
        cases.read_run(folder)


def test_runs_that_can_not_be_compared_are_refused(tmp_path: Path, two: list[Path]) -> None:
    one = cases.read_run(two[0])
    with pytest.raises(DataError, match="no post"):
        common([one, cases.read_run(write(tmp_path / "a", [row(1, [], GOLD, episode=1)]))])
    with pytest.raises(DataError, match="'post1' has other words or gold"):
        common([one, cases.read_run(write(tmp_path / "b", [row(1, [], GOLD[:1])]))])
    with pytest.raises(DataError, match=r"no predictions\.test\.jsonl"):
        cases.read_run(tmp_path)
