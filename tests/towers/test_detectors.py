"""Detectors of objects, tiny and with random weights: what they find becomes a file that a run can stop and go on."""

from __future__ import annotations

import errno
import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tokenizers import byte_pieces

from mnerkit.cli import main
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures import decoding
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.noun_phrases import MOST_PHRASES, noun_phrases
from mnerkit.errors import TowerError
from mnerkit.towers.text.vocabulary import VocabularyReader
from mnerkit.towers.vision.detectors import FAMILIES, Detector

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
DETR: dict[str, Any] = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 6,
}
SMALL = {"shortest_edge": 64, "longest_edge": 96}


def _detr(folder: Path) -> None:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    config = DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, backbone=None, d_model=16, num_labels=3, **DETR
    )
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor(size=SMALL).save_pretrained(folder)


def _owlv2(folder: Path) -> None:
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    # a prompt whose first piece is 0 counts as padding
    vocabulary, merges = byte_pieces(["!", "<|startoftext|>", "<|endoftext|>"], "</w>")
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
    vision = {"image_size": 64, "patch_size": 16}
    config = Owlv2Config(text_config={**SIZES, **text}, vision_config={**SIZES, **vision}, projection_dim=16)
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    processor = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    Owlv2Processor(processor, CLIPTokenizer(vocab=vocabulary, merges=merges)).save_pretrained(folder)


def write_grounding_dino(folder: Path) -> None:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "red", "house", "dog", "?"]
    (folder / "vocab.txt").write_text("\n".join(words))
    backbone = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1] * 4,
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=BertConfig(vocab_size=len(words), **SIZES),
        d_model=32,
        max_text_len=32,
        encoder_n_points=2,
        decoder_n_points=2,
        **DETR,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=SMALL), tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    makers = {"detr": _detr, "owlv2": _owlv2, "grounding-dino": write_grounding_dino}
    made: dict[str, str] = {}

    def folder(kind: str) -> str:
        if kind not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("detectors") / kind
            path.mkdir()
            makers[kind](path)
            made[kind] = str(path)
        return made[kind]

    return folder


PICTURES = [np.full((40, 60, 3), 200, np.uint8), np.zeros((70, 50, 3), np.uint8)]
PROMPTS = [["a dog", "red house"], ["a dog"]]


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_what_a_detector_finds_lies_in_pixels_of_its_picture_the_surest_first(
    detector: Callable[[str], str], kind: str
) -> None:
    found = Detector(detector(kind))
    assert (found.kind, found.spec, found.prompted) == (kind, kind, FAMILIES[kind].prompts)
    assert found.revision.startswith("weights ")
    rows = found.find(PICTURES, PROMPTS, 0.0)
    assert len(rows) == 2 and all(rows)
    for each, picture, prompts in zip(rows, PICTURES, PROMPTS, strict=True):
        scores = [one.score for one in each]
        assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
        sides = np.array([one.box for one in each])
        height, width = picture.shape[:2]
        longest = max(height, width)  # OWLv2 looks at a square
        assert (sides[:, 0] <= sides[:, 2]).all() and (sides[:, 1] <= sides[:, 3]).all()
        assert ((sides[:, 0] + sides[:, 2]) / 2 <= longest + 1e-3).all() and (sides > -longest).all()
        if kind == "owlv2":
            assert {one.label for one in each} <= set(prompts)
    threshold = rows[0][0].score
    assert all(one.score > threshold - 1e-3 for one in found.find(PICTURES, PROMPTS, threshold - 1e-3)[0])


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_a_side_of_one_or_three_pixels_is_not_taken_for_the_channels(detector: Callable[[str], str], kind: str) -> None:
    found = Detector(detector(kind))
    for sides in ((1, 1), (3, 4)):
        red = np.zeros((*sides, 3), np.uint8)
        red[..., 0] = 255
        pixels = found._inputs([red], [["a dog"]])["pixel_values"][0]
        means = pixels.flatten(1).mean(1).tolist()  # OWLv2's has grey below
        assert means[0] > 0.9 and max(means[1:]) < -0.5


