"""The feature cache from the towers' side: what is known is neither computed nor decoded, and equal bit for bit."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tower_calls import counted

from mnerkit.data.batches.batch import Batch, PictureBatch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.features import table
from mnerkit.data.features.table_files import VECTORS
from mnerkit.data.pictures import decoding
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_loader import PictureLoader, Policy, content_digest
from mnerkit.towers.by_name import text_tower, vision_tower
from mnerkit.towers.frozen.cached_inputs import KnownPictures, keep_on_disk
from mnerkit.towers.frozen.memory import FeatureMemory, freeze
from mnerkit.towers.vision.tiny_cnn import TinyVision

Folder = Callable[[str], str]
FACTS = CorpusFacts((), ("the", "cat"))
ROWS = [["the", "cat", "sat"], ["a", "dog"], []]


def text(folder_of: Folder, cache: Path | None, name: str = "bert", **options: Any) -> Any:
    tower = text_tower(folder_of(name), facts=FACTS, freeze=True, **options)
    keep_on_disk([tower], cache)
    return tower


def vision(folder_of: Folder, cache: Path | None, name: str = "clip") -> Any:
    tower = vision_tower(folder_of(name), freeze=True)
    keep_on_disk([tower], cache)
    return tower


@pytest.fixture
def posts(tmp_path: Path) -> list[Post]:
    """Files of noise, a generated picture, a missing and a broken one, and a post without any."""
    noise = np.random.default_rng(0)
    refs = []
    for number in range(4):
        file = tmp_path / f"{number}.jpg"
        Image.fromarray(noise.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(file)
        refs.append(ImageRef(file.name, file))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    broken, missing = ImageRef("broken.jpg", tmp_path / "broken.jpg"), ImageRef("missing.jpg")
    drawn = ImageRef("drawn", pixels=noise.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    shown = [refs[:2], refs[2:3], [refs[3], broken], [missing], [], [drawn]]
    return [Post(str(number), ("the", "cat"), ("O", "O"), tuple(each)) for number, each in enumerate(shown)]


def collator(tower: Any, view: str, known: bool = True, policy: Policy = "blank") -> Collator:
    reader = text_reader()
    needs = Needs(reader, frozenset({view}), tower.picture, grid=2, max_images=2)
    loader = PictureLoader(tower.picture, policy)
    return Collator(needs, loader, TagSet(("PER",)), known=KnownPictures.of([tower]) if known else None)


def text_reader() -> Any:
    from mnerkit.towers.text.vocabulary import VocabularyReader

    return VocabularyReader(["the"])


def asked(tower: Any, batch: Batch, view: str) -> tuple[torch.Tensor, ...]:
    """What a method gets of a batch, padding left out."""
    if view == "grid":
        assert batch.crop_mask is not None
        return (tower.see_pooled(batch.pictures("grid"))[batch.crop_mask.flatten()],)
    states = tower.see(batch.pictures("whole"))
    assert batch.image_mask is not None
    return states.pooled[batch.image_mask.flatten()], states.regions[batch.image_mask.flatten()]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were decoded."""
    names: list[str] = []
    inner = decoding.decode

    def decode(ref: ImageRef) -> np.ndarray:
        names.append(ref.name)
        return inner(ref)

    monkeypatch.setattr(decoding, "decode", decode)
    return names


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the disk is full."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(table, "_allocate", full)


# ------------------------------------------------------------------ texts


@pytest.mark.parametrize("name", ["bert", "clip"])
def test_texts_are_computed_by_the_first_run_alone(folder_of: Folder, tmp_path: Path, name: str) -> None:
    first, plain = text(folder_of, tmp_path, name), text(folder_of, None, name)
    states, expected = (tower(tower.reader.collate(ROWS)) for tower in (first, plain))
    second = text(folder_of, tmp_path, name)
    runs = counted(second)
    again = second(second.reader.collate(ROWS[::-1]))
    assert runs == []
    for row in range(3):
        assert torch.equal(states.words[row], again.words[2 - row]) and torch.equal(states.words, expected.words)
        assert torch.equal(states.pooled[row], again.pooled[2 - row]) and torch.equal(states.pooled, expected.pooled)


