"""Files of columns that other tools write are read, with remarks about what was taken for what."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.foreign_columns import as_bio, is_plain
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.errors import DataError

CASES = {
    "bioes": ("IMGID:1\nBelan\tB-PER\nVik\tE-PER\nin\tO\nOrt\tS-LOC\n", "B-PER I-PER O B-LOC", "BIOES"),
    "docstart": ("-DOCSTART-\tO\n\nIMGID:1\nwe\tO\nBelan\tB-PER\n", "O B-PER", "-DOCSTART-"),
    "conll": ("-DOCSTART- -X- -X- O\n\nwe PRP B-NP O\nmet VBD B-VP O\nBelan NNP B-NP B-PER\n", "O O B-PER", "number 4"),
    "fine": ("IMGID:1\nwe\tO\tO\nBelan\tB-person\tB-musician\n", "O B-person", "number 2 as the tag"),
    "iob1": ("IMGID:1\nAnn\tI-PER\nLee\tI-PER\nBob\tB-PER\nin\tO\nOrt\tI-LOC\n", "B-PER I-PER B-PER O B-LOC", "IOB1"),
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
        assert as_bio(rows, "train", notes) == (rows, True)
        assert not notes.remarks()


def test_the_usual_file_is_plain() -> None:
    rows = ["IMGID:1", "we\tO", "Ann\tB-PER", "Lee\tI-PER", "", "IMGID:2", "-\tO", "Bob\tI-PER", ""]
    assert is_plain(enumerate(rows, 1))
