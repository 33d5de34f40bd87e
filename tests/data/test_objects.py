"""Objects in pictures and several pictures a post: from files through the datamodule to the tensors of a batch."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import ImageRef, PictureObject, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.objects import FALLBACK, find_objects, shown_objects
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.towers.text.vocabulary import VocabularyReader

READER = VocabularyReader(["ann"])
FORMAT = PictureFormat(4)
PROBE = "default-train-0-0-0.png"


def needs(*views: str, **limits: Any) -> Needs:
    return Needs(READER, frozenset(views or ("objects",)), picture=FORMAT, **limits)


def collator(*views: str, known: Any = None, **limits: Any) -> Collator:
    return Collator(needs(*views, **limits), PictureLoader(FORMAT), TagSet(("PER",)), known=known)


def colour(value: int, *objects: PictureObject, name: str = "x.png", **more: Any) -> ImageRef:
    return ImageRef(name, pixels=np.full((20, 30, 3), value, np.uint8), objects=objects, **more)


def post(*images: ImageRef) -> Post:
    return Post("p", ("Ann",), ("B-PER",), images)


def data(corpus: str = "probe", needed: Needs | None = None, **options: Any) -> MnerData:
    found = MnerData(corpus=corpus, **options)
    found.connect(needed or needs(max_images=4))
    return found


def corpus_folder(root: Path, images: int = 1) -> Path:
    """A corpus `mine` of three posts a split with so many pictures each, all of them there."""
    folder = root / "mine"
    (folder / "images").mkdir(parents=True)
    for number, split in enumerate(("train", "valid", "test")):
        rows = []
        for place in range(3):
            names = [f"{split}{place}_{each}.png" for each in range(images)]
            for each, name in enumerate(names):
                Image.new("RGB", (30, 20), (10 * place, 40 * each, 80 * number)).save(folder / "images" / name)
            row = {"id": f"{split}{place}", "text": ["Ann", "sings"], "label": ["B-PER", "O"], "images": names}
            rows.append(json.dumps(row))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def boxes_of(folder: Path, **more: Any) -> list[dict[str, Any]]:
    names = sorted(path.name for path in (folder / "images").iterdir())
    return [{"image": name, "objects": [{"box": [3, 4, 12, 10], "score": 0.8}], **more} for name in names]


def test_true_boxes_of_the_probe_are_the_pictograms() -> None:
    source = data(variant="multi", limit=20, needed=needs(max_images=4, max_objects=9))
    batch = source.collator()(source.posts("train"))
    assert batch.boxes is not None and batch.crop_mask is not None and batch.crop_image is not None
    for row, each in enumerate(batch.posts):
        assert each.truth is not None
        truth = [(one.image, *(side / 64 for side in one.box)) for one in each.truth.objects]
        kept = batch.crop_mask[row]
        image, box = batch.crop_image[row][kept].tolist(), batch.boxes[row][kept].tolist()
        found = [(image, *box) for image, box in zip(image, box, strict=True)]
        without = set(range(len(each.images))) - {one[0] for one in truth}
        expected = truth + [(number, *one.box) for number in without for one in FALLBACK if one.box]
        assert sorted(found) == sorted(expected)


@given(
    counts=st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=4),
    most=st.integers(1, 4),
    cap=st.integers(1, 4),
)
def test_crops_keep_their_order_their_mask_and_their_image(counts, most: int, cap: int) -> None:
    def picture(row: int, column: int, objects: int) -> ImageRef:
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[:, :, 0], pixels[:, :, 1] = 10 * row, 10 * column
        for number in range(objects):  # a column of pixels for each object
            pixels[:, number, 2] = 20 + number
        found = [PictureObject((number / 30, 0.0, (number + 1) / 30, 1.0)) for number in range(objects)]
        return ImageRef("x", pixels=pixels, objects=tuple(found))

    posts = [
        post(*(picture(row, column, each) for column, each in enumerate(images))) for row, images in enumerate(counts)
    ]
    batch = collator("whole", "objects", max_images=cap, max_objects=most)(posts)
    crops, mask, image = batch.crops, batch.crop_mask, batch.crop_image
    assert crops is not None and mask is not None and image is not None and batch.boxes is not None
    assert batch.image_mask is not None
    m = batch.image_mask.shape[1]
    assert m == max(1, min(cap, max(len(each) for each in counts))) and mask.shape[1] % m == 0
    for row, images in enumerate(counts):
        expected = []
        for column, objects in enumerate(images[:cap]):
            shown = range(min(objects, most)) if objects else range(min(most, 5))
            expected += [(column, 20 + number if objects else None) for number in shown]
        assert image[row][mask[row]].tolist() == [column for column, _ in expected]
        for place, (column, blue) in zip(torch.nonzero(mask[row]).flatten().tolist(), expected, strict=True):
            seen = ((crops[row, place].mean((1, 2)) * 0.5 + 0.5) * 255).round().tolist()
            assert seen[:2] == [10 * row, 10 * column] and (blue is None or seen[2] == blue)
        assert batch.image_mask[row].sum() == min(len(images), cap)
        assert not crops[row][~mask[row]].any() and not batch.boxes[row][~mask[row]].any()


def test_a_picture_that_is_missing_in_the_middle_leaves_its_place_empty() -> None:
    batch = collator("whole", "objects", max_images=3, max_objects=2)(
        [post(colour(255), ImageRef("lost.jpg"), colour(0)), post()]
    )
    assert batch.image_mask is not None and batch.crop_mask is not None and batch.images is not None
    assert batch.image_mask.tolist() == [[True, False, True], [False] * 3]
    assert batch.crop_mask.tolist() == [[True, True, False, False, True, True], [False] * 6]
    assert batch.images[0].mean((1, 2, 3)).tolist() == [1, 0, -1]


def test_max_images_1_takes_the_first_and_its_objects_alone() -> None:
    batch = collator("objects", max_images=1)([post(colour(255), colour(0))])
    assert batch.crops is not None and batch.crop_image is not None
    assert batch.crops.shape[:2] == (1, 3) and (batch.crops == 1).all() and not batch.crop_image.any()


def test_grid_and_objects_do_not_share_a_batch_and_one_is_not_taken_for_the_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        collator("grid", "objects")
    with pytest.raises(ValueError, match="lacks the view 'grid'"):
        collator("objects")([post(colour(1))]).pictures("grid")


def test_known_crops_are_not_decoded_and_another_box_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = PictureObject((0.0, 0.0, 0.5, 0.5)), PictureObject((0.5, 0.5, 1.0, 1.0))
    batch = collator(known=set())([post(colour(7, first))])
    sources = [each for each in batch.crop_sources or () if each is not None]
    decoded = batch.pictures("objects").pixels()
    known = {each.digest for each in sources}
    assert len(known) == 1
    read = collator(known=known)([post(colour(7, first))])
    assert read.crops is None and read.crop_mask is not None and read.crop_mask.all()
    assert torch.equal(read.pictures("objects").pixels(), decoded)
    assert collator(known=known)([post(colour(7, second))]).crops is not None


def test_crops_of_their_own_are_shown_and_a_missing_or_broken_one_is_not(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5), "white").save(tmp_path / "crop.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    crops = [ImageRef(name, tmp_path / name) for name in ("bad.png", "crop.png")] + [ImageRef("lost.png")]
    picture = colour(0, *(PictureObject(None, crop=each) for each in crops))
    batch = collator()([post(picture)])
    assert batch.crop_mask is not None and batch.crops is not None and batch.boxes is not None
    assert batch.crop_mask.tolist() == [[False, True]]
    assert (batch.crops[0, 1] == 1).all() and not batch.boxes.any()
    assert list(batch.notes["broken"]) == ["bad.png"]
    assert shown_objects(colour(0, PictureObject(None, crop=crops[2])), 2) == FALLBACK[:2]


def test_options_keep_the_surest_and_those_above_the_threshold(tmp_path: Path) -> None:
    objects = [{"box": [0, 0, 5 + score, 9], "score": score / 10} for score in (2, 9, 5, 7)]
    path = lines(tmp_path / "b.jsonl", {"image": PROBE, "objects": objects})
    source = data(boxes=path, object_score=0.5, max_objects=2, limit=1)
    (only,) = source.posts("train")
    assert [each.score for each in only.images[0].objects] == [0.9, 0.7]
    said = source.protocol()["objects"]
    assert (said["source"], said["file"], said["object_score"], said["max_objects"]) == ("boxes", "b.jsonl", 0.5, 2)
    assert said["counts"]["train"]["pictures"] == 1 and len(said["sha256"]) == 64


def test_boxes_are_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = corpus_folder(tmp_path)
    rows = boxes_of(folder)
    rows[0]["objects"] = []
    rows[1]["objects"][0]["box"] = [20, 4, 33, 10]
    source = data(str(folder), boxes=lines(tmp_path / "b.jsonl", *rows[:-1], {"image": "other.png", "objects": []}))
    said = {
        split: source.posts(split) and source.split_posts.objects.summary(split) for split in ("train", "dev", "test")
    }  # type: ignore[union-attr]
    source.posts("test")
    assert "1 pictures without objects are seen at set places" in said["test"]
    assert "1 boxes clipped to their picture" in said["test"]
    assert "1 names in" in said["train"] and "are of no picture of the corpus" in said["train"]
    assert "1 of these are not in the file" in said["dev"]
    assert sum("mine test" in each or "clipped" in each for each in caplog.messages) <= 1


def test_released_crops_are_found_beside_the_data_by_split(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path)
    for word, split in (("train", "train"), ("val", "valid"), ("test", "test")):
        crops = tmp_path / "mine_aux_images" / word / "crops"
        crops.mkdir(parents=True)
        shade = {"train": 255, "val": 128, "test": 0}[word]
        Image.new("RGB", (4, 4), (shade,) * 3).save(crops / "0_crop.png")  # the same name in each split
        torch.save({f"{split}0_0.png": ["0_crop.png", "lost.png"]}, folder / f"mine_{word}_dict.pth")
    source = data(str(folder))
    for split, shade in (("train", 1.0), ("dev", 0.0), ("test", -1.0)):
        batch = source.collator()(source.posts(split))
        assert batch.crops is not None and batch.crop_mask is not None and batch.boxes is not None
        assert batch.crop_mask.sum(1).tolist() == [1, 3, 3] and not batch.boxes[0].any()
        assert batch.crops[0, 0].mean().item() == pytest.approx(shade, abs=0.01)
        counts = source.protocol()["objects"]["counts"][split]
        assert (counts["fallback"], counts["unlisted"], counts["missing_crops"]) == (2, 2, 1)
    with pytest.raises(DataError, match="1 crops of the train split are missing"):
        data(str(folder), missing_images="error").posts("train")
    (tmp_path / "mine_aux_images" / "train" / "crops" / "0_crop.png").unlink()
    with pytest.raises(DataError, match="none of its 2 crops is in"):
        data(str(folder)).posts("train")


def dicts_of(folder: Path, **crops: list[str]) -> None:
    """The dict of each split: the crops of its first picture."""
    for word, names in crops.items():
        split = "valid" if word == "val" else word
        torch.save({f"{split}0_0.png": names}, folder / f"mine_{word}_dict.pth")


def crops_in(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


@pytest.mark.parametrize("inside", ["train", "train/crops"])
def test_the_crops_of_one_split_are_not_taken_for_those_of_others(tmp_path: Path, inside: str) -> None:
    folder, all_crops = corpus_folder(tmp_path), tmp_path / "elsewhere"
    for word in ("train", "val", "test"):
        crops_in(all_crops / word / "crops", "0.png")
    dicts_of(folder, train=["0.png"])
    given_ = str(all_crops / inside)
    assert data(str(folder), boxes=given_).posts("train")[0].images[0].objects  # of this split alone they are told
    dicts_of(folder, val=["0.png"], test=["0.png"])
    with pytest.raises(DataError, match=r"the crops of the train split, and mine_val_dict\.pth is of dev") as problem:
        data(str(folder), boxes=given_).posts("train")
    assert str(problem.value).splitlines()[1].startswith(f"Give {all_crops},")
    found = data(str(folder), boxes=str(all_crops)).posts("test")[0].images[0].objects[0].crop
    assert found is not None and found.path == all_crops / "test" / "crops" / "0.png"


def test_a_split_with_crops_of_its_own_takes_no_others(tmp_path: Path) -> None:
    folder, all_crops = corpus_folder(tmp_path), tmp_path / "mine_aux_images"
    crops_in(all_crops / "crops", "0.png", "1.png")
    crops_in(all_crops / "test" / "crops", "0.png")
    dicts_of(folder, test=["0.png", "1.png"])
    source = data(str(folder))
    objects = source.posts("test")[0].images[0].objects
    assert [each.crop and each.crop.path for each in objects] == [all_crops / "test" / "crops" / "0.png"]
    assert source.protocol()["objects"]["counts"]["test"]["missing_crops"] == 1


def test_a_name_of_two_splits_in_a_folder_of_both_is_nobodys_crop(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path)
    crops_in(tmp_path / "mine_aux_images" / "crops", "0.png", "1.png", "2.png")
    dicts_of(folder, train=["0.png", "1.png"], val=["0.png", "2.png"])
    source = data(str(folder))
    for split, name in (("train", "1.png"), ("dev", "2.png")):
        objects = source.posts(split)[0].images[0].objects
        assert [each.crop and each.crop.name for each in objects] == [name]
        counts = source.split_posts.objects.counts[split]  # type: ignore[union-attr]
        assert counts["missing_crops"] == counts["unsure_crops"] == 1
    assert "1 of these lie in a folder of several splits" in source.split_posts.objects.summary("dev")  # type: ignore[union-attr]


def test_the_limit_of_objects_counts_crops_that_are_there(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path)
    crops_in(tmp_path / "mine_aux_images" / "train" / "crops", "c.png", "d.png", "e.png")
    dicts_of(folder, train=["a.png", "b.png", "c.png", "d.png", "e.png"])
    objects = data(str(folder), max_objects=2).posts("train")[0].images[0].objects
    assert [each.crop and each.crop.name for each in objects] == ["c.png", "d.png"]


def test_boxes_by_the_name_of_a_picture_and_by_its_post_contradict_each_other(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path)
    rows = [{"image": "train1_0.png", "objects": []}, {"id": "train1", "objects": []}]
    with pytest.raises(DataError, match=r"b\.jsonl:2: boxes of post train1, .* by its name, too \(.*b\.jsonl:1\)"):
        data(str(folder), boxes=lines(tmp_path / "b.jsonl", *rows)).posts("train")


def test_voc_files_are_found_by_the_name_of_the_picture(tmp_path: Path) -> None:
    folder, voc = corpus_folder(tmp_path), tmp_path / "voc"
    voc.mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>15</xmax><ymax>10</ymax></bndbox>"
    for path in (folder / "images").iterdir():
        (voc / f"{path.stem}.xml").write_text(f"<annotation><object><name>x</name>{box}</object></annotation>")
    source = data(str(folder), boxes=str(voc))
    assert source.posts("train")[0].images[0].objects[0].box == (0, 0, 0.5, 0.5)
    assert source.protocol()["objects"]["source"] == "voc"


def test_boxes_of_many_more_pictures_than_the_corpus_has_are_counted(tmp_path: Path) -> None:
    folder, voc = corpus_folder(tmp_path), tmp_path / "voc"
    voc.mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>15</xmax><ymax>10</ymax></bndbox>"
    names = [*(path.stem for path in (folder / "images").iterdir()), *(f"extra{number}" for number in range(40))]
    for name in names:
        inside = f"<filename>{name}_region.jpg</filename><object><name>x</name>{box}</object>"
        (voc / f"{name}.xml").write_text(f"<annotation>{inside}</annotation>")
    source = data(str(folder), boxes=str(voc))
    summaries = []
    for split in ("train", "dev"):
        assert source.posts(split)[0].images[0].objects[0].box == (0, 0, 0.5, 0.5)
        assert source.split_posts.objects is not None
        summaries.append(source.split_posts.objects.summary(split))
    assert "40 names in" in summaries[0]
    assert f"{len(names)} files in" in summaries[0] and "name another picture inside" in summaries[0]
    assert "name another picture" not in summaries[1]


def test_id_names_a_post_with_one_picture_and_no_other(tmp_path: Path) -> None:
    row = {"objects": [{"box": [0, 0, 15, 10]}]}
    one = corpus_folder(tmp_path / "one")
    path = lines(tmp_path / "b.jsonl", *({"id": f"{split}0", **row} for split in ("train", "valid", "test")))
    assert data(str(one), boxes=path).posts("train")[0].images[0].objects[0].box == (0, 0, 0.5, 0.5)
    two = corpus_folder(tmp_path / "two", images=2)
    with pytest.raises(DataError, match="has 2 pictures"):
        data(str(two), boxes=path).posts("train")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"image": "foreign1.png", "objects": []}, {"image": "foreign2.png", "objects": []}],
            "Is it of another corpus",
        ),
        ([{"format": "mnerkit-boxes", "version": 1, "corpus": "twitter2015"}], "boxes of the corpus 'twitter2015'"),
        ([{"id": "who", "objects": []}], "of no post of mine"),
        ([], "holds no boxes"),
        ([{"image": "train0_0.png", "objects": [{"box": [100, 100, 120, 120]}]}], "lies outside picture"),
    ],
)
def test_a_file_of_another_corpus_or_size_is_refused_in_a_line(tmp_path: Path, rows: list[Any], said: str) -> None:
    folder = corpus_folder(tmp_path)
    with pytest.raises(DataError, match=said) as problem:
        data(str(folder), boxes=lines(tmp_path / "b.jsonl", *rows)).posts("train")
    assert len(str(problem.value).splitlines()) <= 2


@pytest.mark.parametrize("content", [[1], {"a.png": "crop"}, {1: ["a"]}, {"a.png": ["../b.png"]}])
def test_a_dict_that_is_none_is_refused(tmp_path: Path, content: Any) -> None:
    folder = corpus_folder(tmp_path)
    (tmp_path / "mine_aux_images").mkdir()
    torch.save(content, tmp_path / "mine_aux_images" / "train_dict.pth")
    with pytest.raises(DataError, match=r"train_dict\.pth"):
        data(str(folder)).posts("train")


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("kept", [1, 2, 5, 40, 200, -7])
def test_a_dict_that_was_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    folder = corpus_folder(tmp_path)
    (tmp_path / "mine_aux_images").mkdir()
    path = tmp_path / "mine_aux_images" / "train_dict.pth"
    for form in (True, False):
        torch.save({"O_1.jpg": ["a.png"]}, path, _use_new_zipfile_serialization=form)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(DataError, match=r"train_dict\.pth"):
            data(str(folder)).posts("train")


def damaged_dict(path: Path, kind: str) -> None:
    if kind == "unpacks to more than the limit":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("archive/data.pkl", b"\x80\x02}." + b"\0" * (64 << 20))
    elif kind == "no key to what is kept apart":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("archive/data.pkl", b"\x80\x02K\x01Q.")
            packed.writestr("archive/version", "3\n")
            packed.writestr("archive/byteorder", "little")
    elif kind == "of another pickle protocol":
        torch.save({"a.jpg": ["a.png"]}, path, pickle_protocol=4)
    else:
        torch.save({"\ud800.jpg": ["a.png"]}, path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unpacks to more than the limit", "its parts are compressed"),
        ("no key to what is kept apart", "not a dict of plain data"),
        ("of another pickle protocol", "not a dict of plain data: Unsupported operand"),
        ("half a surrogate pair", "is not a plain name"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_hostile_dict_is_refused_in_a_line(tmp_path: Path, kind: str, said: str) -> None:
    folder = corpus_folder(tmp_path)
    (tmp_path / "mine_aux_images").mkdir()
    path = tmp_path / "mine_aux_images" / "train_dict.pth"
    damaged_dict(path, kind)
    with pytest.raises(DataError, match=said) as problem:
        data(str(folder)).posts("train")
    assert str(path) in str(problem.value) and len(str(problem.value).splitlines()) <= 2


@pytest.mark.filterwarnings("error")
def test_a_dict_of_another_pickle_protocol_is_read_without_a_warning(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path)
    crops_in(tmp_path / "mine_aux_images" / "train" / "crops", "a.png")
    torch.save({"train0_0.png": ["a.png"]}, folder / "mine_train_dict.pth", pickle_protocol=3)
    assert len(data(str(folder)).posts("train")[0].images[0].objects) == 1


def test_a_dict_can_not_run_code(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path)
    (tmp_path / "mine_aux_images").mkdir()
    mark = tmp_path / "ran"
    torch.save({"a": _Evil(mark)}, tmp_path / "mine_aux_images" / "train_dict.pth")
    with pytest.raises(DataError, match="not a dict of plain data"):
        data(str(folder)).posts("train")
    assert not mark.exists()


def test_folders_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for given_, kind in ((tmp_path / "none.jsonl", DataError), (tmp_path, UsageError)):
        with pytest.raises(MnerkitError, match=r"--data\.boxes") as problem:
            data(limit=2, boxes=str(given_)).posts("train")
        assert isinstance(problem.value, kind)


def test_pictures_of_others_bring_their_objects_and_scores_along() -> None:
    source = data(variant="multi", limit=30, relevance="oracle")
    right, shuffled = source.posts("train", "right"), source.posts("train", "shuffled")
    told = {id(image.pixels): (image.objects, image.relevance) for each in right for image in each.images}
    for each in shuffled:
        assert [(image.objects, image.relevance) for image in each.images] == [
            told[id(image.pixels)] for image in each.images
        ]
    blank = source.posts("train", "blank")
    assert all(not image.objects for each in blank for image in each.images)


def test_relevance_is_that_of_the_file_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path, images=3)
    rows = [{"id": f"{s}{n}", "scores": [0.1, 0.5, 0.9]} for s in ("train", "valid", "test") for n in range(3)]
    path = lines(tmp_path / "r.jsonl", {"format": "mnerkit-relevance", "supervision": "utility"}, *rows)
    source = data(str(folder), needs("whole", max_images=2), relevance=path)
    batch = source.collator()(source.posts("dev"))
    assert batch.relevance is not None
    torch.testing.assert_close(batch.relevance, torch.tensor([[0.1, 0.5]] * 3))
    assert source.protocol()["relevance"]["about"] == {"supervision": "utility"}
    assert batch.select(torch.tensor([1])).relevance.shape == (1, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:-1], "no scores for 1 of 3 posts, the first is 'train2'"),
        (lambda rows: [*rows[:2], {"id": "train2", "scores": [0.5]}], "1 scores for the 2 pictures of post train2"),
        (
            lambda rows: [*rows[:2], {"id": "train2", "scores": [0.5, float("nan")]}],
            r"scores\[1\] must be a finite number",
        ),
        (lambda rows: [*rows[:2], {"id": "train2", "scores": [0.5, 2]}], r"scores\[1\] must be 1 at most, got 2"),
        (lambda rows: [*rows, rows[0]], "a second time"),
        (lambda rows: [*rows, {"id": "train2"}], "the key 'scores' is missing"),
        (lambda rows: [*rows, {"id": 3, "scores": [0.5]}], "id must be a text, got 3"),
    ],
)
def test_bad_files_of_scores_are_refused_in_a_line(tmp_path: Path, change: Any, said: str) -> None:
    folder = corpus_folder(tmp_path, images=2)
    path = lines(tmp_path / "r.jsonl", *change([{"id": f"train{n}", "scores": [0, 1]} for n in range(3)]))
    with pytest.raises(DataError, match=said) as problem:
        data(str(folder), relevance=path).posts("train")
    assert len(str(problem.value).splitlines()) <= 2


def scores_of(source: MnerData, path: Path, **head: Any) -> str:
    """A file with scores of all posts of a corpus, and a first line."""
    splits = source.content.splits.values()
    rows = [{"id": each.id, "scores": [0.5] * len(each.images)} for posts in splits for each in posts]
    return lines(path, {"format": "mnerkit-relevance", **head}, *rows)


def test_scores_of_another_corpus_are_refused_in_a_line(tmp_path: Path) -> None:
    source = data(str(corpus_folder(tmp_path)))
    header = source.content.header
    for head, said in (
        ({"corpus": "twitter2015"}, "scores of twitter2015 (?, digest ?), and this is mine (default, digest "),
        ({**header, "digest": "0" * 64}, "scores of mine (default, digest 000000000000), and this is mine"),
        ({"corpus": ["mine"]}, "scores of ['mine']"),
    ):
        path = scores_of(source, tmp_path / "r.jsonl", **head)
        with pytest.raises(DataError, match=re.escape(said)) as problem:
            data(source.options.corpus, relevance=path).posts("train")
        assert len(str(problem.value).splitlines()) == 1
    for head in ({}, header, {"digest": header["digest"]}):
        for limit in (None, 2):  # the digest is that of the whole corpus
            path = scores_of(source, tmp_path / "r.jsonl", **head)
            assert data(source.options.corpus, relevance=path, limit=limit).posts("dev")[0].images[0].relevance == 0.5


def test_scores_of_a_probe_preset_hold_for_it_alone_whatever_the_limit(tmp_path: Path) -> None:
    source = data(variant="multi", limit=6)
    path = scores_of(source, tmp_path / "r.jsonl", **source.content.header)
    assert data(variant="multi", limit=4, relevance=path).posts("train")[0].images[0].relevance == 0.5
    with pytest.raises(DataError, match=r"scores of probe \(multi, digest .*, and this is probe \(default, digest"):
        data(limit=4, relevance=path).posts("train")


def test_who_needs_scores_is_told_where_one_is_missing_and_others_get_none() -> None:
    scored, unscored = post(colour(1, relevance=0.5)), post(colour(1))
    assert collator("whole")([scored, post()]).relevance.tolist() == [[0.5], [0.0]]  # type: ignore[union-attr]
    assert collator("whole")([scored, unscored]).relevance is None
    with pytest.raises(DataError, match="has no relevance score"):
        collator("whole", relevance=True)([scored, unscored])
    with pytest.raises(UsageError, match="oracle is for the probe corpus"):
        from mnerkit.data.pictures.relevance_scores import with_true_relevance

        with_true_relevance([unscored])


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017"])
def test_objects_of_real_pictures_decode(real_data: Path, tmp_path: Path, name: str) -> None:
    names = sorted(path.name for path in (real_data / f"{name}_images").iterdir())
    rows = [{"image": each, "unit": "shares", "objects": [{"box": [0.1, 0.2, 0.6, 0.9]}]} for each in names]
    source = data(name, root=str(real_data), boxes=lines(tmp_path / "b.jsonl", *rows))
    posts = [each for split in ("train", "dev", "test") for each in source.posts(split) if each.images[0].present]
    batch = source.collator()(posts)
    assert len(posts) == 15 and batch.crop_mask is not None and batch.boxes is not None
    assert batch.crop_mask.tolist() == [[True]] * 15
    torch.testing.assert_close(batch.boxes[:, 0], torch.tensor([[0.1, 0.2, 0.6, 0.9]]).expand(15, -1))


def test_released_dicts_know_nearly_all_pictures_and_are_refused_without_their_crops(
    real_data: Path, tmp_path: Path
) -> None:
    if not (real_data / "hvpnet_layout").is_dir():
        pytest.skip("no released dicts there")
    crops = tmp_path / "twitter2015_aux_images" / "val" / "crops"
    crops.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(crops / "0_pred_yolo_crop_0.png")
    for path in (real_data / "hvpnet_layout").glob("twitter2015*"):
        (tmp_path / "twitter2015_aux_images" / path.name).symlink_to(path)
    found = find_objects(load_corpus("twitter2015", real_data), tmp_path / "twitter2015_aux_images")
    posts = load_corpus("twitter2015", real_data, splits=("dev",)).splits["dev"]
    annotated = found.annotated("dev", posts)
    counts = found.counts["dev"]
    assert found.unknown == 0
    assert sum(len(each.images[0].objects) for each in annotated) == 1 == counts["crops"] - counts["missing_crops"]
    with pytest.raises(DataError, match=r"none of its .* crops is in"):
        data("twitter2015", root=str(real_data), boxes=str(real_data / "hvpnet_layout")).posts("dev")


def test_posts_with_more_pictures_than_the_method_takes_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = corpus_folder(tmp_path, images=3)
    source = data(str(folder), needs("whole", max_images=2))
    batch = source.collator()(source.posts("train"))
    assert batch.images is not None and batch.images.shape[1] == 2
    assert any("3 of 3 posts have more than 2 pictures; the first 2 are seen" in each for each in caplog.messages)
    assert source.protocol()["max_images"] == 2
    caplog.clear()
    data(str(folder), needs("whole", max_images=3)).posts("train")
    assert not caplog.messages


@pytest.mark.parametrize("name", ["mner-mi", "mner-mi-plus"])
def test_pictures_of_mner_mi_keep_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    (folder / "images").mkdir(parents=True)
    shades = {"b.jpg": 0, "a.jpg": 128, "c.jpg": 255}
    for each, shade in shades.items():
        Image.new("RGB", (9, 9), (shade,) * 3).save(folder / "images" / each)
    for split in ("train", "valid", "test"):
        row = {"id": split, "text": ["Ann"], "label": ["B-PER"], "images": ["c.jpg", "lost.jpg", "b.jpg", "a.jpg"]}
        (folder / f"{split}.txt").write_text(json.dumps(row) + "\n")
    source = data(name, needs("whole", "objects", max_images=4, max_objects=1), root=str(tmp_path))
    batch = source.collator()(source.posts("train"))
    assert batch.images is not None and batch.image_mask is not None and batch.crop_image is not None
    assert batch.image_mask.tolist() == [[True, False, True, True]]
    assert batch.images[0].mean((1, 2, 3)).tolist() == pytest.approx([1, 0, -1, 0], abs=0.03)
    assert batch.crop_mask.tolist() == [[True, False, True, True]]  # type: ignore[union-attr]
    assert batch.crop_image.tolist() == [[0, 1, 2, 3]]
    from mnerkit.data.corpus.stats import corpus_stats, table

    found = corpus_stats(source.content)
    assert found["splits"]["train"]["by_images"] == {4: 1}
    assert "posts with 4 images" in table(found)
