"""The datamodule: the same batches for every worker count and rank, and what its options promise."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.datamodule import MnerData, lightning
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.towers.text.vocabulary import VocabularyReader


@pytest.fixture(autouse=True)
def corpora_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnerkit.data.split_posts.load_corpus", _read)


_read = functools.cache(load_corpus)


def connected(mode: str = "plain", views: tuple[str, ...] = ("whole",), **options: Any) -> MnerData:
    data = MnerData(**{"limit": 90, "eval_batch_size": 32, "episodes_per_epoch": 12, **options})
    reader = VocabularyReader(data.facts.words)
    data.connect(Needs(reader, frozenset(views), PictureFormat(8) if views else None), mode)  # type: ignore[arg-type]
    return data


def told(batches: Any) -> list[Any]:
    """What is in some batches, as plain data."""
    return [
        (
            [post.id for post in batch.posts],
            batch.tags.tolist(),
            batch.query.tolist(),
            batch.tagset.types,
            batch.episode,
            None if batch.images is None else round(batch.images.double().sum().item(), 3),
        )
        for batch in batches
    ]


def queries(batches: Any) -> list[str]:
    return [post.id for batch in batches for post, asked in zip(batch.posts, batch.query, strict=True) if asked]


def on_rank(data: MnerData, rank: int, world: int) -> MnerData:
    data.trainer = SimpleNamespace(world_size=world, global_rank=rank)  # type: ignore[assignment]
    return data


@pytest.mark.parametrize("mode", ["plain", "episodic"])
def test_two_workers_bring_what_no_worker_brings(mode: str):
    alone, helped = connected(mode), connected(mode, workers=2)
    for name in ("train_dataloader", "test_dataloader"):
        assert told(getattr(alone, name)()) == told(getattr(helped, name)())


@pytest.mark.parametrize(
    ("gpu", "device", "cpus", "local", "expected"),
    [
        (False, None, 16, 1, 0),
        (True, "cpu", 16, 1, 0),
        (True, "cuda", 16, 1, 8),
        (True, "cuda", 16, 4, 4),
        (True, "cuda", 2, 4, 0),
        (True, None, 6, 1, 6),
    ],
)
def test_auto_workers_are_for_a_gpu_and_share_the_cpus(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, device: str | None, cpus: int, local: int, expected: int
) -> None:
    data = connected(views=())
    assert data.options.workers == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    if device is not None:
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(strategy=strategy, num_devices=local)  # type: ignore[assignment]
    assert data._workers() == expected and data.collator().as_bytes == data._on_gpu == (gpu and device != "cpu")
    assert connected(views=(), workers=3)._workers() == 3


def test_workers_last_from_epoch_to_epoch() -> None:
    assert connected(views=(), workers=1).train_dataloader().persistent_workers


@pytest.mark.parametrize("mode", ["plain", "episodic"])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_evaluate_what_one_process_evaluates(mode: str, world: int):
    data = connected(mode)
    for name in ("val_dataloader", "test_dataloader"):
        data.trainer = None
        whole = queries(getattr(data, name)())
        parts = [queries(getattr(on_rank(data, rank, world), name)()) for rank in range(world)]
        assert sorted(each for part in parts for each in part) == sorted(whole)
        assert len(set(whole)) == len(whole)
    data = on_rank(data, 1, world)
    assert len(queries(data.loader("test", share=False))) == len(whole)


def test_ranks_together_train_on_the_episodes_of_one_process():
    data = connected("episodic", ())
    whole = told(data.train_dataloader())
    parts = [told(on_rank(data, rank, 2).train_dataloader()) for rank in range(2)]
    assert [each for pair in zip(*parts, strict=True) for each in pair] == whole
    with pytest.raises(UsageError, match="multiple of 5"):
        on_rank(data, 0, 5).train_dataloader()


def test_a_plain_evaluation_asks_every_post_once():
    data = connected()
    assert sorted(queries(data.test_dataloader())) == sorted(post.id for post in data.posts("test"))


class _Remembers(lightning.LightningModule):
    """Trains nothing of use and keeps the ids that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.epochs: dict[int, list[tuple[str, ...]]] = {}

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        self.epochs.setdefault(self.current_epoch, []).append(tuple(post.id for post in batch.posts))
        return self.weight * 1.0

    def validation_step(self, batch: Batch, _index: int) -> None:
        assert batch.tags is not None

    def predict_step(self, batch: Batch, _index: int) -> list[str]:
        return [post.id for post in batch.posts]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trainer() -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(accelerator="cpu", max_epochs=2, enable_model_summary=False, **quiet)