@pytest.mark.parametrize("on_disk", [False, True])
def test_posts_that_differ_only_in_words_that_were_cut_off_are_kept_apart(
    folder_of: Folder, tmp_path: Path, on_disk: bool
) -> None:
    long, short = ["the"] * 12, ["the"] * 9  # eight pieces at most: both are cut
    for first, then in ((long, short), (short, long)):
        tower = text(folder_of, tmp_path / str(len(first)) if on_disk else None, max_tokens=8)
        assert tower(tower.reader.collate([first])).words.shape[1] == len(first)
        if on_disk:
            tower = text(folder_of, tmp_path / str(len(first)), max_tokens=8)
            tower(tower.reader.collate([first]))
        words = tower(tower.reader.collate([then])).words
        assert words.shape[1] == len(then) and not words[0, 6:].any() and words[0, :6].any(-1).all()
        runs = counted(tower)
        tower(tower.reader.collate([first, then]))
        assert runs == []  # both are known: neither took the other's place


def test_a_tower_that_reads_otherwise_misses(folder_of: Folder, tmp_path: Path) -> None:
    rows = [["the", "cat"]]
    first = text(folder_of, tmp_path)
    first(first.reader.collate(rows))
    for options in ({"word_pool": "mean"}, {"last_layers": 2}, {"max_tokens": 20}, {"second_words": 3}):
        other = text(folder_of, tmp_path, **options)
        runs = counted(other)
        other(other.reader.collate(rows))
        assert runs == [1], options
    heavier = text(folder_of, tmp_path)
    with torch.no_grad():
        next(heavier.parameters())[0, 0] += 1e-3
    runs = counted(heavier)
    heavier(heavier.reader.collate(rows))
    with torch.autocast("cpu", torch.bfloat16):
        heavier(heavier.reader.collate(rows))
    assert runs == [1, 1], "other weights, and another precision"
    unchanged = text(folder_of, tmp_path)
    runs = counted(unchanged)
    unchanged(unchanged.reader.collate(rows))
    assert runs == []


def test_half_precision_takes_half_the_space_and_is_kept_apart(folder_of: Folder, tmp_path: Path) -> None:
    sizes, words = {}, {}
    for kept in ("float32", "half"):
        for _ in range(2):  # computed, and read from disk
            tower = text_tower(folder_of("bert"), facts=FACTS, freeze=True)
            keep_on_disk([tower], tmp_path / kept, kept=kept)
            runs = counted(tower)
            states = tower(tower.reader.collate(ROWS))
            assert states.words.dtype == states.pooled.dtype == torch.float32
            words[kept, bool(runs)] = states.words
        sizes[kept] = sum(shard.stat().st_size - VECTORS for shard in (tmp_path / kept).rglob("*.table"))
    assert len(words) == 4 and torch.equal(words["half", True], words["half", False])
    assert torch.equal(words["half", True], words["float32", True].half().float())
    assert 0 < 2 * sizes["half"] == sizes["float32"]
    keep_on_disk([tower], tmp_path / "half", kept="float32")
    runs = counted(tower)
    tower(tower.reader.collate(ROWS))
    assert runs, "values in half precision do not stand in for others"


def test_the_disk_takes_what_main_memory_does_not(folder_of: Folder, tmp_path: Path) -> None:
    tower = text(folder_of, tmp_path)
    tower.memory.main.limit = 300
    runs = counted(tower)
    for _ in range(2):
        for row in range(10):
            tower(tower.reader.collate([["cat"] * (row + 1)]))
    assert runs == [1] * 10 and len(tower.memory) == 10 and tower.memory.main.used == 0


def test_main_memory_is_bounded_where_the_disk_takes_nothing(
    folder_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch)
    tower = text(folder_of, tmp_path)
    tower.memory.main.limit = 300
    runs = counted(tower)
    for _ in range(2):
        for row in range(10):
            tower(tower.reader.collate([["cat"] * (row + 1)]))
    assert runs == [1] * 18 and len(tower.memory) == 2


