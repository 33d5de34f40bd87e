"""Data sets of the library `datasets` are read as they are, from folders, Parquet files and the hub."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError, UsageError

datasets = pytest.importorskip("datasets")
NAMES = ["O", "B-PER", "I-PER"]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def rows(split: str, **columns: Any) -> Any:
    """Two posts of a split."""
    features = {"tokens": datasets.List(datasets.Value("string"))}
    features["ner_tags"] = datasets.List(datasets.ClassLabel(names=NAMES))
    content: dict[str, Any] = {"tokens": [["Ann", "Lee", split], [split]], "ner_tags": [[1, 2, 0], [0]]}
    for key, (feature, values) in columns.items():
        features[key], content[key] = feature, values
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def data() -> Any:
    return datasets.DatasetDict({split: rows(split) for split in ("train", "validation", "test")})


def check(folder: Path) -> None:
    found = load_corpus(str(folder))
    for split, name in (("train", "train"), ("dev", "validation"), ("test", "test")):
        first, second = found.splits[split]
        assert (first.words, first.tags) == (("Ann", "Lee", name), ("B-PER", "I-PER", "O"))
        assert (first.id, second.id, second.tags) == (f"{name}-1", f"{name}-2", ("O",))
    assert any("class labels of 'ner_tags' are read by their names" in line for line in found.remarks)


def test_what_save_to_disk_writes_is_a_corpus(tmp_path: Path) -> None:
    data().save_to_disk(tmp_path / "d")
    check(tmp_path / "d")
    data()["train"].save_to_disk(tmp_path / "one")
    assert len(load_corpus(str(tmp_path / "one"), splits=("train",)).splits["train"]) == 2
    with pytest.raises(DataError, match="has no dev and no test split"):
        load_corpus(str(tmp_path / "one"))
    for file in (tmp_path / "d" / "test").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="test: no data set that can be read"):
        load_corpus(str(tmp_path / "d"))


@pytest.mark.parametrize("name", ["{}.parquet", "data/{}-0000{}-of-00002.parquet", "{}/000{}.parquet"])
def test_parquet_files_are_a_corpus(name: str, tmp_path: Path) -> None:
    for split, whole in data().items():
        shards = [whole.select([0]), whole.select([1])] if name.count("{}") == 2 else [whole]
        for number, shard in enumerate(shards):
            file = tmp_path / name.format(split, number)
            file.parent.mkdir(exist_ok=True)
            shard.to_parquet(file)
    check(tmp_path)
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no data set that can be read"):
        load_corpus(str(tmp_path))


def test_pictures_are_looked_up_under_the_names_that_the_data_set_has(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "PNG")
    picture = {"bytes": content.getvalue(), "path": "a.png"}
    column = {"image": (datasets.Image(), [picture, None])}
    datasets.DatasetDict({"train": rows("train", **column)}).save_to_disk(tmp_path / "d")
    (tmp_path / "d" / "images").mkdir()
    (tmp_path / "d" / "images" / "a.png").write_bytes(content.getvalue())
    found = load_corpus(str(tmp_path / "d"), splits=("train",))
    first, second = found.splits["train"]
    assert [ref.name for ref in first.images] == ["a.png"] and first.images[0].present and second.images == ()
    assert any("pictures inside the data set ('image') are looked up as files" in line for line in found.remarks)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("form", ["folder", "parquet", "parquet of others"])
def test_pictures_that_only_the_data_set_has_are_read(
    form: str, several: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "cache"))
    pictures: list[Any] = []
    for shade in (10, 200):
        content = io.BytesIO()
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(content, "PNG")
        pictures.append({"bytes": content.getvalue(), "path": "same.png" if form == "folder" else None})
    feature: Any = datasets.Image()
    if form == "parquet of others":
        feature = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    values = [pictures, [pictures[1]]] if several else pictures
    data = rows("train", **{"images" if several else "image": (datasets.List(feature) if several else feature, values)})
    (tmp_path / "d").mkdir()
    if form == "folder":
        datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "d")
    else:
        data.to_parquet(tmp_path / "d" / "train.parquet")
    for _ in range(2):
        found = load_corpus(str(tmp_path / "d"), splits=("train",))
        shades = [[int(decode(ref)[0, 0, 0]) for ref in post.images] for post in found.splits["train"]]
        assert shades == ([[10, 200], [200]] if several else [[10], [200]])
        assert any("are kept as files in the cache folder (2 pictures)" in line for line in found.remarks)


def test_a_name_of_the_hub_is_fetched_once(tmp_path: Path, monkeypatch: Any) -> None:
    """With a stand-in for the hub alone: what is fetched is kept and read as any folder."""
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "cache"))
    calls: list[Any] = []

    def load_dataset(*names: str, **more: Any) -> Any:
        calls.append((names, more))
        if names[0] == "who/none":
            raise ConnectionError("no such data set\nand more")
        return data()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for _ in range(2):
        found = load_corpus("hf:who/posts/en")
        assert found.name == "en" and found.splits["dev"][0].words[2] == "validation"
    assert calls == [(("who/posts", "en"), {})]
    with pytest.raises(DataError, match=r"hf:who/none can't be fetched \(no such data set\)"):
        load_corpus("hf:who/none")
    with pytest.raises(UsageError, match="no name of the hub"):
        load_corpus("hf:who/../../x")
    with pytest.raises(DataError, match="of the Hugging Face hub is hf:who/posts"):
        load_corpus("who/posts")


def test_processes_that_fetch_the_same_data_set_do_not_meet(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "cache"))
    fetching = 0

    def load_dataset(*_: str) -> Any:
        nonlocal fetching
        fetching += 1
        if fetching == 1:  # meanwhile another process fetches it from beginning to end
            load_corpus("hf:who/posts")
        return data()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_corpus("hf:who/posts").splits["dev"][0].words[2] == "validation"
    assert fetching == 2 and [path.name for path in (tmp_path / "cache" / "hub").iterdir()] == ["who--posts"]


def test_without_the_library_a_line_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    data().save_to_disk(tmp_path / "d")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs datasets: pip install 'mnerkit\[datasets\]'"):
        load_corpus(str(tmp_path / "d"))
