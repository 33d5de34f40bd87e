"""Records of annotation tools, whose entities are spans of characters, and tags that are numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.cli import main
from mnerkit.data.corpus.character_spans import in_words
from mnerkit.data.corpus.corpus import Corpus, load_corpus
from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.tags import entities
from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.errors import DataError

TEXT = "we met Ann Lee, in Rome"
SPANS = [[7, 14, "PER"], [19, 23, "LOC"]]
OBJECTS = [{"start": start, "end": end, "label": type_} for start, end, type_ in SPANS]
LABELLED = [
    {"value": {"start": start, "end": end, "text": TEXT[start:end], "labels": [type_]}, "type": "labels", "id": "x"}
    for start, end, type_ in SPANS
]
STUDIO = {"id": 4, "data": {"text": TEXT}, "annotations": [{"result": [*LABELLED, {"type": "relation"}]}]}
WRONG_START = {"value": {"start": "0", "end": 2, "text": "we", "labels": ["PER"]}}
WRONG_BOUNDS = {"type": "hypertextlabels", "value": {"globalOffsets": [1], "hypertextlabels": ["PER"]}}
OFFSETS = [{"id": a, "start_offset": a, "end_offset": b, "label": c} for a, b, c in SPANS]
HYPERTEXT = [{"globalOffsets": {"start": a, "end": b}, "hypertextlabels": [c]} for a, b, c in SPANS]
FORMS: dict[str, Any] = {
    "doccano": {"id": 4, "text": TEXT, "label": SPANS},
    "older doccano": {"text": TEXT, "labels": SPANS},
    "spacy": {"text": TEXT, "entities": [[*span, "Q1"] for span in SPANS]},
    "spacy pairs": [TEXT, {"entities": SPANS}],
    "objects": {"text": TEXT, "spans": OBJECTS},
    "offsets": {"text": TEXT, "entities": [{"start_offset": a, "end_offset": b, "label": c} for a, b, c in SPANS]},
    "label studio": STUDIO,
    "label studio, another key": {**STUDIO, "data": {"tweet": TEXT, "note": "x"}, "predictions": [{"result": []}]},
    "label studio, hypertext": {
        **{"id": 4, "data": {"text": TEXT}},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {"result": [{"type": "hypertextlabels", "value": value} for value in HYPERTEXT]},
        ],
    },
    "relations": {"id": 4, "text": TEXT, "entities": OFFSETS, "relations": [{"from_id": 0, "to_id": 1, "type": "in"}]},
    "spacy classes": {"classes": ["PER"], "annotations": [[TEXT, {"entities": SPANS}], None]},
    "doc": {"text": TEXT, "ents": OBJECTS, "tokens": [{"start": a, "end": b} for a, b in split_text(TEXT)[1]]},
    "prodigy": {"text": TEXT, "spans": OBJECTS, "answer": "accept"},
    "cluener": {"text": TEXT, "label": {"PER": {"Ann Lee": [[7, 13]]}, "LOC": {"Rome": [[19, 22]]}}},
    "wrapped": {"version": 1, "data": [{"id": 4, "text": TEXT, "label": SPANS}]},
}


def corpus(folder: Path, *rows: Any, suffix: str = ".jsonl") -> Corpus:
    for split in ("train", "dev", "test"):
        text = json.dumps(rows) if suffix == ".json" else "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{split}{suffix}").write_text(text)
    return load_corpus(str(folder))


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("name", FORMS)
def test_spans_of_characters_are_read_as_words_and_tags(name: str, suffix: str, tmp_path: Path) -> None:
    found = corpus(tmp_path, FORMS[name], suffix=suffix)
    (post,) = found.splits["train"]
    assert post.words == ("we", "met", "Ann", "Lee", ",", "in", "Rome")
    assert entities(post.tags or ()) == [Entity(2, 4, "PER"), Entity(6, 7, "LOC")]
    assert any("split into words" in remark or "split into their tokens" in remark for remark in found.remarks)
    assert post.id == ("4" if '"id": 4' in json.dumps(FORMS[name]) else "train-1")


def test_spans_that_fit_no_words_are_widened_and_of_overlapping_ones_the_longest_is_read() -> None:
    notes = RecordNotes()
    spans = [[8, 14, "PER"], [11, 14, "LOC"], [19, 21, "LOC"]]
    row = in_words({"text": TEXT, "label": spans, "images": ["a.jpg"]}, "here", notes)
    assert row["tags"] == ["O", "O", "B-PER", "I-PER", "O", "O", "B-LOC"] and row["images"] == ["a.jpg"]
    (remark,) = notes.remarks()
    assert "widened to whole words" in remark and "the longest was read" in remark


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": TEXT, "label": [[0, 99, "PER"]]}, "the span 0 to 99 lies outside its text of 23 characters"),
        ({"text": TEXT, "label": [[5, 5, "PER"]]}, "the span 5 to 5 lies outside"),
        ({"text": TEXT, "label": [[2, 3, "PER"]]}, "covers no word"),
        ({"text": TEXT, "label": [[0, 2]]}, "is no span"),
        ({"text": TEXT, "label": [[0, True, "PER"]]}, "is no span"),
        ({"text": TEXT, "label": [[0, 2, " "]]}, "' ' is no entity type|'' is no entity type"),
        ({"text": TEXT, "label": [[0, 2, "A"]], "tokens": [{"start": 3, "end": 1}]}, "under 'tokens' is no word"),
        ({"text": TEXT, "label": {"PER": {"Ann": [7]}}}, "'Ann' under 'label' needs a list of .first, last."),
        ({"tokenized_text": ["a"], "ner": [[0, 1, "PER"]]}, "under 'ner' lies outside its 1 words"),
        ({"tokenized_text": ["a"], "ner": [[0, 0, "PER"], [0, 0, "LOC"]]}, "overlaps another entity"),
        ({"paragraphs": [{"sentences": [{"tokens": [7]}]}]}, "a paragraph of spaCy needs 'sentences'"),
        ({"id": 1, "data": {"a": "b", "c": "d"}, "annotations": [{"result": []}]}, "has no text; its keys are a, c"),
        ({"text": TEXT, "entities": [{"start": 0, "end": 2}]}, "is no span"),
        ({**STUDIO, "annotations": [{"result": []}] * 2}, "2 annotations of one text"),
        ({**STUDIO, "annotations": [7]}, "has no list 'result'"),
        ({"data": {"tweet": TEXT}, "annotations": [{"result": [WRONG_START]}]}, "is no span"),
        ({**STUDIO, "annotations": [{"result": [WRONG_BOUNDS]}]}, "is no span"),
    ],
)
def test_what_is_wrong_with_a_span_is_said_with_its_line(record: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"train\.jsonl:2: .*{said}"):
        corpus(tmp_path, FORMS["doccano"], record)


@given(text=st.text(st.sampled_from("ab ,.#@-\n"), max_size=30), data=st.data())
def test_any_span_is_read_as_the_words_that_it_touches(text: str, data: st.DataObject) -> None:
    spans = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.just("X")), max_size=1))
    try:
        row = in_words({"text": text, "label": [list(span) for span in spans]}, "here", RecordNotes())
    except DataError:
        ((start, end, _),) = spans
        assert not text[start:end].strip() or end > len(text) or start >= end
        return
    words, offsets = split_text(text)
    touched = [any(start < b and a < end for start, end, _ in spans) for a, b in offsets]
    assert row["words"] == list(words) and [tag != "O" for tag in row["tags"]] == touched


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("labels.txt", "O\nB-PER\n"),
        ("labels.json", '["O", "B-PER"]'),
        ("labels.json", '{"O": 0, "B-PER": 1}'),
        ("labels.json", '{"0": "O", "1": "B-PER"}'),
        (
            "dataset_info.json",
            '{"features": {"ner_tags": {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, '
            '"_type": "Sequence"}}}',
        ),
    ],
)
def test_names_of_tags_that_are_numbers(file: str, content: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content)
    (post,) = corpus(tmp_path, {"tokens": ["we", "Belan"], "ner_tags": [0, 1]}).splits["train"]
    assert post.tags == ("O", "B-PER")


@pytest.mark.parametrize("content", ["7", '{"O": 0, "B-PER": 2}', '["O", 3]', '{"O": 0, "B-PER": 0}'])
def test_names_that_are_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels\.json: expected the names of tags"):
        corpus(tmp_path, {"tokens": ["we", "Belan"], "ner_tags": [0, 1]})


def test_records_with_tags_of_another_scheme_are_read_as_bio(tmp_path: Path) -> None:
    found = corpus(tmp_path, {"tokens": ["Ann", "Lee", "Bob"], "ner_tags": ["B-PER", "E-PER", "S-PER"]})
    assert found.splits["dev"][0].tags == ("B-PER", "I-PER", "B-PER")
    assert any("BIOES tags were read as BIO" in remark for remark in found.remarks)


def test_a_method_learns_from_spans_of_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("Ann", "Bob", "Cleo", "Dan")
    rows = [{"text": f"we met {name} today", "label": [[7, 7 + len(name), "PER"]]} for name in names for _ in range(8)]
    (tmp_path / "mine").mkdir()
    corpus(tmp_path / "mine", *rows)
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", str(tmp_path / "mine"), "--runs_dir", str(tmp_path / "runs")]
    fit += ["--name", "one", "--trainer.max_epochs", "15", "--trainer.enable_progress_bar", "false"]
    assert main([*fit, "--model.lr", "1e-2"]) == 0
    (run,) = (tmp_path / "runs").glob("*/*/one")
    capsys.readouterr()
    assert main(["predict", str(run), "--text", "we met Ann today"]) == 0
    assert capsys.readouterr().out.startswith("we met [Ann PER")


WORDS = ["we", "met", "Ann", "Lee"]
SENTENCES = [
    {"tokens": [{"orth": word, "ner": tag} for word, tag in zip(WORDS, ["O", "-", "B-PER", "L-PER"], strict=True)]}
]
TAGGED: dict[str, Any] = {
    "spacy 2": {
        "id": 0,
        "paragraphs": [{"sentences": [{"tokens": SENTENCES[0]["tokens"][:1]}, {"tokens": SENTENCES[0]["tokens"][1:]}]}],
    },
    "gliner": {"tokenized_text": WORDS, "ner": [[2, 3, "PER"]]},
    "underscores": {"tokens": WORDS, "ner_tags": ["O", "O", "B_PER", "I_PER"]},
    "suffixes": {"tokens": WORDS, "ner_tags": ["O", "O", "PER-B", "PER-I"]},
    "numbers as texts": {"tokens": WORDS, "ner_tags": ["0", "0", "1", "2"]},
}


@pytest.mark.parametrize("name", TAGGED)
def test_words_with_tags_of_other_tools_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}}))
    (post,) = corpus(tmp_path, TAGGED[name], suffix=".json").splits["dev"]
    assert post.words == tuple(WORDS) and post.tags == ("O", "O", "B-PER", "I-PER")


def test_what_nobody_annotated_is_passed_over_with_its_number(tmp_path: Path) -> None:
    rejected = {"text": TEXT, "spans": OBJECTS, "answer": "reject"}
    found = corpus(tmp_path, STUDIO, {**STUDIO, "annotations": []}, rejected)
    assert len(found.splits["train"]) == 1
    (remark,) = found.remarks
    assert "tasks without an annotation are passed over (3 tasks)" in remark and "(3 examples)" in remark


def test_python_pairs_pretty_printed_objects_and_paragraphs_are_read(tmp_path: Path) -> None:
    two = {"paragraphs": [{"sentences": SENTENCES}, {"sentences": SENTENCES}]}
    for split, text in (
        ("train", repr([(TEXT, {"entities": [tuple(span) for span in SPANS]})])),
        ("dev", json.dumps({"text": TEXT, "label": SPANS}, indent=1)),
        ("test", json.dumps(two)),
    ):
        (tmp_path / f"{split}.json").write_text(text)
    found = load_corpus(str(tmp_path))
    assert [len(entities(posts[0].tags or ())) for posts in found.splits.values()] == [2, 2, 1]
    assert [post.id for post in found.splits["test"]] == ["test-1", "test-1.2"]


def test_texts_without_blanks_are_cut_into_characters_and_types_with_blanks_are_joined(tmp_path: Path) -> None:
    row = {"text": "王小明 loves 北京", "label": [[0, 3, "a person"], [10, 12, "LOC"]]}
    found = corpus(tmp_path, row)
    (post,) = found.splits["train"]
    assert post.words == ("王", "小", "明", "loves", "北", "京")
    assert post.tags == ("B-a_person", "I-a_person", "I-a_person", "O", "B-LOC", "I-LOC")
    assert any("blanks in entity types were read as _ (3 types)" in remark for remark in found.remarks)


def test_a_record_without_tags_is_refused_with_its_keys(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no tags\.\nIts keys are text, lang; accepted are id, .*; a corpus needs 'tags'"
    ):
        corpus(tmp_path, {"text": TEXT, "lang": "en"})
    with pytest.raises(DataError, match="'words' must be a list of strings, found a list with list"):
        corpus(tmp_path, {"tokens": [["a"]], "ner_tags": [["O"]]})
