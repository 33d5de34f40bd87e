"""The cache of resized pictures: decoded once, the same tensors with it as without, and nothing on disk is trusted."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.batches import loading
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.datamodule import MnerData
from mnerkit.data.features import cache_folder
from mnerkit.data.pictures import decoding, picture_cache
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_cache import PictureCache
from mnerkit.data.pictures.picture_loader import PictureLoader, PictureSource
from mnerkit.towers.text.vocabulary import VocabularyReader

FORMAT = PictureFormat(16, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
POSTS = 5
KEYS = [bytes([number]) * 32 for number in range(8)]


@pytest.fixture(autouse=True)
def _any_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "RESERVE", 0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Posts with a picture and a box each; one file is no picture."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "images").mkdir()
    rows = []
    for number in range(POSTS):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg")
        boxes = [{"box": [1, 2, 20 + number, 30], "score": 0.9}]
        rows.append({"id": str(number), "text": ["Ann"], "label": ["B-PER"], "images": [f"{number}.jpg"]})
        rows[-1]["boxes"] = [boxes]
    rows.append({"id": "x", "text": ["Ann"], "label": ["O"], "images": ["x.jpg"]})
    (folder / "images" / "x.jpg").write_bytes(b"no picture")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for split in ("dev", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps({**rows[0], "id": split}))
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were decoded."""
    names: list[str] = []
    decode = decoding._open

    def noted(ref: ImageRef, least: int | None = None) -> Any:
        names.append(ref.name)
        return decode(ref, least)

    monkeypatch.setattr(decoding, "_open", noted)
    return names


def run(corpus: Path, cache: Path | str, **options: Any) -> MnerData:
    data = MnerData(corpus=str(corpus), cache=str(cache), batch_size=2, **options)
    data.connect(Needs(VocabularyReader(["ann"]), frozenset({"whole", "objects"}), picture=FORMAT))
    return data


def tensors(data: MnerData) -> list[torch.Tensor]:
    """Images and crops of an epoch, one row a post, in the posts' order."""
    batches = list(data.train_dataloader())
    order = torch.tensor([int(place) for batch in batches for place in batch.notes["index"]]).argsort()
    assert all(batch.images is not None and batch.crops is not None for batch in batches)
    most = max(batch.crops.shape[1] for batch in batches)
    padded = [torch.nn.functional.pad(each.crops, (0,) * 7 + (most - each.crops.shape[1],)) for each in batches]
    return [torch.cat([batch.images for batch in batches])[order], torch.cat(padded)[order]]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def files(cache: Path, ending: str) -> list[Path]:
    return sorted((cache / "pictures").glob(f"*/*.{ending}"))


def test_a_picture_is_decoded_once_in_all_epochs_and_runs(corpus: Path, tmp_path: Path, decoded: list[str]) -> None:
    expected = tensors(run(corpus, "none"))
    decoded.clear()
    data = run(corpus, tmp_path)
    for names in ([f"{number}.jpg" for number in range(POSTS)], []):  # the first and the second epoch
        assert equal(tensors(data), expected)
        assert sorted(set(decoded) - {"x.jpg"}) == sorted(each for each in decoded if each != "x.jpg") == names
        decoded.clear()
    assert equal(tensors(run(corpus, tmp_path)), expected) and set(decoded) <= {"x.jpg"}
    assert equal(tensors(run(corpus, tmp_path, workers=2)), expected)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a flipped bit": ("pixels", _flipped),
    "a cut file": ("pixels", lambda path: os.truncate(path, 100)),
    "no pixels": ("pixels", Path.unlink),
    "a flipped bit among the keys": ("keys", _flipped),
    "a torn entry": ("keys", lambda path: os.truncate(path, path.stat().st_size - 5)),
    "strange bytes": ("keys", lambda path: path.write_bytes(os.urandom(1000))),
    "another program's": ("keys", lambda path: path.with_name("a.keys").write_bytes(b"mine")),
    "no description": ("keys", lambda path: (path.parent / "pictures.json").unlink()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_decoded_again(corpus: Path, tmp_path: Path, decoded: list[str], damage: str) -> None:
    expected = tensors(run(corpus, tmp_path))
    ending, change = DAMAGE[damage]
    (path,) = files(tmp_path, ending)
    change(path)
    assert equal(tensors(run(corpus, tmp_path)), expected)
    decoded.clear()
    assert equal(tensors(run(corpus, tmp_path)), expected) and set(decoded) <= {"x.jpg"}, "kept anew"


def test_a_kept_picture_is_what_is_read(corpus: Path, tmp_path: Path) -> None:
    """The tensors come from the file: a row that is written with its checksum is believed."""
    cache = PictureCache(tmp_path, FORMAT, 1 << 30)
    loader = PictureLoader(FORMAT, cache=cache)
    ref = ImageRef("0.jpg", path=corpus / "images" / "0.jpg")
    source = PictureSource(ref, FORMAT, box=(0.0, 0.0, 0.5, 0.5))
    key = loader._key(source)
    assert key is not None
    cache.put(key, np.full((16, 16, 3), 7, np.uint8))
    nearly = PictureSource(ref, FORMAT, box=(0.0, 0.0, 0.5, 0.5000000001))
    mine, other = loader.resized([source, nearly])
    assert mine is not None and (mine == 7).all() and other is not None and not (other == 7).all()


def _write_and_read(root: Path, mine: int, cache: PictureCache, found: Any) -> None:
    for number in (mine, 4):
        cache.put(KEYS[number], np.full((16, 16, 3), number, np.uint8))
    found.put([None if (row := cache.get(key)) is None else int(row.max()) for key in (KEYS[mine], KEYS[0])])


def test_processes_share_what_they_write(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, FORMAT, 1 << 30)
    cache.put(KEYS[0], np.full((16, 16, 3), 50, np.uint8))
    assert cache.get(KEYS[0]) is not None
    context = multiprocessing.get_context("fork")
    found: Any = context.Queue()
    children = [context.Process(target=_write_and_read, args=(tmp_path, mine, cache, found)) for mine in (1, 2, 3)]
    for child in children:
        child.start()
    cache.put(KEYS[5], np.full((16, 16, 3), 5, np.uint8))
    read = [found.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert sorted(read) == [[1, 50], [2, 50], [3, 50]], "forked processes read what was there before"
    rows = [cache.get(key) for key in KEYS]
    assert [None if row is None else int(row.max()) for row in rows] == [50, 1, 2, 3, 4, 5, None, None]
    assert len(files_of := list(tmp_path.glob("*/*.pixels"))) == 4 and picture_cache.count(files_of[0].parent) == 8


@pytest.mark.parametrize("why", ["limit", "disk", "unwritable"])
def test_where_nothing_more_is_kept_a_run_says_so_once_and_goes_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    loading._reported.clear()
    expected = tensors(run(corpus, "none"))
    if why == "disk":
        monkeypatch.setattr(picture_cache, "RESERVE", 1 << 60)
    if why == "unwritable":
        (tmp_path / "pictures").write_text("a file")
    data = run(corpus, tmp_path, picture_cache=3e-6 if why == "limit" else 20)
    with caplog.at_level(logging.WARNING, "mnerkit.data"):
        assert equal(tensors(data), expected) and equal(tensors(data), expected)
    said = [each.getMessage() for each in caplog.records if "kept" in each.getMessage()]
    words = {"limit": "--data.picture_cache", "disk": "nearly full", "unwritable": "can't be written"}
    assert len(said) == 1 and words[why] in said[0]
    kept = sum(
        file.stat().st_size for file in tmp_path.rglob("*") if file.is_file() and file.suffix in (".keys", ".pixels")
    )
    assert 2000 < kept <= 3000 if why == "limit" else not kept


@pytest.mark.parametrize("options", [{"picture_cache": 0}, {"cache": "none"}])
def test_nothing_is_written_where_nothing_is_to_be_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path))
    tensors(run(corpus, **{"cache": str(tmp_path), **options}))
    assert not list(tmp_path.iterdir())


