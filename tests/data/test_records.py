"""Keys of records: each is read, or refused by name, or counted; corpora and `predict` read the same ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.batches.inputs import read_input
from mnerkit.data.corpus.corpus import Corpus, load_corpus
from mnerkit.data.pictures.objects import find_objects
from mnerkit.errors import DataError

POST = {"words": ["Ann", "sings"], "tags": ["B-PER", "O"], "images": ["a.png"]}


def corpus(folder: Path, **more: Any) -> Path:
    """A corpus of one record a split; keys that are None are left out."""
    row = {key: value for key, value in {**POST, **more}.items() if value is not None}
    for split in ("train", "dev", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps({"id": split, **row}) + "\n")
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / "a.png")
    return folder


def load(folder: Path, **more: Any) -> Corpus:
    return load_corpus(str(folder), captions=more.pop("captions_option", None))


NEAR = {
    **dict.fromkeys(["image", "img", "imgs", "image_id", "Images", "imgaes", "image-path", "picture"], "images"),
    **dict.fromkeys(["labels", "Tags", "ner", "lable"], "tags"),
    **dict.fromkeys(["caption", "captoins"], "captions"),
    **dict.fromkeys(["bboxes", "box"], "boxes"),
    **dict.fromkeys(["relevences", "relevance_scores"], "relevance"),
}


@pytest.mark.parametrize("key", NEAR)
def test_a_near_miss_of_a_key_is_refused_by_name_in_corpora_and_input(key: str, tmp_path: Path) -> None:
    folder = corpus(tmp_path, **{key: ["x"]})
    for read in (lambda: load_corpus(str(folder)), lambda: list(read_input(folder / "train.jsonl"))):
        with pytest.raises(DataError, match=rf"train\.jsonl:1: the key '{key}' is not read\. Did you mean") as refused:
            read()
        message = str(refused.value)
        assert NEAR[key] in message or "'label'" in message
        assert f"Its keys are id, words, tags, images, {key}; accepted are id, words" in message
        assert message.count("\n") == 1


def test_a_text_under_another_name_is_refused_with_the_keys_that_there_are(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1, "full_text": "we met Belan", "lang": "en"}\n')
    with pytest.raises(DataError, match=r"'full_text' is not read. Did you mean 'text'\?\nIts keys are id, full_text"):
        list(read_input(file))
    file.write_text('{"id": 1, "lang": "en"}\n')
    with pytest.raises(DataError, match=r"found neither.\nIts keys are id, lang; accepted are id, words, text"):
        list(read_input(file))


def test_other_keys_are_counted_in_one_remark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path, lang="en", author=3)
    assert load(folder).remarks == [
        f"{folder}: keys of records that are not read: 'lang' (3 records), 'author' (3 records)"
    ]
    assert main(["data", "verify", str(folder), "--text_only"]) == 0
    assert capsys.readouterr().out.count("keys of records that are not read") == 1
    with caplog.at_level(logging.WARNING):
        list(read_input(folder / "train.jsonl"))
    assert [line.getMessage().split(": ", 1)[1] for line in caplog.records] == [
        "keys of records that are not read: 'lang' (1 records), 'author' (1 records)"
    ]


def test_tokens_and_ner_tags_are_read_with_a_remark(tmp_path: Path) -> None:
    folder = corpus(tmp_path, words=None, tags=None, tokens=POST["words"], ner_tags=POST["tags"])
    found = load(folder)
    assert found.splits["train"][0].words == ("Ann", "sings") and found.splits["dev"][0].tags == ("B-PER", "O")
    assert found.digest == load(corpus(tmp_path)).digest
    assert "'ner_tags' as 'tags', 'tokens' as 'words'" in found.remarks[0]


def test_captions_of_records_are_used_unless_they_are_turned_off(tmp_path: Path) -> None:
    plain = load(corpus(tmp_path)).digest
    folder = corpus(tmp_path, captions=["a woman"])
    found = load(folder)
    assert found.splits["train"][0].images[0].caption == "a woman" and found.counts["without_caption"] == 0
    assert found.digest != plain, "a changed caption is another corpus"
    assert load(folder, captions_option="none").splits["train"][0].images[0].caption is None
    (tmp_path / "c.txt").write_text("a.png :of a file\n")
    assert load(folder, captions_option=str(tmp_path / "c.txt")).splits["train"][0].images[0].caption == "of a file"


def test_boxes_and_relevance_of_records_are_used(tmp_path: Path) -> None:
    row = {"box": [20, 0, 40, 20], "score": 0.9, "label": "dog"}
    found = load(corpus(tmp_path, boxes=[[row]], relevance=[0.25]))
    ref = found.splits["test"][0].images[0]
    assert ref.relevance == 0.25 and [(each.box, each.label) for each in ref.objects] == [((0.5, 0, 1, 1), "dog")]
    objects = find_objects(found)
    assert objects.kind == "records"
    assert objects.annotated("test", found.splits["test"])[0].images[0].objects == ref.objects
    assert find_objects(found, "none").annotated("test", found.splits["test"])[0].images[0].objects == ()


def test_a_box_outside_its_picture_is_refused_in_a_corpus_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:1: .*lies outside picture a\.png"):
        load(corpus(tmp_path, boxes=[[{"box": [400, 0, 500, 20]}]]))


def test_a_text_without_blanks_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"text": "今天下午在嘉鱼和李老师见面"}) + '\n{"text": "we met 李老师 there"}\n')
    with caplog.at_level(logging.WARNING):
        assert [len(post.words) for post in read_input(file)] == [1, 4]
    assert [line.getMessage() for line in caplog.records] == [
        f"{file}: 1 texts have phrases without blanks (Chinese, Japanese, Thai ...), each read as one word; "
        "give 'words', cut as those of the training corpus"
    ]