@pytest.mark.parametrize("mode", ["plain", "episodic"])
def test_the_trainer_brings_other_batches_each_epoch_and_they_can_be_foretold(trainer, mode: str):
    data, model = connected(mode, ()), _Remembers()
    trainer.fit(model, data)
    assert model.epochs[0] != model.epochs[1]
    data.trainer = None
    loader = data.train_dataloader()
    for epoch, seen in model.epochs.items():
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        assert [tuple(post.id for post in batch.posts) for batch in loader] == seen


def test_the_trainer_predicts_every_post_once(trainer):
    data = connected()
    answers = trainer.predict(_Remembers(), dataloaders=data.loader("test"))
    assert sorted(each for batch in answers for each in batch) == sorted(post.id for post in data.posts("test"))


def test_loading_draws_nothing_from_the_global_random_state():
    data = connected("episodic")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(data.train_dataloader())
    assert torch.equal(torch.rand(1), expected)


def own_corpus(folder: Path, train: str = "a", test: str = "z") -> Path:
    for split, letter in (("train", train), ("valid", "v"), ("test", test)):
        posts = [f"IMGID:{letter}{number}\nAnn\tB-PER\nhere\tO\n" for number in range(4)]
        (folder / f"{split}.txt").write_text("\n".join(posts) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_a_worker_arrives_as_it_was_raised(tmp_path: Path, workers: int):
    data = connected(corpus=str(own_corpus(tmp_path)), missing_images="error", workers=workers)
    with pytest.raises(DataError, match="is missing") as caught:
        list(data.train_dataloader())
    assert "Traceback" not in str(caught.value)


def test_a_missing_picture_of_any_split_is_refused_before_training(tmp_path: Path):
    from PIL import Image

    own_corpus(tmp_path)
    for name in (f"{letter}{number}.jpg" for letter in "av" for number in range(4)):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    said = r"picture z0\.jpg is missing, and 3 more of the test split are\.\nUnder"
    with pytest.raises(DataError, match=said) as caught:
        connected(corpus=str(tmp_path), missing_images="error").split_posts.check_pictures_and_captions()
    assert len(str(caught.value).splitlines()) == 2
    # the others are counted, grey ones stand for them, and a method that looks at none misses none
    connected(corpus=str(tmp_path)).split_posts.check_pictures_and_captions()
    connected(corpus=str(tmp_path), missing_images="error", pictures="blank").split_posts.check_pictures_and_captions()
    connected(views=(), corpus=str(tmp_path), missing_images="error").split_posts.check_pictures_and_captions()


def several_pictures(folder: Path, *there: str) -> str:
    """The path of a corpus with posts of two, two and no pictures, for a method that looks at the first one."""
    from PIL import Image

    for name in there:
        Image.new("RGB", (8, 8)).save(folder / name)
    for split in ("train", "dev", "test"):
        images = [[f"{split}0.png", f"{split}1.png"], [f"{split}2.png", f"{split}3.png"], []]
        rows = [
            {"id": f"{split}{n}", "text": ["Ann"], "label": ["B-PER"], "images": each} for n, each in enumerate(images)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


def test_only_pictures_that_are_looked_at_decide_and_count(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    corpus = several_pictures(tmp_path, "train0.png", "train3.png", "test0.png", "test2.png")

    def under(missing_images: str) -> MnerData:
        data = MnerData(corpus=corpus, missing_images=missing_images)
        data.connect(Needs(VocabularyReader(["ann"]), frozenset({"whole"}), PictureFormat(8)))
        return data

    under("blank").posts("train")
    assert "train: 1 of 2 pictures are missing (--data.missing_images blank)" in caplog.text
    assert [post.id for post in under("skip").posts("train")] == ["train0", "train2"]
    with pytest.raises(DataError, match=r"picture train2\.png is missing\.\n"):
        under("error").split_posts.check_pictures_and_captions()


def reading_captions(data: MnerData, view: str, **limits: int) -> MnerData:
    reader = VocabularyReader(["ann"])
    data.connect(Needs(reader, frozenset({view}), caption_reader=reader, **limits))
    return data


@pytest.mark.parametrize("view", ["captions", "second"])
def test_pictures_without_a_caption_are_counted_where_captions_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, view: str
):
    corpus = {"corpus": several_pictures(tmp_path), "root": str(tmp_path)}
    (tmp_path / "captions").mkdir()
    captions = tmp_path / "captions" / f"{tmp_path.name}.txt"
    captions.write_text("train0.png :a cat\ntrain2.png :a dog\ntest0.png :a cow\n")
    data = reading_captions(MnerData(**corpus), view)
    assert [len(data.posts(split)) for split in ("train", "dev", "test")] == [3, 3, 3]
    assert data.posts("train") and [
        each.split(" (")[0].split(": ")[1] for each in caplog.messages if "caption" in each
    ] == [
        "2 of 2 pictures have no caption",
        "1 of 2 pictures have no caption",
    ]
    assert data.protocol()["missing_captions"] == {"dev": {"missing": 2, "of": 2}, "test": {"missing": 1, "of": 2}}
    reading_captions(data, view, max_images=2)
    assert data.protocol()["missing_captions"]["train"] == {"missing": 2, "of": 4}
    captions.write_text("other.png :a cat\ntrain0.png : \n")
    _read.cache_clear()
    data = reading_captions(MnerData(**corpus), view)
    with pytest.raises(
        DataError, match="reads captions, and none of the 2 pictures of the train split has one"
    ) as told:
        data.split_posts.check_pictures_and_captions()
    assert len(str(told.value).splitlines()) == 2 and "--data.captions" in str(told.value)
    assert len(data.posts("test")) == 3 and data.protocol()["missing_captions"]  # scoring needs no training captions
    data = reading_captions(MnerData(**corpus, captions="none"), view)
    data.split_posts.check_pictures_and_captions()
    assert len(data.posts("train")) == 3
    assert data.protocol()["missing_captions"]["train"] == {"missing": 2, "of": 2}


def test_captions_that_nobody_reads_or_that_are_all_there_are_not_spoken_of(caplog: pytest.LogCaptureFixture):
    for view in ("captions", "second"):
        data = reading_captions(MnerData(limit=5), view)
        assert data.posts("train") and "missing_captions" not in data.protocol()
        assert reading_captions(MnerData(limit=5, pictures="blank"), view).posts("train")
    assert "missing_captions" not in connected(limit=5, captions="none").protocol()
    assert "caption" not in caplog.text


def test_posts_without_their_pictures_are_left_out_on_request(tmp_path: Path, caplog):
    from PIL import Image

    own_corpus(tmp_path)
    (tmp_path / "images").mkdir()
    for number in (0, 2):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"a{number}.jpg")
    data = connected(corpus=str(tmp_path), missing_images="skip")
    assert sorted(queries(data.train_dataloader())) == ["a0", "a2"]
    assert "2 of 4 posts are left out" in caplog.text
    with pytest.raises(DataError, match=r"split 'test' whose pictures are there"):
        data.test_dataloader()
    # a method that looks at no pictures loses no posts
    assert len(queries(connected(views=(), corpus=str(tmp_path), missing_images="skip").train_dataloader())) == 4


def test_missing_and_broken_pictures_are_reported_once(tmp_path: Path, caplog):
    own_corpus(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a1.jpg").write_bytes(b"no picture")
    data = connected(corpus=str(tmp_path))
    loader = data.train_dataloader()
    for _epoch in range(2):
        assert not any(batch.image_mask.any() for batch in loader)  # type: ignore[union-attr]
    assert caplog.text.count("train: 3 of 4 pictures are missing (--data.missing_images blank)") == 1
    assert caplog.text.count("1 pictures are broken and count as missing") == 1


def test_ids_in_both_train_and_test_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="'a0'"):
        connected(corpus=str(own_corpus(tmp_path, test="a")))


def test_shuffled_pictures_are_all_others_and_blank_ones_are_grey():
    data = connected()
    right, shuffled, blank = (data.posts("test", pictures) for pictures in ("right", "shuffled", "blank"))
    assert [post.id for post in right] == [post.id for post in shuffled] == [post.id for post in blank]
    pairs = list(zip(right, shuffled, strict=True))
    assert all(mine.images is not others.images for mine, others in pairs)
    assert sorted(post.images[0].name for post in right) == sorted(post.images[0].name for post in shuffled)
    assert all(np.ptp(image.pixels) == 0 and image.caption is None for post in blank for image in post.images)
    by_option = connected(pictures="shuffled").posts("test")
    assert [post.images[0].name for post in by_option] == [post.images[0].name for post in shuffled]
    with pytest.raises(UsageError, match="Did you mean 'shuffled'"):
        data.posts("test", "shufled")  # type: ignore[arg-type]


def test_the_training_limit_is_a_sample_that_the_seed_fixes():
    ids = [[post.id for post in connected(train_limit=20, seed=seed).posts("train")] for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2] and len(ids[0]) == 20
    assert set(ids[0]) < {post.id for post in connected().posts("train")}
    assert len(connected(train_limit=20).posts("test")) == 90


def test_shares_of_the_training_posts_are_nested_and_fixed_by_the_seed() -> None:
    found = [
        {post.id for post in connected(train_fraction=share, seed=3).posts("train")} for share in (0.1, 0.2, 0.5, 1.0)
    ]
    assert [len(ids) for ids in found] == [9, 18, 45, 90]
    assert found[0] < found[1] < found[2] < found[3]
    assert {post.id for post in connected(train_fraction=0.1, seed=3).posts("train")} == found[0]
    assert {post.id for post in connected(train_fraction=0.1, seed=4).posts("train")} != found[0]
    assert len(connected(train_fraction=0.1).posts("dev")) == 90


@pytest.mark.parametrize("options", [{"train_fraction": 0.0}, {"train_fraction": 1.1}])
def test_a_share_that_is_none_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="train_fraction"):
        MnerData(**options)


