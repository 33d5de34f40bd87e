"""The two parts of the training split: posts that rank images, and posts for the tagger."""

from __future__ import annotations

import pytest

from mnerkit.data.datamodule import MnerData
from mnerkit.data.probe import generate
from mnerkit.data.split_posts import part_of

POSTS = generate("multi", "train", 50)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.01])
def test_the_parts_are_disjoint_and_together_all_training_posts(fraction: float) -> None:
    ranked, tagged = ([post.id for post in part_of(POSTS, part, fraction)] for part in ("d_dis", "d_model"))
    assert not set(ranked) & set(tagged)
    assert sorted(ranked + tagged) == sorted(post.id for post in POSTS)
    assert len(ranked) == round(fraction * len(POSTS))
    assert tagged == [post.id for post in POSTS if post.id in tagged], "in their order"


def test_where_a_post_belongs_depends_on_seed_and_ids_alone() -> None:
    ranked = {post.id for post in part_of(POSTS, "d_dis", 0.3)}
    assert {post.id for post in part_of(POSTS[::-1], "d_dis", 0.3)} == ranked
    assert {post.id for post in part_of(POSTS, "d_dis", 0.3, seed=1)} != ranked
    assert ranked < {post.id for post in part_of(POSTS, "d_dis", 0.5)}, "a larger share holds the smaller one"


def test_both_stages_are_given_training_posts_alone_and_none_in_common() -> None:
    stages = [
        MnerData(variant="multi", limit=40, train_on=part, seed=seed) for seed, part in ((3, "d_dis"), (8, "d_model"))
    ]
    ranked, tagged = ({post.id for post in stage.posts("train")} for stage in stages)
    others = {post.id for split in ("dev", "test") for post in stages[0].posts(split)}
    assert ranked and tagged and not ranked & tagged and not (ranked | tagged) & others
    assert len(ranked | tagged) == 40
