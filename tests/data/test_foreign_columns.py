"""Files of columns that other tools write are read, with remarks about what was taken for what."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.foreign_columns import Columns, chosen_columns, in_bio, is_plain
from mnerkit.data.corpus.readers import bio_posts, read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.errors import DataError, UsageError

CASES = {
    "bioes": ("IMGID:1\nBelan\tB-PER\nVik\tE-PER\nin\tO\nOrt\tS-LOC\n", "B-PER I-PER O B-LOC", "BIOES"),
    "docstart": ("-DOCSTART-\tO\n\nIMGID:1\nwe\tO\nBelan\tB-PER\n", "O B-PER", "-DOCSTART-"),
    "conll": ("-DOCSTART- -X- -X- O\n\nwe PRP B-NP O\nmet VBD B-VP O\nBelan NNP B-NP B-PER\n", "O O B-PER", "number 4"),
    "fine": ("IMGID:1\nwe\tO\tO\nBelan\tB-person\tB-musician\n", "O B-person", "number 2 as the tag"),
    "iob1": ("IMGID:1\nAnn\tI-PER\nLee\tI-PER\nBob\tB-PER\nin\tO\nOrt\tI-LOC\n", "B-PER I-PER B-PER O B-LOC", "IOB1"),
    "io": ("IMGID:1\nAnn\tI-PER\nLee\tI-PER\nin\tO\nOrt\tI-LOC\n", "B-PER I-PER O B-LOC", "6 I- as B-"),
    "bilou": ("IMGID:1\nAnn\tB-PER\nLee\tL-PER\nin\tO\nOrt\tU-LOC\n", "B-PER I-PER O B-LOC", "BILOU tags"),
    "blanks": ("IMGID:1\nAnn  B-PER\nin O\nOrt B-LOC \n", "B-PER O B-LOC", ""),
    "plain": ("IMGID:1\nwe\tO\nBelan\tB-PER\nVik\tI-LOC\n", "O B-PER I-LOC", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_a_foreign_form_is_read_with_a_remark(name: str, tmp_path: Path) -> None:
    text, tags, remark = CASES[name]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text(text)
    found = load_corpus(str(tmp_path))
    (post,) = found.splits["train"]
    assert post.tags == tuple(tags.split())
    assert len(post.images) == (name != "conll")
    assert bool(found.remarks) == bool(remark) and any(remark in line for line in found.remarks or [""])
    if name == "conll":
        assert post.id == "train-3" and post.words == ("we", "met", "Belan")


def test_tags_that_are_numbers_have_their_names_from_a_file_beside(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"tokens": ["we", "Belan"], "ner_tags": [0, 1]}\n')
    with pytest.raises(DataError, match=r"train\.jsonl:1: the tags in 'ner_tags' are numbers, and .*labels\.txt"):
        load_corpus(str(tmp_path))
    (tmp_path / "labels.txt").write_text("O\nB-PER\nI-PER\n")
    assert load_corpus(str(tmp_path)).splits["dev"][0].tags == ("O", "B-PER")


TEXTS = ("", " ", "\t", "IMGID:1", "w\tO", "w\tB-PER", "w\tI-PER", "w\tI-LOC", "w\tB-LOC")
ODD = ("-DOCSTART-\tO", "w\tS-PER", "w O", "w\tO\tO", "\tO", "w\tPER", "IMGID:2\tO", "- \tO")


@given(st.lists(st.sampled_from(TEXTS), max_size=9), st.lists(st.sampled_from(ODD), max_size=1))
def test_lines_that_count_as_plain_are_those_that_would_be_left_as_they_are(texts: list[str], odd: list[str]) -> None:
    rows = list(enumerate([*texts[:4], *odd, *texts[4:]], 1))
    notes = RecordNotes()
    if is_plain(rows):
        assert chosen_columns(rows, Path("train.txt"), notes) == (rows, True)
        with suppress(DataError):
            posts = list(bio_posts(rows, "train.txt"))
            assert [post.tags for post in in_bio(posts, notes)] == [post.tags for post in posts]
        assert not notes.remarks()


def test_the_usual_file_is_plain() -> None:
    rows = ["IMGID:1", "we\tO", "Ann\tB-PER", "Lee\tI-PER", "", "IMGID:2", "-\tO", "Bob\tI-PER", ""]
    assert is_plain(enumerate(rows, 1))


def corpus(folder: Path, text: str, name: str = "train.txt") -> Path:
    for split in ("train", "dev", "test"):
        (folder / name.replace("train", split)).write_text(text)
    return folder


FORMS = {
    "numbers, outer entities": "# http://a.b\t[2010]\n1\tAnn\tB-PER\tO\n2\tUni\tB-ORG\tO\n3\tUlm\tI-ORG\tB-LOC\n",
    "comments": "# id 5239 domain=en\nAnn _ _ B-PER\nUni _ _ B-ORG\nUlm _ _ I-ORG\n",
    "tag in the middle": "Ann\tB-PER\tNN\nUni\tB-ORG\tNN\nUlm\tI-ORG\tNN\n",
    "phrases": "Ann NNP B-NP B-PER\nUni NNP B-NP B-ORG\nUlm NNP I-NP I-ORG\n",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("file", ["train.txt", "train.conll"])
def test_columns_are_recognised_by_what_they_hold(name: str, file: str, tmp_path: Path) -> None:
    found = load_corpus(str(corpus(tmp_path, FORMS[name], file)))
    (post,) = found.splits["dev"]
    assert post.words == ("Ann", "Uni", "Ulm") and post.tags == ("B-PER", "B-ORG", "I-ORG")
    (remark,) = found.remarks
    assert "3 posts" in remark and ("comments" in remark) == ("#" in FORMS[name])


def test_columns_that_are_named_are_read(tmp_path: Path) -> None:
    folder = str(corpus(tmp_path, "7 we B-X O\n8 Ann B-X B-PER\n"))
    found = load_corpus(folder, columns="_,word,tag,_")
    assert found.splits["test"][0].words == ("we", "Ann") and found.splits["test"][0].tags == ("B-X", "B-X")
    with pytest.raises(DataError, match=r"train\.txt:1: expected the 2 columns of --data.columns, found 4"):
        load_corpus(folder, columns="word,tag")
    for wrong in ("word", "word,word,tag", "word,tag,pos", ""):
        with pytest.raises(UsageError, match="one of them word, one tag"):
            Columns.parse(wrong)
    with pytest.raises(UsageError, match="the columns of twitter2015 are known"):
        load_corpus("twitter2015", columns="word,tag")
    (tmp_path / "train.jsonl").write_text('{"words": ["a"], "tags": ["O"]}')
    with pytest.raises(DataError, match="holds records, which have no columns"):
        read_posts(tmp_path / "train.jsonl", None, None, RecordNotes(), Columns(0, 1, 2))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Ann NNP B-PER\nin O\n", r":2: expected 3 columns, found 2 in 'in O'"),
        ("Ann\n", r":1: expected two columns or more, found 1 in 'Ann'"),
        ("Ann NNP B-PER\nin IN O\nOrt NN LOC\n", r":3: 'LOC' in column 3 is no tag"),
        ("Ann NNP\nin IN\n", r":1: of 2 columns none holds tags: 'Ann NNP'"),
        ("Ann B-PER B-X NNP\nin O O IN\n", r":1: of 4 columns 2, 3 may all be tags"),
        ("Ann\tB-PER\n\tO\n", r":2: the first column is empty"),
    ],
)
def test_columns_that_can_not_be_read_are_named_with_what_is_accepted(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"train\.txt{fault}[^\n]*\nA line holds .*--data\.columns word,_,_,tag"):
        load_corpus(str(corpus(tmp_path, text)))


def test_a_file_with_one_beginning_apart_is_bio_and_one_without_is_iob1(tmp_path: Path) -> None:
    tail = "Bob\tI-PER\nLee\tI-PER\nin\tO\nUlm\tI-LOC\n"
    corpus(tmp_path, f"we\tO\n\n{tail}\nAnn\tB-PER\n")
    assert load_corpus(str(tmp_path)).splits["dev"][1].tags == ("I-PER", "I-PER", "O", "I-LOC")
    corpus(tmp_path, f"we\tO\n\n{tail}")
    assert load_corpus(str(tmp_path)).splits["dev"][1].tags == ("B-PER", "I-PER", "O", "B-LOC")


SPELLINGS = {
    "underscores": "Ann B_PER\nUni B_ORG\nUlm I_ORG\n",
    "suffixes": "Ann PER-B\nUni ORG-B\nUlm ORG-I\n",
    "tags first": "B-PER\tAnn\nB-ORG\tUni\nI-ORG\tUlm\n",
    "tabs or blanks": "Ann\tB-PER\nUni B-ORG\nUlm\tI-ORG \n",
    "ranges": "# text = Ann is O\n1\tAnn\t_\tB-PER\n2-3\tUniUlm\t_\tO\n2\tUni\t_\tB-ORG\n3\tUlm\t_\tI-ORG\n",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_spellings_and_orders_are_read_with_a_remark(name: str, tmp_path: Path) -> None:
    found = load_corpus(str(corpus(tmp_path, SPELLINGS[name].replace("\n", "\r\n"))))
    (post,) = found.splits["dev"]
    assert post.words == ("Ann", "Uni", "Ulm") and post.tags == ("B-PER", "B-ORG", "I-ORG")
    expected = {
        "underscores": "tags like B_PER were read as B-PER (9 tags)",
        "suffixes": "tags like PER-B were read as B-PER (9 tags)",
        "tags first": "number 2 was read as the word, number 1 as the tag",
        "tabs or blanks": "cells were read as parted by tabs or blanks",
        "ranges": "lines of CoNLL-U for ranges of words are passed over (3 lines)",
    }
    assert expected[name] in found.remarks[0]


def test_files_that_have_their_split_within_their_names_are_found(tmp_path: Path) -> None:
    for name in ("eng.train", "eng.testa", "eng.testb", "notes.md", "eng.readme"):
        (tmp_path / name).write_text("Ann B-PER\n")
    found = load_corpus(str(tmp_path))
    assert [file.name for file in found.files.values()] == ["eng.train", "eng.testa", "eng.testb"]
    assert "eng.testa was read as the dev split" in found.remarks[0]
    (tmp_path / "deu.train").write_text("Ann B-PER\n")
    with pytest.raises(DataError, match="has no train split"):
        load_corpus(str(tmp_path))


def test_lines_that_end_with_carriage_returns_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="carriage returns alone"):
        load_corpus(str(corpus(tmp_path, "Ann\tB-PER\rin\tO\r")))
    with pytest.raises(DataError, match="holds no posts"):
        load_corpus(str(corpus(tmp_path, "-DOCSTART- -X- O O\n\n")))