def test_a_count_and_a_share_of_training_posts_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="give one"):
        MnerData(train_limit=5, train_fraction=0.5)


def test_dev_episodes_are_of_the_training_types_and_test_episodes_of_the_others():
    data = connected("episodic", (), train_types="Org+Per", dev_episodes=5, eval_episodes="all_queries")
    dev, test = list(data.val_dataloader()), list(data.test_dataloader())
    assert {batch.tagset.types for batch in dev} == {("ORG", "PER")} and len(dev) == 5
    assert {batch.tagset.types for batch in test} == {("LOC", "MISC")}
    eligible = [post.id for post in data.posts("test") if any(tag[2:] in ("LOC", "MISC") for tag in post.tags or ())]
    assert queries(test) == eligible
    assert all(batch.tags.max() <= 4 for batch in test)


def test_a_plain_head_with_training_types_learns_them_and_is_tested_on_episodes():
    data = connected("plain", (), train_types=["LOC", "MISC"])
    assert data.facts.types == ("LOC", "MISC")
    batch = next(iter(data.train_dataloader()))
    assert batch.episode is None and batch.tagset.types == ("LOC", "MISC") and batch.query.all()
    assert next(iter(data.test_dataloader())).episode is not None


def test_ignored_words_are_those_of_types_that_are_not_in_play():
    data = connected("episodic", (), out_of_play="ignore", train_types="Per+Loc+Org", n_way=1, test_types=["MISC"])
    ignored = 0
    for batch in [*data.train_dataloader(), *data.test_dataloader()]:
        for row, post in enumerate(batch.posts):
            counts = [tag == "O" or tag[2:] in batch.tagset.types for tag in post.tags or ()]
            assert batch.play_mask[row, : len(counts)].tolist() == counts
            assert not batch.play_mask[row, len(counts) :].any()
            assert not batch.tags[row, : len(counts)][~batch.play_mask[row, : len(counts)]].any()
            ignored += len(counts) - sum(counts)
    assert ignored
    assert all(batch.play_mask is None for batch in connected("episodic", ()).train_dataloader())
    plain = next(iter(connected("plain", (), out_of_play="ignore", train_types="Per+Loc").train_dataloader()))
    assert not plain.play_mask[plain.text.word_mask].all()


