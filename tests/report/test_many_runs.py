"""Many runs that answered the same posts: what was parsed and measured once serves all, with the same figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mnerkit.data.corpus.post import ImageRef
from mnerkit.errors import DataError
from mnerkit.report.posts import browser
from mnerkit.scoring import post_sets
from mnerkit.scoring.comparison import read_answers
from mnerkit.scoring.counts import span_confusion
from mnerkit.scoring.post_sets import PostSets

GOLD = [[0, 1, "PER"], [1, 2, "LOC"]]


def written(path: Path, spans: list[list], gold: list = GOLD) -> Path:
    entities = [dict(zip(("start", "end", "type"), span, strict=True)) for span in spans]
    rows = [
        {"id": "1", "words": ["Ann", "Paris", "x"], "entities": entities, "gold": gold},
        {"id": "2", "words": ["y"], "entities": [], "gold": []},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files_that_say_the_same_are_parsed_once_and_counted_as_when_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [[], GOLD, [[0, 1, "LOC"]], GOLD, [[0, 1, "LOC"], [2, 3, "ORG"]]]
    files = [written(tmp_path / f"{number}.jsonl", spans) for number, spans in enumerate(said)]
    sets, parsed = PostSets(), []
    answer_of = post_sets.answer_of
    monkeypatch.setattr(post_sets, "answer_of", lambda line: parsed.append(line) or answer_of(line))
    posts = sets.add_file(files[0])
    for file in files[1:]:
        assert sets.add_file(file) is posts
        assert posts.counts(file)[0, 0] == 2  # also between additions
    assert len(parsed) == 5, "four answers to the first post, one to the second"
    assert posts.types == ["LOC", "ORG", "PER"]
    for file in files:
        answers = read_answers(file)
        assert posts.predicted(file) == [answer.predicted for answer in answers]
        rows = [(len(a.gold), len(a.predicted), len(a.gold & a.predicted)) for a in answers]
        assert posts.counts(file).tolist() == [list(row) for row in rows]
        expected = span_confusion([(a.gold, a.predicted) for a in answers], posts.types)
        np.testing.assert_array_equal(posts.confusion(file, posts.types), expected)
    assert posts.counts(files[2], "PER").tolist() == [[1, 0, 0], [0, 0, 0]]
    assert sets.add_file(written(tmp_path / "other.jsonl", [], gold=[])) is not posts


def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path) -> None:
    sets = PostSets()
    posts = sets.add_file(written(tmp_path / "a.jsonl", []))
    bad = written(tmp_path / "b.jsonl", [])
    bad.write_text(bad.read_text() + '{"id": 3}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:3: no prediction with gold entities"):
        sets.add_file(bad)
    bad.write_text("")
    with pytest.raises(DataError, match="holds no predictions"):
        sets.add_file(bad)
    assert list(posts.systems) == [tmp_path / "a.jsonl"]


@pytest.mark.parametrize("budget", [0, 700, 10**6])
def test_thumbnails_that_are_made_together_are_those_made_one_by_one(
    budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "_AT_ONCE", 2)
    refs = [ImageRef(str(n), pixels=np.full((4, 4 + n, 3), 9 * n, np.uint8)) for n in range(6)]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    refs[2:2] = [ImageRef("gone.jpg"), ImageRef("bad.jpg", tmp_path / "bad.jpg"), refs[0]]
    one, many = browser.Pictures(budget), browser.Pictures(budget)
    assert many.numbers(refs) == [one.number(ref) for ref in refs]
    assert many.sources == one.sources and many.left == one.left
    assert many.numbers(refs) == [one.number(ref) for ref in refs]