def test_only_towers_from_outside_are_kept_on_disk(folder_of: Folder, tmp_path: Path) -> None:
    trained, random = vision_tower(folder_of("clip")), vision_tower("random:resnet18", freeze=True)
    keep_on_disk([trained, random, freeze(TinyVision())], tmp_path)
    assert trained.memory.folder is None and random.memory.folder is None
    frozen = vision(folder_of, tmp_path)
    assert frozen.memory.folder == tmp_path
    kept = frozen.memory
    keep_on_disk([frozen], tmp_path)
    assert frozen.memory is kept, "said twice, nothing is forgotten"


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("view", ["whole", "grid"])
@pytest.mark.parametrize("name", ["clip", "vit"])
def test_a_known_picture_is_neither_decoded_nor_computed(
    folder_of: Folder, tmp_path: Path, posts: list[Post], decoded: list[str], view: str, name: str
) -> None:
    plain = vision(folder_of, None, name)
    without = collator(plain, view, known=False)(posts)
    expected = asked(plain, without, view)
    first = vision(folder_of, tmp_path / "cache", name)
    cold = asked(first, collator(first, view)(posts), view)
    second = vision(folder_of, tmp_path / "cache", name)
    collate, runs = collator(second, view), counted(second)
    decoded.clear()
    for tried in (["broken.jpg"], []):  # has no features, and is tried once
        batch = collate(posts)
        assert batch.images is None and batch.crops is None and decoded == tried
        decoded.clear()
    for mask in ("image_mask", "crop_mask", "crop_image", "boxes"):
        mine, theirs = getattr(batch, mask), getattr(without, mask)
        assert (mine is None and theirs is None) or torch.equal(mine, theirs)
    assert batch.notes["broken"].keys() == {"broken.jpg"}, "still told"
    warm = asked(second, batch, view)
    assert runs == [] and decoded == []
    for each in (cold, warm):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(each, expected, strict=True))


def test_one_unknown_picture_has_the_batch_decoded(
    folder_of: Folder, tmp_path: Path, posts: list[Post], decoded: list[str]
) -> None:
    tower = vision(folder_of, tmp_path / "cache")
    collate = collator(tower, "whole")
    tower.see(collate(posts[:1]).pictures("whole"))
    runs = counted(tower)
    decoded.clear()
    batch = collate(posts[:2])
    assert batch.images is not None and sorted(decoded) == ["0.jpg", "1.jpg", "2.jpg"]
    states = tower.see(batch.pictures("whole"))
    assert runs == [1], "what is known is not computed again"
    assert torch.equal(states.pooled[3], torch.zeros(tower.pooled_width)), "no states where there is no picture"


@pytest.mark.parametrize("view", ["whole", "grid"])
def test_features_that_prove_damaged_are_decoded_and_computed_anew(
    folder_of: Folder, tmp_path: Path, posts: list[Post], decoded: list[str], view: str
) -> None:
    first = vision(folder_of, tmp_path / "cache")
    expected = asked(first, collator(first, view)(posts[:2]), view)
    for shard in (tmp_path / "cache").rglob("*.table"):
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
    second = vision(folder_of, tmp_path / "cache")
    batch = collator(second, view)(posts[:2])
    decoded.clear()
    assert batch.images is None and batch.crops is None
    found = asked(second, batch, view)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    assert decoded and set(decoded) <= {"0.jpg", "1.jpg", "2.jpg"}


