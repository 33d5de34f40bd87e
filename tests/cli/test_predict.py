"""What `mnerkit predict` says of input that is not as it should be."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnerkit
from mnerkit.cli import main

GOOD = json.dumps({"id": "good", "text": "Ann sees Paris", "images": ["good.jpg"]}).encode() + b"\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a method that sees pictures."""
    runs = tmp_path_factory.mktemp("runs")
    fit = ["fit", "--plugin", "cross", "--name", "one", "--runs_dir", str(runs), "--data.limit", "24"]
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]) == 0
    return runs / "cross" / "probe" / "one" / "best.ckpt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, good and bad ones."""
    inside = tmp_path / "in"
    inside.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(inside / "good.jpg")
    Image.fromarray(pixels).save(tmp_path / "outside.jpg")
    (inside / "zero.jpg").write_bytes(b"")
    (inside / "cut.jpg").write_bytes((inside / "good.jpg").read_bytes()[:900])
    (inside / "text.jpg").write_text("no picture")
    Image.new("L", (8000, 8000)).save(inside / "bomb.png")
    return inside


def predict(checkpoint: Path, folder: Path, content: bytes, *argv: str) -> tuple[int, list[dict] | None]:
    """Exit code and output; nothing but the input, the pictures and the output lies there afterwards."""
    source, target = folder / "posts.jsonl", folder / "out.jsonl"
    source.write_bytes(content)
    before = {path.name for path in folder.iterdir()} - {"out.jsonl"}
    code = main(["predict", "--ckpt_path", str(checkpoint), "--input", str(source), "--output", str(target), *argv])
    assert {path.name for path in folder.iterdir()} - {"out.jsonl"} == before
    return code, [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else None


def record(**content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD + record(text="a", images=["/etc/outside.jpg"]), "posts.jsonl:2: picture or id '/etc/outside.jpg'"),
        (GOOD + record(text="a", images=["../outside.jpg"]), "posts.jsonl:2: picture or id '../outside.jpg'"),
        (GOOD + record(id="../../x", text="a"), "posts.jsonl:2: the id '../../x' is a path"),
        (GOOD + record(id="/etc/x", text="a"), "posts.jsonl:2: the id '/etc/x' is a path"),
        (GOOD + b'{"text": "caf\xe9"}\n', "posts.jsonl:2: not UTF-8 (byte 0xe9"),
        (GOOD + b'{"text": "' + b"a" * (1 << 20) + b'"}\n', "posts.jsonl:2: the line is longer than"),
        ("hello\n".encode("utf-16-le"), "posts.jsonl:1: a NUL character; is this UTF-16?"),
        (GOOD + record(words=["a\0b", "c"]), r"posts.jsonl:2: a NUL character in 'a\x00b'"),
        (GOOD + record(text="a\0b"), "posts.jsonl:2: a NUL character"),
        (b"", "holds no posts"),
        (b"\n \n", "holds no posts"),
        (b"[]", "holds no posts"),
        (b"[1, 2]\n", "record 1: expected an object"),
        (GOOD + b'"hello"\n', "posts.jsonl:2: expected an object with id, text and images, found str"),
        (GOOD + record(id="1"), "posts.jsonl:2: expected one of 'words' (a list) and 'text', found neither"),
        (record(text=3), "posts.jsonl:1: 'text' must be a string or a list of strings, found int"),
        (record(words="a b"), "'words' must be a list of strings"),
        (record(text="a", images={"a": 1}), "'images' must be a list of strings"),
        (record(words=["a"], tags=["X"]), "posts.jsonl:1: 'X' is not a tag"),
        (GOOD + b'{"text": "a"\n', "posts.jsonl:2: neither JSON"),
        (b"IMGID:7\nAnn\n", "posts.jsonl:2: expected word<TAB>tag"),
    ],
)
def test_bad_input_is_told_with_its_line_and_leaves_no_output(
    checkpoint: Path, folder: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = predict(checkpoint, folder, content)
    error = [line for line in capsys.readouterr().err.splitlines() if " posts" not in line or "mnerkit:" in line]
    assert code == 1 and output is None
    assert error[0].startswith("mnerkit: ") and said in error[0]
    assert len(error) <= 2


def test_pictures_that_are_missing_or_broken_are_counted_in_one_line(
    checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["zero.jpg", "cut.jpg", "text.jpg", "bomb.png", "absent.jpg"]
    posts = [record(id=name, text="Ann sees Paris", images=[name]) for name in ["good.jpg", *bad]]
    code, output = predict(checkpoint, folder, b"".join(posts))
    assert code == 0
    assert output is not None and [each["id"] for each in output] == ["good.jpg", *bad]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mnerkit: ")]
    assert said.startswith("mnerkit: 1 picture missing, 4 broken: their posts were tagged without them; the first: ")
    assert "zero.jpg is an empty file" in said
    assert predict(checkpoint, folder, GOOD, "--overwrite")[0] == 0
    assert "mnerkit:" not in capsys.readouterr().err


def test_a_data_file_is_an_input_too(checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = predict(checkpoint, folder, b"IMGID:good\nAnn\tB-PER\nsings\tO\n\nIMGID:absent\nhello\tO\n")
    assert code == 0
    assert output is not None and [(each["id"], each["words"]) for each in output] == [
        ("good", ["Ann", "sings"]),
        ("absent", ["hello"]),
    ]
    assert "1 picture missing, 0 broken" in capsys.readouterr().err


def test_what_is_done_without_boxes_and_with_too_many_pictures_is_counted(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--plugin", "hvpnet", "--name", "one", "--runs_dir", str(tmp_path), "--data.limit", "12"]
    fit += ["--model.freeze_vision", "false", "--data.cache", "none", "--trainer.max_steps", "1"]
    assert main([*fit, "--trainer.enable_progress_bar", "false"]) == 0
    checkpoint = tmp_path / "hvpnet" / "probe" / "one" / "best.ckpt"
    boxes = [[{"box": [2, 2, 40, 40]}]]
    rows = [
        {"words": ["Ann"], "images": ["good.jpg"], "boxes": boxes},
        {"words": ["Ann"], "images": ["good.jpg"]},
        {"words": ["Ann"], "images": ["good.jpg", "absent.jpg"], "boxes": [*boxes, []]},
    ]
    capsys.readouterr()
    assert predict(checkpoint, folder, b"".join(record(**each) for each in rows))[0] == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("mnerkit: ")] == [
        "mnerkit: 1 picture has no 'boxes' in the input; crops at fixed places were used",
        "mnerkit: 1 of 3 posts have more pictures than the method reads; the first one was used",
    ]
    assert predict(checkpoint, folder, record(**rows[0]), "--overwrite")[0] == 0
    assert "mnerkit:" not in capsys.readouterr().err
    # in Python, each time anew; a picture that image and objects ask for is missing once
    tagger, absent = mnerkit.load(checkpoint), {"words": ["Ann"], "images": ["absent.jpg"], "boxes": [[]]}
    for records, wanted in (
        (rows, ["1 picture has no", "1 of 3 posts"]),
        (rows[:1], []),
        ([absent], ["1 picture missing"]),
        ([{"words": ["Ann"], "images": ["cut.jpg"]}], ["0 pictures missing, 1 broken"]),  # and no word on its boxes
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tagger.predict(records, images=folder)
        said = [str(each.message) for each in caught]
        assert [line[: len(start)] for line, start in zip(said, wanted, strict=True)] == wanted
