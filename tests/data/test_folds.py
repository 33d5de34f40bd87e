"""Folds of train and dev: posts that are alike lie in one of them, and the corpus's test posts in none."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.folds import ALIKE, LEAST_WORDS, folded, folds_of, near_duplicates
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.same_post import plain_words
from mnerkit.data.datamodule import MnerData
from mnerkit.data.options import DataOptions
from mnerkit.errors import DataError, UsageError
from tests.data.test_trained_posts import record, retokenised, write_corpus

SPLITS = {"train": range(30), "valid": range(30, 40), "test": range(40, 50)}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    splits = {split: [record(number) for number in numbers] for split, numbers in SPLITS.items()}
    splits["valid"][0] = retokenised({**record(0), "id": "again", "images": ["again.jpg"]})  # another cut
    splits["valid"][1] = {**record(31), "images": ["1604938217.jpg"]}
    splits["valid"][2] = {**record(32), "images": ["1604938217.jpg"]}  # the same picture
    more = {"text": [*record(5)["text"], "now"], "label": [*record(5)["label"], "O"]}  # type: ignore[misc]
    splits["valid"][3] = {**record(5), "id": "alike", "images": ["alike.jpg"], **more}
    return str(write_corpus(tmp_path / "own", splits))


def test_every_post_is_scored_in_one_fold_and_trained_on_in_no_other_place_of_it(corpus: str) -> None:
    whole = load_corpus(corpus)
    pool = {post.id for split in ("train", "dev") for post in whole.splits[split]}
    scored = []
    for fold in range(4):
        splits = folded(whole, 4, fold).splits
        ids = {split: {post.id for post in posts} for split, posts in splits.items()}
        assert set.union(*ids.values()) == pool and sum(map(len, ids.values())) == len(pool)
        assert len(ids["dev"]) >= 0.1 * (len(pool) - len(ids["test"]))
        scored += sorted(ids["test"])
        for pair in ({"post0", "again"}, {"post31", "post32"}, {"post5", "alike"}):
            assert any(pair <= each for each in ids.values())
    assert sorted(scored) == sorted(pool)


def test_folds_are_of_one_size_and_the_same_whatever_the_order_of_posts(corpus: str) -> None:
    posts = load_corpus(corpus).splits["train"]
    places = {post.id: (name, fold) for post, name, fold in folds_of(posts, "own", 5)}
    assert places == {post.id: (name, fold) for post, name, fold in folds_of(posts[::-1], "own", 5)}
    sizes = [sum(fold == number for _, fold in places.values()) for number in range(5)]
    assert max(sizes) - min(sizes) <= 1
    with pytest.raises(DataError, match="2 posts in 2 groups"):
        folds_of(posts[:2], "own", 3)


def test_near_duplicates_are_all_pairs_with_most_words_in_common() -> None:
    draw, posts = random.Random(0), []
    for number in range(200):
        words = [f"w{place + draw.randrange(2) + 100 * (number % 10)}" for place in range(draw.randrange(3, 8))]
        posts.append(Post(str(number), (*words, *(f"c{place}" for place in range(draw.randrange(9))))))
    sets = {post.id: plain_words(post.words) for post in posts}
    expected = {
        frozenset((one.id, other.id))
        for one, other in itertools.combinations(posts, 2)
        if min(len(a := sets[one.id]), len(b := sets[other.id])) >= LEAST_WORDS and len(a & b) >= ALIKE * len(a | b)
    }
    found = {frozenset((one.id, other.id)) for one, other in near_duplicates(posts)}
    assert found == expected and len(found) > 5


def test_a_fold_is_a_part_of_the_protocol_and_no_test_post_is_in_it(corpus: str) -> None:
    data = MnerData(DataOptions(corpus=corpus, folds=4, fold=1))
    assert (data.protocol()["fold"], data.protocol()["folds"]) == (1, 4)
    ids = {post.id for split in ("train", "dev", "test") for post in data.posts(split)}
    assert ids.isdisjoint(f"post{number}" for number in SPLITS["test"])
    assert "folds" not in MnerData(DataOptions(corpus=corpus)).protocol()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"folds": 5}, "go together"),
        ({"fold": 0}, "go together"),
        ({"folds": 5, "fold": 5}, "of 5 folds the last is 4"),
    ],
)
def test_a_fold_that_is_none_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DataOptions(**values)


def test_an_id_of_train_and_dev_is_refused(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {split: [record(1), record(2)] for split in ("train", "valid", "test")})
    with pytest.raises(DataError, match="share the id 'post1'"):
        folded(load_corpus(str(folder)), 2, 0)