def detect(out: Path, folder: str, *more: str, variant: str = "default") -> int:
    argv = ["data", "objects", "probe", "--variant", variant, "--limit", "2", "--detector", folder, "--out", str(out)]
    return main([*argv, "--score", "0", "--batch_size", "2", *more])


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_its_file_says_who_found_the_boxes_and_is_read_as_boxes_of_the_corpus(
    detector: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "boxes.jsonl"
    assert detect(out, detector(kind)) == 0
    header, *rows = (json.loads(line) for line in out.read_text().splitlines())
    assert header["detector"] == kind and header["revision"].startswith("weights ") and header["corpus"] == "probe"
    assert len(rows) == 6 and all(row["size"] == [64, 64] and len(row["objects"]) <= 20 for row in rows)
    source = MnerData(limit=2, boxes=str(out))
    source.connect(Needs(VocabularyReader([]), frozenset({"objects"}), picture=PictureFormat(8)))
    batch = source.collator()(source.posts("train"))
    first = [each for row in rows if row["image"] == batch.posts[0].images[0].name for each in row["objects"]]
    assert batch.boxes is not None
    if first:
        expected = torch.tensor(max(first, key=lambda each: each["score"])["box"]) / 64
        torch.testing.assert_close(batch.boxes[0, 0], expected)
    assert source.protocol()["objects"]["about"]["detector"] == kind


def test_a_run_that_was_killed_goes_on_to_the_same_file(
    detector: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "boxes.jsonl", detector("detr")
    assert detect(out, folder) == 0
    whole = out.read_bytes()
    places = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    out.write_bytes(whole[: places[2] + 30])  # two pictures, and a line that was not finished
    capsys.readouterr()
    assert detect(out, folder) == 0
    assert "4 pictures" in capsys.readouterr().err
    again, then = ([json.loads(line) for line in text.splitlines()] for text in (out.read_bytes(), whole))
    assert again == then
    assert detect(out, folder) == 0 and "0 pictures" in capsys.readouterr().err


def spoilt(monkeypatch: pytest.MonkeyPatch, instead: Callable[[], np.ndarray]) -> list[str]:
    """Put something in place of the first picture that is decoded; its name is in the list from then on."""
    inner: Callable[[ImageRef], np.ndarray] = decoding.decode
    lost: list[str] = []

    def decode(ref: ImageRef) -> np.ndarray:
        if not lost:
            lost.append(ref.name)
        return instead() if ref.name == lost[0] else inner(ref)

    monkeypatch.setattr(decoding, "decode", decode)
    return lost


def test_a_picture_that_can_not_be_read_is_named_and_not_the_file_of_boxes(
    detector: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing() -> np.ndarray:
        raise OSError(errno.EIO, "Input/output error")

    lost = spoilt(monkeypatch, failing)
    out = tmp_path / "boxes.jsonl"
    assert detect(out, detector("detr")) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"1 broken ones left out, the first: picture {lost[0]} can't be read: Input/output error." in said
    assert len(out.read_text().splitlines()) == 6  # the header and five of six pictures


def test_a_picture_that_the_detector_can_not_read_is_left_out_and_its_neighbours_are_not(
    detector: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # DETR's processor scales its width to 0
    lost = spoilt(monkeypatch, lambda: np.zeros((5000, 1, 3), np.uint8))
    out = tmp_path / "boxes.jsonl"
    assert detect(out, detector("detr")) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"1 broken ones left out, the first: picture {lost[0]}, 1 x 5000: the detector can't read it: " in said
    names = [json.loads(line)["image"] for line in out.read_text().splitlines()[1:]]
    assert len(names) == 5 and lost[0] not in names
    assert detect(out, detector("detr")) == 0  # it alone is left, and again is no fault of all


def test_a_detector_that_can_read_no_picture_ends_with_the_first_complaint(
    detector: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(*_: Any) -> None:
        raise ValueError("expected 4 channels\nmore")

    folder = detector("detr")
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "find", failing)
        assert detect(tmp_path / "boxes.jsonl", folder) == 1
    said = capsys.readouterr().err
    assert said.startswith("mnerkit: picture ") or "\nmnerkit: picture " in said
    assert said.endswith(
        ", 64 x 64: the detector can't read it: expected 4 channels\nNo picture can be read: give another --detector.\n"
    )
    assert detect(tmp_path / "boxes.jsonl", folder) == 0  # goes on once it can
    assert len((tmp_path / "boxes.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    "problem",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_device_at_fault_or_without_memory_for_a_picture_is_no_fault_of_the_picture(
    detector: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    problem: Exception,
) -> None:
    def failing(*_: Any) -> None:
        raise problem

    monkeypatch.setattr(Detector, "find", failing)
    assert detect(tmp_path / "boxes.jsonl", detector("detr")) == 2
    assert f"64 x 64: {str(problem).splitlines()[0]}\nGive another --device." in capsys.readouterr().err


def test_what_a_failed_batch_held_is_given_back_before_its_pictures_are_tried_one_by_one(
    detector: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    def find(_: Detector, pictures: Sequence[np.ndarray], *__: Any) -> list[list[Any]]:
        if len(pictures) > 1:
            batch = np.stack(list(pictures))
            held.append(weakref.ref(batch))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        alive.append(held[-1]() is not None)
        return [[]]

    monkeypatch.setattr(Detector, "find", find)
    assert detect(tmp_path / "boxes.jsonl", detector("detr")) == 0
    assert alive == [False] * 6


def test_a_file_of_boxes_that_can_not_be_written_is_named(
    detector: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "boxes.jsonl"
    out.symlink_to(tmp_path / "nowhere" / "boxes.jsonl")
    assert detect(out, detector("detr")) == 1
    assert f"mnerkit: {out} can't be written: No such file or directory." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": ["a"]}', "image must be a text, got ['a']"),
        ('{"image": "a.png"}', "the key 'objects' is missing"),
        ('{"image": "a.png", "objects": [{"box": [0, 0]}]}', "objects[0]: box: value 3 of the list is missing"),
        ('{"id": "a", "objects": []}', "expected 'image', the name of a picture"),
        ("[1]", "expected a JSON object"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_of_boxes_with_a_line_that_is_none_is_not_continued(
    detector: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    out = tmp_path / "boxes.jsonl"
    assert detect(out, detector("detr")) == 0
    out.write_text(out.read_text() + line + "\n")
    before = out.read_bytes()
    assert detect(out, detector("detr")) == 1 and out.read_bytes() == before
    told = capsys.readouterr().err
    assert f"boxes.jsonl:8: {said}" in told and told.endswith("\nGive --overwrite to begin anew.\n")


def test_a_file_that_a_kill_left_without_its_whole_first_line_is_a_new_one(
    detector: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "boxes.jsonl", detector("detr")
    assert detect(out, folder) == 0
    whole = out.read_bytes()
    for kept in (0, 20, whole.index(b"\n")):
        out.write_bytes(whole[:kept])
        assert detect(out, folder) == 0
        assert [json.loads(line) for line in out.open()] == [json.loads(line) for line in whole.splitlines()]
    out.write_bytes(b"a letter")
    assert detect(out, folder) == 1 and out.read_bytes() == b"a letter"
    assert "boxes.jsonl:1: not JSON.\nGive --overwrite to begin anew." in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_file_that_another_process_writes_is_left_alone(
    detector: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "boxes.jsonl"
    with out.open("w") as other:  # as another process would: the lock is of the open file
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("its first")
        other.flush()
        assert detect(out, detector("detr"), *more) == 2
        assert f"{out} is being written by another process." in capsys.readouterr().err
        assert out.read_text() == "its first"


def test_settings_of_another_run_are_not_continued(
    detector: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "boxes.jsonl"
    assert detect(out, detector("detr")) == 0
    for more, what in ((("--most", "3"), "most"), (("--score", "0.1"), "score")):
        assert detect(out, detector("detr"), *more) == 2
        assert f"made with another {what}" in capsys.readouterr().err
    assert detect(out, detector("detr"), variant="easy") == 2
    assert detect(out, detector("detr"), "--most", "3", "--overwrite") == 0
    assert all(len(json.loads(line)["objects"]) <= 3 for line in out.read_text().splitlines()[1:])


def test_what_is_no_detector_is_refused(tmp_path: Path, folder_of: Callable[[str], str]) -> None:
    with pytest.raises(TowerError, match="is none of detr, grounding-dino, owlv2"):
        Detector(folder_of("bert"))
    with pytest.raises(TowerError, match=r"has no config\.json"):
        Detector(str(tmp_path))
    with pytest.raises(TowerError, match="hub can't be reached"):
        Detector("detr")


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("RT @foo Look at the new Golden Gate Bridge , in red !", ["new golden gate bridge", "red"]),
        ("#SanFrancisco http://x.y 2016 :)", ["sanfrancisco"]),
        ("The dogs, cats and the dogs", ["dogs", "cats"]),
        ("he is", []),
        ("one two three four five six", ["three four five six"]),
        ("", []),
    ],
)
def test_phrases_are_runs_of_words_of_open_classes(text: str, phrases: list[str]) -> None:
    assert noun_phrases(text.split()) == phrases


def test_a_word_that_comes_again_at_the_end_does_not_end_a_phrase_before() -> None:
    dog = "dog"
    assert noun_phrases([dog, "house", dog]) == ["dog house dog"]  # one and the same string


def test_there_are_never_too_many_phrases() -> None:
    assert len(noun_phrases(" the ".join(f"dog{each}" for each in range(99)).split())) == MOST_PHRASES
