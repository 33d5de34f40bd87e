"""`mnerkit data`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnerkit.cli.data import main
from mnerkit.data.corpus.catalogue import find_corpus
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.errors import DataError, UsageError

HOSTILE = "<script>alert('&')</script>"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    records = {
        "train": [
            {"id": f"no{HOSTILE}", "text": ["gone"], "label": ["O"], "images": ["gone.jpg"]},
            {
                "id": "two",
                "text": [HOSTILE, "Bo\x85b", "Dee"],
                "label": ["O", "B-PER", "I-PER"],
                "images": ["a.jpg", "b.jpg"],
            },
        ],
        "dev": [{"id": "d", "text": ["a"], "label": ["B-<b>"], "images": []}],
        "test": [{"id": "t", "text": ["a"], "label": ["O"], "images": ["a.jpg"]}],
    }
    for split, rows in records.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Image.fromarray(np.zeros((300, 900, 3), np.uint8)).save(folder / "images" / "a.jpg")
    (folder / "images" / "b.jpg").write_bytes(b"")
    return folder


def test_stats_prints_a_table_or_json(mine: Path, capsys) -> None:
    assert main(["stats", str(mine)]) == 0
    assert "posts without entities" in capsys.readouterr().out
    assert main(["stats", "mine", "--root", str(mine.parent), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["types"] == ["PER", "<b>"]
    assert stats["splits"]["train"]["images"] == {"present": 1, "missing": 1, "broken": 1}


def test_stats_takes_a_folder_with_one_split(mine: Path, capsys) -> None:
    (mine / "dev.jsonl").unlink()
    (mine / "test.jsonl").unlink()
    assert main(["stats", str(mine), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["splits"]) == ["train"]


def test_verify_exits_with_one_and_the_reasons(mine: Path, capsys) -> None:
    assert main(["verify", str(mine)]) == 1
    printed = capsys.readouterr().out
    assert "not whole" in printed and "gone.jpg" in printed and "b.jpg is an empty file" in printed
    assert main(["verify", str(mine), "--text_only"]) == 0
    assert "mine: whole (annotations)" in capsys.readouterr().out


class Seen(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("absent", [("dev",), ("train", "test")])
def test_verify_names_the_splits_that_are_absent_and_counts_the_others(
    mine: Path, absent: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    files = find_corpus(str(mine)).files
    for split in absent:
        files[split].unlink()
    assert main(["verify", str(mine), "--text_only"]) == 1
    said = capsys.readouterr().out
    posts = load_corpus(str(mine), splits=[split for split in files if split not in absent]).splits
    there = ", ".join(f"{split} {len(each)}" for split, each in posts.items())
    wanted = f"no {' and no '.join(absent)} split, which training needs; posts that are there: {there}\n"
    assert f"not whole (annotations)\n  fault   {wanted}" in said


def test_verify_of_a_named_corpus_compares_the_splits_that_are_there(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "twitter2015").mkdir()
    (tmp_path / "twitter2015" / "train.txt").write_text("IMGID:1\nAda\tB-PER\nsings\tO\n")
    assert main(["verify", "twitter2015", "--root", str(tmp_path), "--text_only"]) == 1
    said = capsys.readouterr().out
    assert "no dev and no test split, which training needs; posts that are there: train 1" in said
    assert "train has 1 posts, " in said and "dev has" not in said and "all entity counts" not in said


def test_show_writes_a_page_that_loads_and_runs_nothing(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text(f"a.jpg :a {HOSTILE} cat\nb.jpg :b\ngone.jpg :g\n")
    out = tmp_path / "page.html"
    assert main(["show", str(mine), "--out", str(out), "--captions", str(tmp_path / "captions.txt")]) == 0
    page = out.read_text(encoding="utf-8")
    seen = Seen(page)
    assert "script" not in seen.tags and seen.tags.count("article") == 2 and seen.tags.count("img") == 1
    assert all(address.startswith("data:image/") for address in seen.addresses)
    assert "gone.jpg is missing" in seen.text and "is an empty file" in seen.text
    assert seen.text.count(HOSTILE) == 3, "a word, an id and a caption"
    assert r"Bo\x85b DeePER" in seen.text and "\x85" not in page
    assert seen.text.index("two") < seen.text.index("gone"), "posts with pictures come first"
    assert "{{" not in page and len(page) < 30_000
    assert [file.name for file in tmp_path.glob(".page*")] == []


def test_show_never_replaces_a_file_unasked(mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.html"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        main(["show", str(mine), "--out", str(out)])
    assert out.read_text() == "mine"
    assert main(["show", str(mine), "--out", str(out), "--overwrite", "--split", "test", "--limit", "1"]) == 0
    assert "mine, test" in out.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="is a folder"):
        main(["show", str(mine), "--out", str(tmp_path)])
    with pytest.raises(UsageError, match="there is no folder"):
        main(["show", str(mine), "--out", str(tmp_path / "no" / "x.html")])


def test_show_of_the_probe_needs_no_files(tmp_path: Path) -> None:
    assert main(["show", "probe", "--variant", "multi", "--out", str(tmp_path / "p.html"), "--limit", "3"]) == 0
    assert "data:image/png" in (tmp_path / "p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["stat", "probe"], "Did you mean 'stats'"),
        (["stats", "twitter2016"], "Did you mean 'twitter201"),
        (["stats", "probe", "--rot", "x"], "Did you mean '--root'"),
        (["stats", "probe", "--js"], "no option '--js'"),
        (["stats", "probe", "more"], "no argument 'more'"),
        (["stats"], "CORPUS"),
        (["show", "probe"], "--out"),
        (["show", "probe", "--out", "x.html", "--split", "tset"], "tset"),
        (["show", "probe", "--out", "x.html", "--limit", "0"], "not a whole number above 0"),
    ],
)
def test_mistakes_end_in_a_short_message(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        main(arguments)
    assert message in str(refused.value) and str(refused.value).count("\n") <= 1


def test_malformed_data_is_a_data_error(mine: Path) -> None:
    (mine / "test.jsonl").write_bytes(b'{"text": ["\xff"]}')
    with pytest.raises(DataError, match=r"test\.jsonl:1: not UTF-8"):
        main(["verify", str(mine)])


def test_help_names_the_corpora_and_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:  # how fast it appears: test_commands.py
        main(["--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and "twitter2015" in said and "verify" in said
