"""A slice of `make fuzz`: every reader of a user's file is tried, and reads what a plain reader reads, or refuses."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.dataset_folders import rows
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.pictures.crops import read_dict
from mnerkit.data.pictures.voc import read_voc
from mnerkit.demo.forms import read_form
from mnerkit.errors import MOST_LETTERS, CheckpointError, DataError, MnerkitError, TowerError, UsageError
from mnerkit.methods import model_folder
from mnerkit.methods.heads import head_options
from mnerkit.plain_yaml import read_yaml
from mnerkit.reproduce.experiments.printed import _lines
from mnerkit.runs.config.config_file import read_file
from mnerkit.scoring.comparison import by_post, read_answers
from mnerkit.scoring.scored_images import read_scored_images
from mnerkit.strict_json import loads, number
from mnerkit.towers.hub import config_from_dict
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.vision.resnet_files import read_resnet

ROOT = Path(__file__).resolve().parents[1]
INPUTS = 12  # of each reader
sys.path.insert(0, str(ROOT / "benchmarks"))
fuzzing: Any = importlib.import_module("fuzzing.table")
trials: Any = importlib.import_module("fuzzing.trials")
places: Any = importlib.import_module("fuzzing.places")


@pytest.mark.parametrize("reader", fuzzing.READERS, ids=lambda reader: reader.name)
def test_mutated_files_are_refused_in_a_line_or_read_as_they_stand(reader: Any) -> None:
    with trials.quiet():
        outcomes = [trials.trial(reader, seed) for seed in range(INPUTS)]
    assert [f"seed {each.seed}: {each.fault}" for each in outcomes if each.fault] == []


@pytest.mark.skipif("MNERKIT_FUZZ_PLACES" not in os.environ, reason="tries all inputs anew; `make fuzz` runs it")
def test_every_function_that_opens_a_file_of_a_user_is_reached_by_a_reader_that_is_tried(tmp_path: Path) -> None:
    functions = places.opening_functions(ROOT)
    missing = {name: place for name, place in functions.items() if not places.is_elsewhere(name)}
    with trials.quiet():
        for seed, reader in itertools.product(range(2 * INPUTS), fuzzing.READERS):
            if missing:
                path = trials.written(reader, reader.input(seed).content, tmp_path / reader.name / str(seed))
                reached = places.entered(lambda path=path, read=reader.read: attempt(read, path))
                missing = {name: place for name, place in missing.items() if place not in reached}
    assert missing == {}, "no fuzzed reader opens these: add a line to the table of a module in benchmarks/fuzzing"


def test_every_exception_from_being_tried_opens_files() -> None:
    functions = places.opening_functions(ROOT)
    idle = [part for part in places.ELSEWHERE if not any(name.startswith(part) for name in functions)]
    assert idle == [], "these open nothing any more"


def attempt(read: Callable[[Path], Any], path: Path) -> None:
    try:
        read(path)
    except MnerkitError:
        return


def test_a_fault_of_a_reader_is_found(tmp_path: Path) -> None:
    reader = next(reader for reader in fuzzing.READERS if reader.name == "annotations")

    def trial(read: Callable[[Path], Any]) -> list[str]:
        changed = type(reader)(**{**vars(reader), "read": read})
        return [trials.trial(changed, seed).fault for seed in range(12)]

    def without_the_last(path: Path) -> Any:
        return reader.read(path)[:-1]

    def refuses(_: Path) -> Any:
        raise DataError("a\nb\nc")

    def fails(_: Path) -> Any:
        raise KeyError("x")

    assert any("silent change" in fault for fault in trial(without_the_last))
    assert all("3 lines" in fault or "valid" in fault for fault in trial(refuses))
    assert all(fault.startswith("KeyError in test_fuzz.py") for fault in trial(fails))


def test_a_process_that_dies_is_a_fault_of_its_input_and_the_others_are_tried() -> None:
    reader = next(reader for reader in fuzzing.READERS if reader.name == "captions")

    def dies(path: Path) -> Any:
        if int(path.parent.name.rpartition("-")[2] == "") or path.read_bytes() == reader.input(1).content:
            import os

            os._exit(3)
        return reader.read(path)

    mortal = type(reader)(**{**vars(reader), "read": dies})
    found: list[Any] = []
    trials.run([(mortal, seed) for seed in range(4)], 2, found.append)
    faults = {each.seed: each.fault for each in found}
    assert sorted(faults) == [0, 1, 2, 3]
    assert faults[1] == "the process died (exit code 3)" and not faults[0] and not faults[2]


# ------------------------------------------------------------------ what it has found


def test_a_key_that_stands_twice_in_a_users_json_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    for text in (
        '{"id": 1, "words": ["a"], "label": ["B-PER"], "label": ["O"]}',
        "{'id': 1, 'words': ['a'], 'label': ['B-PER'], 'label': ['O']}",
        '[{"words": ["a"], "label": ["B-PER"], "label": ["O"]}]',
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=r"train\.jsonl.*'label'.* stands there twice"):
            read_posts(path)
    with pytest.raises(ValueError, match="'a' stands there twice"):
        loads('[{"b": {"a": 1, "a": 1}}]')


def test_a_key_that_stands_twice_in_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("model: {lr: 1}\ndata:\n  limit: 1\n  corpus: probe\n  limit: 2\n")
    with pytest.raises(DataError, match="'limit' stands there twice, in line 5"):
        read_yaml(path)
    path.write_text("a: {b: [1, {b: 2}], c: {b: 1}}\nb: &x {a: 1}\nc: *x\n")
    assert read_yaml(path)["c"] == {"a": 1}


def test_an_interpolation_that_is_none_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("model: {lr: 0.1, weight_decay: '${}'}\n")
    with pytest.raises(UsageError, match=r"--config .*f\.yaml"):
        read_file(path)
    path.write_text("model: {head: {!!binary aGVsbG8= : 1}}\n")
    with pytest.raises(UsageError, match="b'hello' is no text"):
        read_file(path)


def test_the_line_of_a_document_ends_a_post(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a B-PER\n-DOCSTART- O\nb I-PER\n-DOCSTART-s O\n")
    posts = read_posts(path, None, None, RecordNotes())
    assert [post.words for post in posts] == [("a",), ("b", "-DOCSTART-s")]


def test_captions_and_names_of_tags_that_stand_twice_are_refused(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text(f"IMGID:{split}\na\tO\n")
    captions = tmp_path / "captions"
    captions.write_text("".join(f"{split}.jpg :a cat\n" for split in ("train", "dev", "test", "dev")))
    load_corpus(str(tmp_path), captions=captions)
    captions.write_text(captions.read_text() + "dev.jpg :a dog\n")
    with pytest.raises(DataError, match=r"captions:5: another caption of 'dev\.jpg'"):
        load_corpus(str(tmp_path), captions=captions)
    records = tmp_path / "n.jsonl"
    records.write_text('{"tokens": ["a"], "ner_tags": [2]}')
    (tmp_path / "labels.txt").write_text("O\nB-PER\nB-PER\nI-PER\n")
    with pytest.raises(DataError, match="'B-PER' stands there twice"):
        read_posts(records)


def test_predictions_that_are_not_as_mnerkit_writes_them_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.test.jsonl"
    row = {"id": "1", "words": ["a", "b"], "entities": [], "gold": [[0, 1, "PER"]]}
    for change in ({"words": "ab"}, {"gold": [[False, True, "PER"]]}, {"ignored": "0"}):
        path.write_text(json.dumps(row | change))
        with pytest.raises(DataError, match=":1: no prediction"):
            read_answers(path)
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match="two predictions of post '1'"):
        by_post(read_answers(path))
    path.write_text('{"id": "1", "images": ["a.jpg"], "scores": [0.5, 0.1], "raw": [1]}')
    with pytest.raises(DataError, match=":1: no line with the R of images"):
        read_scored_images(path)


def test_a_damaged_file_of_torchs_is_found_by_its_checksums(tmp_path: Path) -> None:
    crops, weights = tmp_path / "train_dict.pth", tmp_path / "resnet18.pth"
    contents = ((crops, {"1.jpg": ["crop.jpg"]}, b"crop.jpg"), (weights, {"w": torch.ones(9)}, b"\0\0\x80?" * 9))
    for path, content, part in contents:
        torch.save(content, path)
        whole = path.read_bytes()
        at = whole.index(part)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises((DataError, TowerError), match="checksum"):
            read_dict(path) if path is crops else read_resnet(f"resnet18:{path}", "resnet18")
        path.write_bytes(whole)
    assert read_dict(crops).crops == {"1.jpg": ("crop.jpg",)}
    old = io.BytesIO()
    torch.save({"1.jpg": ["crop.jpg"]}, old, _use_new_zipfile_serialization=False)
    crops.write_bytes(old.getvalue())
    assert read_dict(crops).crops == {"1.jpg": ("crop.jpg",)}
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2)[:-3])
    with pytest.raises(TowerError, match="no plain weights"):
        read_resnet(f"resnet18:{weights}", "resnet18")


def test_a_number_is_written_in_digits_alone(tmp_path: Path) -> None:
    assert [number(text) for text in ("1", " -2.5e-1 ", ".5", "3.")] == [1, -0.25, 0.5, 3]
    for text in ("1_0", "nan", "inf", "\u0663", "1e999", "", "0x1"):
        with pytest.raises(ValueError, match="is no number"):
            number(text)
    (tmp_path / "1.xml").write_text(
        "<annotation><object><bndbox><xmin>1_0</xmin><ymin>1</ymin><xmax>20</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    with pytest.raises(DataError, match="'1_0'"):
        read_voc(tmp_path)


def test_a_csv_file_with_lines_of_other_lengths_is_refused(tmp_path: Path) -> None:
    for name, text, fault in (
        ("a", "x,y\n1,2,3\n", "a:2: 3 cells"),
        ("b", "x,y\n1\n", "b:2: 1 cells"),
        ("c", "x,x\n1,2\n", "two columns"),
        ("d", "x,y\n" + "a" * 200_000 + ",1\n", "field limit"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=fault):
            _lines(tmp_path / name)


def test_a_message_has_no_more_letters_than_a_person_reads() -> None:
    text = str(UsageError(f"--seed {'7' * 10_000} is wrong.\nGive a number."))
    assert len(text) < MOST_LETTERS + 100
    assert text.startswith("--seed 777") and text.endswith("7 is wrong.\nGive a number.")
    assert str(DataError("short")) == "short"


def test_a_form_whose_fields_are_not_set_off_as_they_should_be_is_refused() -> None:
    kind, field = "multipart/form-data; boundary=xx", b'Content-Disposition: form-data; name="text"'
    end = b"\r\n\r\nAnn\r\n--xx--"
    assert [(part.name, part.content) for part in read_form(b"--xx\r\n" + field + end + b"\r\n--xx", kind)] == [
        ("text", b"Ann")
    ]
    for head in (b"--xxy\r\n" + field, b"--xx\r\n" + field[:-1] + b'\r\n"', b"--xx\r\n" + field + b"\r\n" + field):
        with pytest.raises(DataError, match="damaged, or has no name"):
            read_form(head + end, kind)


def test_damaged_files_of_a_saved_model_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b'{"a": "\xff"}')
    files = model_folder._Files(tmp_path, {path.name: model_folder._digest(path)})
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged: 'utf-8'"):
        files.text(path.name)
    with pytest.raises(TowerError, match="not a tokenizer"):
        PieceReader("[" * 100_000, None)
    with pytest.raises(UsageError, match="no head is called"):
        head_options(["crf"])  # type: ignore[arg-type]
    with pytest.raises(TowerError, match="architecture 'bert'"):
        config_from_dict({"model_type": "bert", "use_cache": "a"})


def test_an_arrow_file_whose_offsets_lead_out_of_it_is_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"tokens": [["Ann", "Lee"]], "tags": [["O", "O"]]}).save_to_disk(tmp_path / "train")
    (path,) = (tmp_path / "train").glob("*.arrow")
    whole, offsets = path.read_bytes(), b"".join(place.to_bytes(4, "little") for place in (0, 3, 6))
    assert offsets in whole
    path.write_bytes(whole.replace(offsets, offsets[:8] + (1 << 30).to_bytes(4, "little")))
    with pytest.raises(DataError, match="no data set that can be read"):
        list(rows(tmp_path / "train", None))