@pytest.mark.parametrize("reading", ["O", "ignore", "drop_sentence"])
@pytest.mark.parametrize("scored", ["O", "ignore", "drop_sentence"])
def test_unseen_types_are_read_in_training_as_asked_and_the_scored_episodes_do_not_change(reading: str, scored: str):
    few = {"train_types": "Per+Loc", "dev_episodes": 6, "eval_episodes": 6, "out_of_play": scored}
    for mode in ("plain", "episodic"):
        usual, data = connected(mode, (), **few), connected(mode, (), train_out_of_play=reading, **few)
        others = 0
        for batch in data.train_dataloader():
            for row, post in enumerate(batch.posts):
                unseen = torch.tensor([tag != "O" and tag[2:] not in batch.tagset.types for tag in post.tags or ()])
                others += int(unseen.sum())
                assert not batch.tags[row, : len(unseen)][unseen].any()
                if reading == "ignore":
                    assert torch.equal(batch.play_mask[row, : len(unseen)], ~unseen)
            assert (batch.play_mask is None) == (reading != "ignore")
        assert bool(others) == (reading != "drop_sentence")
        for split in ("dev", "test"):
            pairs = list(zip(data.loader(split), usual.loader(split), strict=True))
            assert told(ours for ours, _ in pairs) == told(theirs for _, theirs in pairs)
            assert all((ours.play_mask is None) == (scored != "ignore") for ours, _ in pairs)
        assert data.protocol()["train_out_of_play"] == reading and data.protocol()["out_of_play"] == scored
        assert "train_out_of_play" not in usual.protocol()


