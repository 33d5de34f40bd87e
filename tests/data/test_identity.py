"""A post that was trained on is recognised in another corpus."""

from __future__ import annotations

import pytest

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.same_post import check_unseen, keys_of, trained_posts
from mnerkit.errors import DataError


def post(id_: str, words: str = "a tweet", *images: str) -> Post:
    return Post(id_, tuple(words.split()), images=tuple(ImageRef(name) for name in images))


def seen(one: Post, corpus: str, other: Post, elsewhere: str) -> bool:
    """Whether a post is refused after training on the other one."""
    try:
        trained = trained_posts([one], corpus, keys_of([post("unlike", "other words"), other], elsewhere))
        check_unseen([one], corpus, trained)
    except DataError as refusal:
        assert f"1 of the test posts of {corpus}, the first is {one.id!r}" in str(refusal)
        return True
    return False


@pytest.mark.parametrize(
    "merged",
    [
        post("twitter2017-O_26", "a tweet", "twitter2017-O_26.jpg"),
        post("twitter2017-O_26.jpg", "words of another release"),
        post("7", "words of another release", "twitter2017-O_26.jpg"),
    ],
)
def test_a_post_of_twitter2017_is_known_in_the_merged_set(merged: Post) -> None:
    own = post("O_26", "a tweet", "O_26.jpg")
    assert seen(own, "twitter2017", merged, "mner-mi-plus")
    assert seen(merged, "mner-mi-plus", own, "twitter2017")
    assert not seen(post("O_27", "a tweet", "O_27.jpg"), "twitter2017", merged, "mner-mi-plus")


def test_posts_of_mner_mi_are_known_in_the_merged_set_by_their_id() -> None:
    assert seen(post("31", "one release", "31-1.jpg", "31-2.jpg"), "mner-mi", post("31", "another"), "mner-mi-plus")


def test_numbers_of_two_corpora_that_merely_count_do_not_collide() -> None:
    assert not seen(post("31", "one tweet"), "mner-mi", post("31", "another tweet"), "twitter2015")
    assert not seen(post("1", "one tweet"), "folder", post("1", "another tweet"), "folder")


def test_another_release_of_a_corpus_is_known_by_id() -> None:
    assert seen(post("102", "RT @ a"), "twitter2015", post("102", "rt a"), "twitter2015")


def test_a_copy_in_a_folder_of_ones_own_is_known_by_id_and_words() -> None:
    assert seen(post("O_26"), "twitter2017", post("O_26"), "my-folder")
    assert not seen(post("O_26"), "twitter2017", post("O_27"), "my-folder")


def test_a_key_takes_eight_bytes() -> None:
    keys = keys_of([post(str(number)) for number in range(200)], "twitter2015")
    assert len(keys) == 400 and all(-(2**63) <= key < 2**63 for key in keys)
    assert keys == sorted(keys)


def test_all_posts_seen_are_counted() -> None:
    posts = [post(str(number)) for number in range(9)]
    with pytest.raises(DataError, match="trained with 4 of the test posts of folder, the first is '0'"):
        check_unseen(posts[:4], "folder", trained_posts(posts[:4], "folder", keys_of(posts, "folder")))
