"""Boxes from files: what is read is what was written, and what can't be a box is refused in one line."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures.boxes import PictureBoxes, placed, read_box_lines
from mnerkit.data.pictures.decoding import PictureFormat, cut
from mnerkit.data.pictures.picture_loader import PictureSource, content_digest, read_pixels
from mnerkit.data.pictures.voc import read_voc
from mnerkit.errors import DataError

WIDTH, HEIGHT = 40, 30
REF = ImageRef("a.png", pixels=np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8))
boxes = st.tuples(
    st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, HEIGHT)
).map(lambda b: (b[0], b[1], min(b[0] + b[2], WIDTH), min(b[1] + b[3], HEIGHT)))


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one_box(
    box: Any, unit: str = "pixels", size: tuple[int, int] | None = None, where: str = "b.jsonl:1"
) -> PictureBoxes:
    return PictureBoxes.model_validate({"objects": [{"box": box}], "unit": unit, "size": size, "where": where})


def voc(box: tuple[float, ...], extra: str = "", top: str = "", size: str = "") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    sides = "".join(f"<{name}>{side}</{name}>" for name, side in zip(names, box, strict=True))
    inner = f"<object><name>dog</name><bndbox>{sides}</bndbox>{extra}</object>"
    return f"<?xml version='1.0'?>{top}<annotation><filename>a.png</filename>{size}{inner}</annotation>"


@given(found=st.lists(st.tuples(boxes, st.floats(0, 1), st.text(max_size=5)), max_size=4))
def test_boxes_in_pixels_come_back_as_shares_that_cut_the_same_pixels(tmp_path_factory, found) -> None:
    rows = [{"box": list(box), "score": score, "label": label} for box, score, label in found]
    path = written(tmp_path_factory.mktemp("b") / "b.jsonl", {"image": "a.png", "objects": rows})
    read = read_box_lines(path).images["a.png"]
    assert [(each.box, each.score, each.label) for each in read.objects] == found
    counts: Counter[str] = Counter()
    for (x0, y0, x1, y1), shown in zip((box for box, *_ in found), placed(read, REF, counts), strict=True):
        assert shown is not None and shown.box is not None and not counts["clipped"]
        assert np.array_equal(cut(REF.pixels, shown.box), REF.pixels[y0:y1, x0:x1])  # type: ignore[index]


@given(box=boxes, left=st.integers(0, 100), down=st.integers(0, 100))
@example(box=(0, 0, 1, 6), left=0, down=27)  # half of it inside, and a little less after rounding
def test_a_box_that_sticks_out_is_clipped_and_one_that_lies_outside_is_refused(box, left, down) -> None:
    x0, y0, x1, y1 = box
    moved = (x0 - left, y0 + down, x1 - left, y1 + down)
    within = max(min(moved[2], WIDTH) - max(moved[0], 0), 0) * max(min(moved[3], HEIGHT) - max(moved[1], 0), 0)
    found = one_box(moved)
    counts: Counter[str] = Counter()
    if 2 * within < (x1 - x0) * (y1 - y0):
        with pytest.raises(DataError, match=r"b\.jsonl:1: the box .* lies outside picture a\.png, 40 x 30"):
            placed(found, REF, counts)
        return
    (shown,) = placed(found, REF, counts)
    assert shown is not None and shown.box is not None
    assert all(0 <= side <= 1 for side in shown.box) and shown.box[0] < shown.box[2] and shown.box[1] < shown.box[3]
    assert counts["clipped"] == (moved != (max(moved[0], 0), moved[1], moved[2], min(moved[3], HEIGHT)))


def test_shares_need_no_picture_and_pixels_need_its_size() -> None:
    lost = ImageRef("lost.png")
    files = [one_box((0.1, 0.2, 0.3, 0.4), "shares"), one_box((1, 2, 3, 4)), one_box((1, 2, 3, 4), size=(10, 10))]
    found = [each for boxes in files for each in placed(boxes, lost, Counter())]
    assert [each and each.box for each in found] == [(0.1, 0.2, 0.3, 0.4), None, (0.1, 0.2, 0.3, 0.4)]


def test_boxes_of_another_shape_than_their_picture_are_refused(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg", exif=turned)  # shown as 100 x 200
    ref = ImageRef("a.jpg", tmp_path / "a.jpg")
    for size in ((100, 200), (50, 100), (33, 67), None):  # the picture's, smaller ones, none
        (found,) = placed(one_box((5, 5, 25, 50), size=size), ref, Counter())
        assert found is not None
    for unit in ("pixels", "shares"):
        wrong = one_box((0, 0.5, 1, 1), unit, (200, 100))
        with pytest.raises(DataError, match=r"b\.jsonl:1: boxes of a picture of 200 x 100, and a\.jpg is 100 x 200"):
            placed(wrong, ref, Counter())


def test_the_size_of_a_picture_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ImageRef] = []
    monkeypatch.setattr("mnerkit.data.pictures.boxes.picture_size", lambda ref: asked.append(ref) or (WIDTH, HEIGHT))
    boxes = PictureBoxes.model_validate({"objects": [{"box": [1, 2, 3, 4]}] * 9})
    assert len(placed(boxes, REF, Counter())) == 9 and asked == [REF]
    assert placed(PictureBoxes(objects=()), REF, Counter()) == [] and asked == [REF]


def test_a_pixel_is_never_lost_and_a_source_of_a_box_decodes_to_its_crop() -> None:
    format = PictureFormat(4)
    content = content_digest(REF)
    sources = [PictureSource(REF, format, content, box=box) for box in ((0.0, 0.0, 1e-9, 1e-9), (0.5, 0.5, 1.0, 1.0))]
    read = read_pixels(sources)
    assert np.array_equal(read[0], format.apply(REF.pixels[:1, :1]))  # type: ignore[index]
    assert np.array_equal(read[1], format.apply(REF.pixels[15:, 20:]))  # type: ignore[index]
    assert len({PictureSource(REF, format, content).digest, *(each.digest for each in sources)}) == 3


HEADER = {"format": "mnerkit-boxes", "version": 1, "unit": "shares"}


def test_the_first_line_says_the_unit_of_all_and_a_line_may_say_another(tmp_path: Path) -> None:
    rows = [{"box": [0, 0, 0.5, 0.5]}], [{"box": [0, 0, 2, 2]}]
    file = read_box_lines(
        written(
            tmp_path / "b.jsonl",
            {**HEADER, "corpus": "x"},
            {"image": "a.png", "objects": rows[0]},
            {"id": "7", "unit": "pixels", "objects": rows[1]},
        )
    )
    assert file.about["corpus"] == "x"
    assert file.images["a.png"].unit == "shares" and file.posts["7"].unit == "pixels"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1], "expected a JSON object"),
        ({"image": "a.png"}, "the key 'objects' is missing"),
        ({"id": 7, "objects": []}, "id must be a text, got 7"),
        ({"objects": []}, "expected either 'image'.* or 'id'"),
        ({"image": "a.png", "objects": [[0, 0, 1, 1]]}, r"objects\[0\] must be a mapping"),
        ({"image": "a.png", "objects": [{"box": [5, 5, 2, 9]}]}, "has no size"),
        ({"image": "a.png", "objects": [{"box": [0, 0, 5]}]}, r"objects\[0\]: box: value 4 of the list is missing"),
        ({"image": "a.png", "objects": [{"box": [0, 0, float("nan"), 5]}]}, r"box\[2\] must be a finite number"),
        ({"image": "a.png", "objects": [{"box": [0, 0, True, 5]}]}, r"box\[2\] must be a number"),
        ({"image": "a.png", "objects": [{"box": [0, 0, 10**400, 5]}]}, r"box\[2\] must be a number"),
        ({"image": "a.png", "objects": [{"box": [0, -(10**400), 5, 5]}]}, r"box\[1\] must be a number"),
        ({"image": "a.png", "id": "a", "objects": []}, "expected either 'image'.* or 'id'"),
        ({"image": "a.png", "objects": [{"box": [0.1, 0.1, 0.5, 0.5]}]}, "smaller than a pixel"),
        ({"image": "a.png", "objects": [{"box": [0, 0, 5, 5], "score": 1.5}]}, "score must be 1 at most, got 1.5"),
        ({"image": "a.png", "objects": [{"box": [0, 0, 5, 5], "label": 5}]}, "label must be a text"),
        ({"image": "a.png", "unit": "percent", "objects": []}, "unit must be one of pixels, shares"),
        ({"image": "a.png", "size": [0, 4], "objects": []}, r"size\[0\] must be more than 0"),
        ({"image": "a.png", "objects": [{"box": [0, 0, 5, 5]}] * 1001}, "objects must be a list of at most 1000"),
        ({"image": "known.png", "objects": []}, "a second time"),
        ({**HEADER}, "in the first line alone"),
    ],
)
def test_what_can_not_be_is_refused_with_file_and_line(tmp_path: Path, row: Any, said: str) -> None:
    path = written(tmp_path / "b.jsonl", {"image": "known.png", "objects": []}, row)
    with pytest.raises(DataError, match=said) as problem:
        read_box_lines(path)
    assert str(problem.value).startswith(f"{path}:2: ")
    assert len(str(problem.value).splitlines()) <= 2


def test_a_second_header_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "b.jsonl", HEADER, {**HEADER, "unit": "pixels"}, {"image": "a.png", "objects": []})
    with pytest.raises(DataError, match=r"b\.jsonl:2: expected the format mnerkit-boxes, .* in the first line alone"):
        read_box_lines(path)


def test_a_voc_file_that_names_another_picture_is_of_the_one_that_it_is_called_like(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(voc((1, 1, 9, 9)).replace("a.png", "a_region.png"))
    (tmp_path / "b.xml").write_text(voc((1, 1, 9, 9)).replace("a.png", "b.jpg"))
    file = read_voc(tmp_path)
    assert set(file.images) == {"a", "b"} and file.misnamed == 1


def test_voc_corners_count_from_one_and_belong_to_the_box(tmp_path: Path) -> None:
    size = "<size><width>40</width><height>30</height></size>"
    (tmp_path / "a.xml").write_text(voc((1, 1, 10, 20), "<score>0.5</score>", size=size))
    (tmp_path / "note.txt").write_text("no box")
    file = read_voc(tmp_path)
    boxes = file.images["a"]
    (found,) = boxes.objects
    assert (found.box, found.score, found.label, boxes.size) == ((0, 0, 10, 20), 0.5, "dog", (40, 30))


BILLION = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (voc((1, 1, 9, 9), top=BILLION), "document type or entities"),
        (voc((1, 1, 9, 9), top='<!DOCTYPE x SYSTEM "file:///etc/passwd">'), "document type or entities"),
        ("<annotation>" + "<a>" * 40, "elements within elements"),
        ("<annotation>", "not XML"),
        ("\x00\x01", "not XML"),
        ("<html></html>", "expected <annotation>"),
        (voc((9, 9, 2, 2)), "has no size"),
        (voc(("x", 1, 2, 3)), "must be a number"),  # type: ignore[arg-type]
        (voc((1, 1, 2, math.inf)), "must be a number"),
        (voc((1, 1, 2, 3), size="<size><width>inf</width><height>9</height></size>"), "must be a number"),
        (voc((1, 1, 2, 3), size="<size><width>nan</width><height>9</height></size>"), "must be a number"),
    ],
)
def test_hostile_and_broken_xml_is_refused_with_its_file(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DataError, match=said) as problem:
        read_voc(tmp_path)
    assert str(tmp_path / "a.xml") in str(problem.value) and len(str(problem.value).splitlines()) <= 2