def test_dropped_posts_are_in_no_plain_training_batch():
    data = connected("plain", (), out_of_play="drop_sentence", train_types="Per+Loc")
    shown = queries(data.train_dataloader())
    fits = [post.id for post in data.posts("train") if {tag[2:] for tag in post.tags or ()} <= {"", "PER", "LOC"}]
    assert sorted(shown) == sorted(fits) and len(fits) < len(data.posts("train"))
    assert data.protocol()["train_posts"] == len(fits)


def test_dev_shows_the_types_that_are_asked_for_and_says_when_they_are_tested_on(caplog):
    few = {"train_types": "Per+Loc", "dev_episodes": 4}
    for asked, types in (("source", ("LOC", "PER")), ("target", ("MISC", "ORG")), (["per", "loc"], ("LOC", "PER"))):
        data = connected("episodic", (), dev_types=asked, **few)
        assert {batch.tagset.types for batch in data.val_dataloader()} == {types}
        caplog.clear()
        assert data.protocol()["dev_selects_on_test_types"] == (asked == "target")
        assert sorted(data.protocol()["dev_types"]) == list(types)
        assert caplog.text.count("dev selects on the test types") == (asked == "target")


def test_a_checkpoints_types_number_the_tags():
    data = connected(views=())
    data.connect(Needs(VocabularyReader([])), "plain", types=("ORG", "MISC", "PER", "LOC"))
    assert next(iter(data.test_dataloader())).tagset.types == ("ORG", "MISC", "PER", "LOC")


def test_support_may_come_from_the_training_split():
    data = connected("episodic", (), support_from="train")
    train, test = ({post.id for post in data.posts(split)} for split in ("train", "test"))
    for batch in data.test_dataloader():
        ids = [post.id for post in batch.posts]
        assert set(ids[:-1]) <= train and ids[-1] in test