def test_the_command_lists_and_removes_them(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors(run(corpus, tmp_path))
    capsys.readouterr()
    assert main(["cache", "info", "--folder", str(tmp_path), "--json"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["kept"]
    assert kept["kind"] == "pictures" and kept["entries"] == 2 * POSTS and kept["problem"] is None
    assert "16 x 16 pixels" in kept["about"] and kept["bytes"] > 2 * POSTS * 16 * 16 * 3
    strange = next((tmp_path / "pictures").iterdir()) / "letter.txt"
    strange.write_text("mine")
    assert main(["cache", "clear", "--folder", str(tmp_path), "--yes"]) == 1
    assert strange.exists() and "letter.txt" in capsys.readouterr().err and files(tmp_path, "pixels")
    strange.unlink()
    assert main(["cache", "clear", "--folder", str(tmp_path), "--yes"]) == 0
    assert not list((tmp_path / "pictures").iterdir())


def test_pictures_are_written_to_new_files_after_the_cache_was_cleared(tmp_path: Path) -> None:
    pixels, cache = np.full((16, 16, 3), 7, np.uint8), PictureCache(tmp_path, FORMAT, 1 << 20)
    cache.put(KEYS[0], pixels)
    for file in cache.folder.iterdir():
        file.unlink()
    cache.folder.rmdir()
    assert cache.get(KEYS[0]) is None
    for key in KEYS[:2]:
        cache.put(key, pixels)
    assert not cache.problem and picture_cache.count(cache.folder) == 2
    assert all(np.array_equal(PictureCache(tmp_path, FORMAT, 1 << 20).get(key), pixels) for key in KEYS[:2])


def test_a_full_index_takes_no_more_entries_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "_MOST_ROWS", 1)
    ours, theirs = (PictureCache(tmp_path, FORMAT, 1 << 20) for _ in range(2))
    for key in KEYS[:2]:
        ours.put(key, np.zeros((16, 16, 3), np.uint8))
    theirs.put(KEYS[2], np.zeros((16, 16, 3), np.uint8))
    assert ours.get(KEYS[0]) is not None and ours.get(KEYS[2]) is None


def test_a_file_among_the_folders_of_pictures_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    cache = PictureCache(tmp_path, FORMAT, 1 << 20)
    cache.put(KEYS[0], np.zeros((16, 16, 3), np.uint8))
    assert not cache.problem and picture_cache.count(cache.folder) == 1


def test_a_description_without_a_size_is_none(tmp_path: Path) -> None:
    folder = tmp_path / picture_cache.PICTURES / picture_cache.folder_name({"pillow": "1"})
    folder.mkdir(parents=True)
    (folder / picture_cache.DESCRIPTION).write_text('{"pillow": "1"}')
    (thing,) = cache_folder.kept(tmp_path)
    assert "pictures.json that can be read" in thing.problem
