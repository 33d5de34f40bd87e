"""`mnerkit data convert`: the same posts in another form, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mnerkit
from mnerkit.cli.data import main
from mnerkit.data.corpus.conversion import FORMS
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import Post
from mnerkit.errors import DataError, UsageError

SPLITS = ("train", "valid", "test")
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
WORD = st.one_of(
    st.sampled_from(["Ann", "IMGID:1", "-DOCSTART-", "#", " ", "\t", "\n", "\r", "", "a b"]), st.text(LETTERS)
)
TAG = st.sampled_from(["O", "B-PER", "I-PER", "I-LOC", "B-OTHER"])
NAME = st.sampled_from(["1.jpg", "2.jpg", "2.JPG", "a/3.png", "x"])


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    pairs = draw(st.lists(st.tuples(WORD, TAG), max_size=4))
    images = draw(st.one_of(st.just(["1.jpg"]), st.lists(NAME, max_size=2)))
    record: dict[str, Any] = {"words": [word for word, _ in pairs], "tags": [tag for _, tag in pairs], "images": images}
    record["id"] = draw(
        st.one_of(st.sampled_from(["1", "1", "2", 7]), st.text(LETTERS.filter(lambda x: x not in "/\\"), max_size=3))
    )
    if draw(st.booleans()) and images:
        record["captions"] = [draw(st.sampled_from(["a cat", ""])) for _ in images]
        record["boxes"] = [[{"box": [0.1, 0.2, 0.3, 0.7], "score": draw(st.sampled_from([0.1, 1.0]))}] for _ in images]
        record |= {"unit": "shares", "relevance": [0.25 for _ in images]}
    return record


def facts(post: Post) -> Any:
    said = [(ref.name, ref.caption or None, ref.relevance, ref.objects) for ref in post.images]
    return post.id, post.words, post.tags, said


def posts_of(corpus: str) -> dict[str, list[Any]]:
    return {split: [facts(post) for post in posts] for split, posts in load_corpus(corpus).splits.items()}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(records(), min_size=1, max_size=3))
def test_what_is_written_is_read_as_the_same_posts_or_refused(rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for split in SPLITS:
            (folder / "in" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        here = posts_of(str(folder / "in"))
        for form in FORMS:
            out = folder / form
            try:
                files = mnerkit.convert(folder / "in", out, form, report=lambda _: None)
            except DataError:
                # records hold every post; there must be one
                assert form in ("imgid", "conll") or not here["train"]
                assert not out.exists() and sorted(path.name for path in folder.iterdir())[0][0] != "."
                continue
            assert [file.parent for file in files] == [out] * 3
            there = posts_of(str(out))
            if form == "conll":
                assert [post[1:3] for post in here["train"]] == [post[1:3] for post in there["train"]]
            else:
                assert here == there


@pytest.fixture
def tweets(tmp_path: Path) -> Path:
    """Posts with a picture each, of which one is there."""
    folder = tmp_path / "in"
    (folder / "images").mkdir(parents=True)
    for split in SPLITS:
        (folder / f"{split}.txt").write_text(f"IMGID:{split}\nAnn\tB-PER\nLee\tE-PER\n\nIMGID:{split}2\nUlm\tS-LOC\n")
    Image.new("RGB", (4, 4)).save(folder / "images" / "train.jpg")
    return folder


@pytest.mark.parametrize("form", ["jsonl", "imgid", "hf"])
def test_pictures_are_found_from_the_new_folder(form: str, tweets: Path, capsys: Any) -> None:
    out = tweets.parent / "elsewhere" / "out"
    out.parent.mkdir()
    assert main(["convert", str(tweets), str(out), "--to", form]) == 0
    printed = capsys.readouterr().err
    assert "BIOES tags were read as BIO" in printed and "images is a link to" in printed
    assert f"wrote {out / 'valid'}" in printed and "(2 posts)" in printed
    assert posts_of(str(out)) == posts_of(str(tweets))
    (picture,) = load_corpus(str(out)).splits["train"][0].images
    assert picture.present


def test_one_file_becomes_one_file_in_the_form_of_its_name(tweets: Path) -> None:
    for name, beginning in (("a.txt", "IMGID:train\nAnn\tB-PER"), ("a.conll", "Ann B-PER\n"), ("a.jsonl", '{"id": "t')):
        (written,) = mnerkit.convert(tweets / "train.txt", tweets.parent / name, report=lambda _: None)
        assert written == tweets.parent / name and written.read_text().startswith(beginning)
    back = tweets.parent / "back.txt"
    mnerkit.convert(tweets.parent / "a.jsonl", back, report=lambda _: None)
    assert back.read_text() == (tweets.parent / "a.txt").read_text()


def test_a_generated_corpus_is_written_with_its_pictures(tmp_path: Path, monkeypatch: Any) -> None:
    from mnerkit.data import probe

    monkeypatch.setattr(probe, "SIZES", dict.fromkeys(("train", "dev", "test"), 2))
    mnerkit.convert("probe", tmp_path / "p", report=lambda _: None)
    written, drawn = load_corpus(str(tmp_path / "p")), load_corpus("probe")
    assert [facts(post) for post in written.splits["dev"]] == [facts(post) for post in drawn.splits["dev"]]
    assert all(ref.present for post in written.splits["test"] for ref in post.images)


def test_nothing_is_written_over_and_a_loss_is_refused_with_the_way_out(tweets: Path, tmp_path: Path) -> None:
    before = (tweets / "train.txt").read_text()
    for out in (tweets, tweets / "train.txt"):
        with pytest.raises(UsageError, match="already"):
            mnerkit.convert(tweets, out)
    with pytest.raises(UsageError, match="already"):
        mnerkit.convert(tweets / "train.txt", tweets / "valid.txt")
    with pytest.raises(UsageError, match="there is no folder"):
        mnerkit.convert(tweets, tmp_path / "none" / "out")
    with pytest.raises(UsageError, match=r"no form jsonk.*Did you mean"):
        mnerkit.convert(tweets, tmp_path / "out", "jsonk")
    captions = tmp_path / "captions.txt"
    captions.write_text("".join(f"{split}{two}.jpg :a cat\n" for split in SPLITS for two in ("", "2")))
    with pytest.raises(DataError, match=r"imgid can't hold post train of train: .*captions\.\n.*--captions none"):
        mnerkit.convert(tweets, tmp_path / "out", "imgid", captions=captions)
    mnerkit.convert(tweets, tmp_path / "out", captions=captions, report=lambda _: None)
    assert load_corpus(str(tmp_path / "out")).splits["test"][1].images[0].caption == "a cat"
    assert (tweets / "train.txt").read_text() == before