def test_episodes_do_not_depend_on_the_pictures_that_are_shown():
    data = connected("episodic")
    right, blank = (told(data.loader("test", pictures)) for pictures in ("right", "blank"))  # type: ignore[arg-type]
    assert [each[:-1] for each in right] == [each[:-1] for each in blank]
    assert [each[-1] for each in right] != [each[-1] for each in blank]


def test_the_support_of_a_model_that_predicts_alone_holds_its_types_and_no_others():
    data = connected("episodic", (), variant="fewshot", limit=200)
    types, support = data.own_support()
    assert len(support) == data.options.k_shot and len(types) == data.options.n_way
    episode = data.episodes("train").episode(0)
    assert types == episode.types and [post.id for post in support] == [
        data.posts("train")[place].id for place in episode.support
    ]
    assert {tag[2:] for post in support for tag in post.tags or () if tag != "O"} >= set(types)


def test_one_training_type_is_enough_for_a_head_that_trains_on_plain_batches():
    data = connected("plain", (), train_types="Per", test_types="Loc+Org", dev_types="target", dev_episodes=2)
    data.reads_support = True
    data.rehearse("plain")
    types, support = data.own_support()
    assert types == ("PER",) and len(support) == data.options.k_shot
    assert next(iter(data.test_dataloader())).tagset.types == ("LOC", "ORG")
    with pytest.raises(UsageError, match="the train episodes have 1 types"):
        data.rehearse("episodic")
    selecting = connected("plain", (), train_types="Per", dev_episodes=2)
    selecting.reads_support = True
    with pytest.raises(UsageError, match=r"the dev episodes have 1 types .*--data\.dev_types"):
        selecting.rehearse("plain")


def test_the_protocol_is_plain_data_that_names_corpus_and_episodes():
    plain = connected(views=()).protocol()
    assert not plain["episodic"] and plain["corpus"] == "probe" and plain["variant"] == "default" and plain["digest"]
    few = connected("episodic", (), dev_episodes=3, train_types="Per+Loc").protocol()
    assert json.loads(json.dumps(few)) == few
    assert few["test_types"] == ["ORG", "MISC"] and few["queries"]["dev"] == 3 and few["n_way"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train_types": "Per+Lok"}, "--data.train_types: no type 'Lok'"),
        ({"train_types": "Per+Loc", "test_types": "Loc+Org"}, "LOC is among the training types"),
        ({"train_types": "Per+Loc+Org+Misc"}, "none of .* is left for testing"),
        ({"train_types": "Per+Loc+Org"}, "n_way 2: the test episodes have 1 types"),
        ({"k_shot": 500, "support": "per_type"}, "type (LOC|PER|ORG|MISC) occurs in .*, 501 are needed"),
        ({"k_shot": 500, "support": "greedy"}, "type (LOC|PER|ORG|MISC) has .* entities, 500 are needed"),
        ({"k_shot": 500}, "type .* occurs in .*, 501 are needed"),
        ({"dev_types": "sorce"}, "--data.dev_types .*no type 'sorce'"),
        ({"support_from": "dev"}, r"--data.support_from dev: give test or train"),
        ({"batch_size": 0}, "--data.batch_size 0"),
        ({"workers": -1}, "--data.workers -1"),
        ({"workers": "many"}, "--data.workers .*many"),
    ],
)
def test_mistaken_options_end_in_one_line(options: dict[str, Any], said: str):
    with pytest.raises(MnerkitError, match=said) as caught:
        connected("episodic", (), **options).protocol()
    assert "\n" not in str(caught.value)


def test_real_tweets_give_every_eligible_query(real_data: Path):
    data = connected("episodic", (), corpus="twitter2017", root=str(real_data), train_types="Per+Loc", limit=None)
    held = [{tag[2:] for tag in post.tags or ()} for post in data.posts("test")]
    assert len(data.test_dataloader()) == sum(bool(kinds & {"ORG", "MISC"}) for kinds in held)
    assert data.protocol()["release"] and len(data.posts("train")) == 3373
