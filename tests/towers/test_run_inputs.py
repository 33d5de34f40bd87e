"""Inputs of a run that a frozen tower computes together, before they are needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tower_calls import counted

from mnerkit.data.batches.batch import text_keys
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.run_inputs import BLOCK, PictureInputs, RunInputs, TextInputs, posts_of_episodes
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.datamodule import MnerData
from mnerkit.data.episodes.sampling import Episode
from mnerkit.data.features.table import Table
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import DataError
from mnerkit.nn.visual_prefix import pooled_maps
from mnerkit.towers.by_name import text_tower, vision_tower
from mnerkit.towers.frozen import filling
from mnerkit.towers.frozen.cached_inputs import KnownPictures, keep_on_disk
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.vision.tiny_cnn import TinyVision

Folder = Callable[[str], str]


def posts(tmp_path: Path, count: int = 5) -> list[Post]:
    """Different posts of two to four words with a picture each; the last picture is broken."""
    words = ("the", "cat", "sat", "a", "dog")
    draw = np.random.default_rng(0)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    refs = [ImageRef(str(n), pixels=draw.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for n in range(count - 1)]
    refs.append(ImageRef("broken.jpg", tmp_path / "broken.jpg"))
    return [
        Post(str(n), ("the",) * (n % 3) + (words[n % 5], words[n // 5 % 5]), None, (replace(ref, caption="a dog"),))
        for n, ref in enumerate(refs)
    ]


def collator(text: Any, vision: Any, views: frozenset[str]) -> Collator:
    needs = Needs(text.reader, views, vision.picture, grid=2, caption_reader=text.reader)
    known = KnownPictures.of([vision])
    return Collator(needs, PictureLoader(vision.picture), TagSet(("PER",)), known=known, keyed=True)


@pytest.fixture
def text(folder_of: Folder) -> Any:
    return text_tower(folder_of("bert"), facts=CorpusFacts((), ("the", "cat")), freeze=True)


def test_the_first_batch_has_all_inputs_of_the_run_computed_in_blocks_of_one_length(text: Any, tmp_path: Path) -> None:
    given, vision = posts(tmp_path, 50), freeze(TinyVision())
    collate = collator(text, vision, frozenset({"whole"}))
    inputs = RunInputs()
    inputs.add(given, collate, lambda: given)
    inputs.add(given, collate, lambda: pytest.fail("the same posts are taken once"))
    keep_on_disk([text, vision], None, inputs)
    runs, seen = counted(text), counted(vision)
    batch = collate(given[:4])
    alone = [text._states(text.reader.collate([post.words])).words[0] for post in given[:4]]
    runs.clear()
    words = text(batch.text).words
    different = len({post.words for post in given})
    assert len(text.memory) == different and sum(runs) == different and max(runs) > 3
    vision.see(batch.pictures("whole"))
    assert seen == [BLOCK, 49 - BLOCK], "the broken picture is left out"
    for row, each in enumerate(alone):
        torch.testing.assert_close(words[row, : len(each)], each, atol=1e-5, rtol=1e-4)
    done = list(runs)
    batch = collate(given)
    text(batch.text), vision.see(batch.pictures("whole"))
    assert runs == done and batch.images is None and len(seen) == 2


def test_a_fill_says_what_it_takes_and_how_far_it_is(
    text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = posts(tmp_path, 30)
    collate = collator(text, freeze(TinyVision()), frozenset())
    inputs = RunInputs()
    inputs.add(given, collate, lambda: given)
    monkeypatch.setattr(filling, "SMALL", 1000)
    monkeypatch.setattr(filling, "EVERY", -1.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    keep_on_disk([text], tmp_path / "cache" / "features", inputs)
    with pytest.raises(DataError, match=r"inputs, take 0.0 GB, and 0.0 GB are free there: make room"):
        text(collate(given[:2]).text)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    text(collate(given[:2]).text)
    said = capsys.readouterr().out.splitlines()
    count = len({post.words for post in given})
    assert said[0].startswith(f"features of BertTower {text.spec}, {count} inputs: 0.0 GB in")
    assert said[-1] == f"  {count} of {count} inputs"


def test_ranks_share_a_fill(folder_of: Folder, tmp_path: Path) -> None:
    given, facts = posts(tmp_path, 30), CorpusFacts((), ("the", "cat"))
    towers = [text_tower(folder_of("bert"), facts=facts, freeze=True) for _ in range(3)]
    order: list[list[int]] = []
    for rank, tower in enumerate(towers[:2]):
        collate, inputs = collator(tower, freeze(TinyVision()), frozenset()), RunInputs()
        inputs.add(given, collate, lambda: given)
        inputs.ranks, inputs.rank = 2, rank
        keep_on_disk([tower], tmp_path / f"cache{rank}", inputs)
        runs = counted(tower)
        tower(collate(given[:2]).text)
        order.append(runs)
    half = len(order[0]) // 2
    assert order[0] != order[1] and order[1] == order[0][half:] + order[0][:half], "each begins where no other does"
    collate, inputs = collator(towers[2], freeze(TinyVision()), frozenset()), RunInputs()
    inputs.add(given, collate, lambda: given)
    inputs.ranks, inputs.rank = 2, 1
    keep_on_disk([towers[2]], tmp_path / "cache0", inputs)
    runs = counted(towers[2])
    towers[2](collate(given).text)
    assert runs == [], "what another has written is not computed"


def test_what_another_process_is_at_is_left_out_and_computed_in_the_end(
    text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = posts(tmp_path, 30)
    collate, inputs = collator(text, freeze(TinyVision()), frozenset()), RunInputs()
    inputs.add(given, collate, lambda: given)
    keep_on_disk([text], tmp_path / "cache", inputs)
    expected = text._states(text.reader.collate([given[0].words])).words[0]
    sizes = [len(block) for block in TextInputs(collate, given, "text").blocks]
    taken, runs = [True, False, True], counted(text)

    @contextmanager
    def claim(table: Table, key: str) -> Iterator[bool]:
        yield not (taken.pop(0) if taken else False)

    monkeypatch.setattr(Table, "claim", claim)
    words = text(collate(given[:1]).text).words[0]
    assert runs == [sizes[1], *sizes[3:], sizes[0], sizes[2]]
    torch.testing.assert_close(words[: len(expected)], expected, atol=1e-5, rtol=1e-4)


def test_the_blocks_depend_on_the_posts_alone(text: Any, tmp_path: Path) -> None:
    given = posts(tmp_path, 9)
    collate = collator(text, freeze(TinyVision()), frozenset({"whole", "captions"}))
    first, captions = TextInputs(collate, given, "text"), TextInputs(collate, given, "captions")
    lengths = [{first.lengths[number] for number in block} for block in first.blocks]
    assert all(len(each) == 1 for each in lengths) and sorted(n for block in first.blocks for n in block) == list(
        range(9)
    )
    assert lengths == sorted(lengths, key=min) and max(map(len, first.blocks)) > 1
    assert captions.keys == text_keys(text.reader.collate([[], ["a", "dog"]])), "each caption once, and none"
    pictures = PictureInputs(collate, given, "whole")
    batch, numbers = pictures.batch(range(9))
    assert len(pictures.keys) == 9 and numbers == list(range(8)) and len(batch) == 8
    for block in first.blocks:
        assert text_keys(first.batch(block)[0]) == [first.keys[number] for number in block]


def test_a_changed_copy_of_a_batch_has_no_digests(text: Any, tmp_path: Path) -> None:
    batch = collator(text, freeze(TinyVision()), frozenset())(posts(tmp_path)).text
    assert batch.keys == text_keys(batch) and batch.view == "text"
    assert replace(batch, word_mask=batch.word_mask).keys is None
    rows = torch.tensor([3, 1])
    assert batch.select(rows).keys == [batch.keys[3], batch.keys[1]]
    assert batch.attn_mask is not None
    hidden = batch.attn_mask.clone()
    hidden[2, 1] = False
    assert text_keys(replace(batch, attn_mask=hidden))[2] != batch.keys[2]


def test_pooled_stages_of_a_frozen_cnn_are_computed_once(tmp_path: Path, text: Any) -> None:
    given, tower = posts(tmp_path), vision_tower("random:resnet18", freeze=True)
    collate = collator(text, tower, frozenset({"whole"}))
    runs = counted(tower)
    batch = collate(given).pictures("whole").select(torch.arange(4))
    live = tower.see_stages(batch)
    for _ in range(2):
        runs.clear()
        for pooling in ((2, "adaptive"), (3, "released")):
            kept = tower.see_stages(batch, pooling)
            for mine, theirs in zip(kept.stages, pooled_maps(live.stages, *pooling), strict=True):
                torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(kept.pooled, live.pooled, atol=1e-4, rtol=1e-4)
    assert runs == []
    assert collate(given[:4]).images is None


def test_with_absent_zeros_a_frozen_tower_sees_what_a_trained_one_sees(text: Any, tmp_path: Path) -> None:
    given = posts(tmp_path)
    free = TinyVision().eval()
    frozen = freeze(TinyVision())
    frozen.load_state_dict(free.state_dict())
    choices: list[dict[str, Any]] = [
        {},
        {"regions": False},
        {"stages": True},
        {"stages": True, "pooling": (1, "adaptive")},
    ]
    for views in choices:
        seen = []
        for tower in (free, frozen):
            sight = Sight(tower, absent="zeros").eval()
            seen.append(sight.whole(collator(text, tower, frozenset({"whole"}))(given), **views))
        if "stages" in views:
            mine, theirs = (pooled_maps(each.states.stages, 1) for each in seen)
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(seen[0].pooled, seen[1].pooled, atol=1e-5, rtol=1e-4)
        assert seen[0].mask.all() and seen[1].mask.all()
        if not views:
            torch.testing.assert_close(seen[0].regions, seen[1].regions, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("one_pool", [True, False])
def test_of_a_few_episodes_only_their_posts_are_read(one_pool: bool) -> None:
    pool = [Post(str(n), ("a",), ("O",)) for n in range(20)]
    support = pool if one_pool else [Post(f"s{n}", ("a",), ("O",)) for n in range(9)]
    drawn = [Episode(n, ("PER",), (n, n + 1), (n + 2,)) for n in range(20)]
    source: Any = SimpleNamespace(posts=pool, support_posts=support, episode=drawn.__getitem__)
    few = [post.id for post in posts_of_episodes(source, [0, 1], 2)]
    assert few == (["0", "1", "2", "3"] if one_pool else ["s0", "s1", "s2", "2", "3"])
    assert len(posts_of_episodes(source, range(15), 2)) == len({id(each) for each in [*pool, *support]})


def test_a_quick_try_computes_no_more_than_it_reads() -> None:
    data = MnerData(limit=40, batch_size=8)
    needs = Needs(text_tower("tiny-bert", facts=CorpusFacts((), ("the",))).reader)
    for limits, groups in (({}, 1), ({"limit_train_batches": 2}, 0)):
        data.connect(needs)
        data.trainer = SimpleNamespace(world_size=1, global_rank=0, **limits)  # type: ignore[assignment]
        data.train_dataloader()
        assert len(data.inputs._groups) == groups


def test_the_inputs_of_training_episodes_are_those_of_all_epochs() -> None:
    data = MnerData(
        corpus="probe", variant="fewshot", train_types=["PER", "LOC"], test_types=["VEH", "ANI"], n_way=2, k_shot=2,
        episodes_per_epoch=3,
    )  # fmt: skip
    data.connect(Needs(text_tower("tiny-bert", facts=CorpusFacts((), ("the",))).reader), "episodic")
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, max_epochs=4)  # type: ignore[assignment]
    data.train_dataloader()
    (group,) = data.inputs._groups
    source = data.episodes("train")
    later = source.episode(11)
    taken = {post.id for post in group.posts()}
    assert {source.posts[place].id for place in later.query} <= taken
    assert len(taken) < len({post.id for post in source.posts}), "a post that no epoch reads is left out"