def test_a_full_disk_changes_no_state(
    folder_of: Folder, tmp_path: Path, posts: list[Post], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    expected = asked(plain := vision(folder_of, None), collator(plain, "whole", known=False)(posts), "whole")
    refuse(monkeypatch)
    tower = vision(folder_of, tmp_path / "cache")
    runs = counted(tower)
    for _ in range(2):
        found = asked(tower, collator(tower, "whole")(posts), "whole")
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    assert runs == [1] * 5, "memory holds them"
    assert sum("can't be written" in record.message for record in caplog.records) == 1


def test_another_format_or_weight_or_part_is_another_picture(
    folder_of: Folder, tmp_path: Path, posts: list[Post]
) -> None:
    tower = vision(folder_of, tmp_path)
    tower.see(collator(tower, "whole")(posts[:1]).pictures("whole"))
    assert collator(tower, "whole")(posts[:1]).images is None
    assert collator(tower, "grid")(posts[:1]).crops is not None, "the cells of a picture are not the picture"
    tower.picture = PictureFormat(24, (0.0, 0.0, 0.0), tower.picture.std)
    tower.memory._reading = None
    assert collator(tower, "whole")(posts[:1]).images is not None
    heavier = vision(folder_of, tmp_path)
    with torch.no_grad():
        next(heavier.parameters()).flatten()[0] += 1e-3
    assert collator(heavier, "whole")(posts[:1]).images is not None
    assert collator(vision(folder_of, tmp_path), "whole")(posts[:1]).images is None


def test_pooled_vectors_are_kept_without_the_regions(folder_of: Folder, tmp_path: Path, posts: list[Post]) -> None:
    tower = vision(folder_of, None)
    batch = collator(tower, "grid")(posts[:1])
    pooled = tower.see_pooled(batch.pictures("grid"))
    assert tower.memory.main.used == pooled.numel() * 4
    assert torch.equal(tower.see(batch.pictures("grid")).pooled, pooled)
    assert torch.equal(tower.pool(batch.pictures("grid").pixels()), pooled)


def test_a_frozen_resnet_remembers_and_returns_stages_when_asked(folder_of: Folder) -> None:
    tower, free = vision_tower("random:resnet18", freeze=True), vision_tower("random:resnet18").eval()
    free.load_state_dict(tower.state_dict())
    runs, pixels = counted(tower), torch.randn(2, 3, 70, 40)
    for _ in range(2):
        mine, theirs = tower(pixels), free(pixels)
        assert mine.grid == theirs.grid == (3, 2) and mine.stages == ()
        torch.testing.assert_close(mine.regions, theirs.regions, atol=1e-4, rtol=1e-4)
    assert runs == [1, 1]
    assert len(tower.see_stages(PictureBatch(pixels)).stages) == 4


def test_a_frozen_tiny_tower_remembers_pooled_vectors_and_regions_of_any_size() -> None:
    free = TinyVision().eval()
    tower, pixels = freeze(deepcopy(free)), torch.randn(3, 3, 40, 70)
    runs = []
    read = tower.read
    tower.read = lambda *given, **named: runs.append(len(given[0])) or read(*given, **named)  # type: ignore[func-returns-value]
    crops = PictureBatch(pixels, crops=True)
    for _ in range(2):
        torch.testing.assert_close(tower.see_pooled(crops), free.see_pooled(crops), atol=1e-5, rtol=1e-5)
    assert runs == [1, 1, 1]  # glances alone, each picture by itself, once
    for _ in range(2):
        mine, theirs = tower(pixels), free(pixels)
        assert mine.grid == theirs.grid == (5, 9) and mine.stages == ()
        torch.testing.assert_close(mine.regions, theirs.regions, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine.pooled, theirs.pooled, atol=1e-5, rtol=1e-5)
    assert runs == [1] * 6
    stages = tower.see_stages(PictureBatch(pixels)).stages
    assert [list(each.shape[1:]) for each in stages] == [[16, 20, 35], [32, 10, 18], [96, 5, 9], [96, 5, 9]]


def test_without_a_frozen_vision_tower_nothing_is_known(folder_of: Folder) -> None:
    assert KnownPictures.of([]) is None
    assert KnownPictures.of([text(folder_of, None)]) is None
    assert KnownPictures.of([TinyVision()]) is None
    assert KnownPictures.of([freeze(TinyVision())]) is not None
    assert KnownPictures.of([vision(folder_of, None), vision_tower(folder_of("vit"))]) is None


def test_a_file_that_changes_is_another_picture(tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(b"one")
    ref = ImageRef("x.jpg", file)
    before = content_digest(ref)
    assert content_digest(ref) == before
    file.write_bytes(b"two!")
    assert content_digest(ref) != before
    small, wide = (ImageRef("p", pixels=np.zeros(shape, np.uint8)) for shape in ((2, 3, 3), (3, 2, 3)))
    assert content_digest(small) != content_digest(wide)


def test_the_policy_error_raises_from_a_cached_batch_too(folder_of: Folder, tmp_path: Path, posts: list[Post]) -> None:
    tower = vision(folder_of, tmp_path)
    for number, said in ((2, "is not a picture"), (3, "is missing")):
        for _ in range(2):
            with pytest.raises(decoding.DataError, match=said):
                collator(tower, "whole", policy="error")([posts[number]])


def test_memory_without_room_computes_a_batch_together(folder_of: Folder, posts: list[Post]) -> None:
    tower = vision(folder_of, None)
    tower.memory = FeatureMemory(limit=0)
    runs = counted(tower)
    batch = collator(tower, "whole")(posts[:3])
    tower.see(batch.pictures("whole"))
    assert runs == [6] and len(tower.memory) == 0
