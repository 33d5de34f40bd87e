"""Measures against the ground truth of generated posts."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import tags_of
from mnerkit.data.probe import generate
from mnerkit.scoring.probe_measures import f1_by_clarity, pointing, relevance_auc

POSTS = generate("default", "dev", 60)


def test_gold_tags_score_hundred_on_every_subset():
    assert f1_by_clarity(POSTS, [post.tags for post in POSTS]) == {"all": 100, "clear": 100, "ambiguous": 100}


def test_no_prediction_scores_zero():
    assert f1_by_clarity(POSTS, [["O"] * len(post.words) for post in POSTS]) == {"all": 0, "clear": 0, "ambiguous": 0}


def test_a_wrong_type_on_ambiguous_entities_spoils_them_alone():
    tags = []
    for post in POSTS:
        spans = [
            Entity(each.entity.start, each.entity.end, "NONE" if each.ambiguous else each.entity.type)
            for each in post.truth.entities
        ]
        tags.append(tags_of(spans, len(post.words)))
    scores = f1_by_clarity(POSTS, tags)
    assert scores["ambiguous"] == 0 and scores["clear"] == 100 and 0 < scores["all"] < 100


def test_a_span_where_nothing_is_counts_against_all_alone():
    tags = [list(post.tags) for post in POSTS]
    spoilt = next(number for number, each in enumerate(tags) if each[0] == each[1] == "O")
    tags[spoilt][0] = "B-PER"
    scores = f1_by_clarity(POSTS, tags)
    assert scores["all"] < 100 and scores["clear"] == scores["ambiguous"] == 100


def test_entities_of_types_that_are_not_in_play_do_not_count():
    posts = generate("default", "dev", 60)
    tags = [[tag if tag.endswith(("PER", "LOC")) else "O" for tag in post.tags] for post in posts]
    assert f1_by_clarity(posts, tags, types=[("PER", "LOC")] * 60)["all"] == 100
    assert f1_by_clarity(posts, tags)["all"] < 100


def test_without_entities_there_is_no_score():
    empty = [post for post in POSTS if not post.truth.entities]
    assert math.isnan(f1_by_clarity(empty, [post.tags for post in empty])["all"])


def test_a_post_without_truth_is_refused():
    with pytest.raises(ValueError, match="no ground truth"):
        f1_by_clarity([Post("a", ("b",))], [["O"]])


def _perfect_attention(post, images, side):
    """Attention of one post whose entities look at the middle of their boxes; (W, images * side * side)."""
    weights = np.full((len(post.words), images * side * side), 0.001)
    for each in post.truth.entities:
        if each.box:
            x0, y0, x1, y1 = each.box
            row, column = int((y0 + y1) / 2 * side / 64), int((x0 + x1) / 2 * side / 64)
            weights[each.entity.start : each.entity.end, each.image * side**2 + row * side + column] = 1
    return weights


@pytest.mark.parametrize("side", [3, 8])
def test_looking_at_the_middle_of_the_box_points_every_time(side):
    assert pointing(POSTS, [_perfect_attention(post, 1, side) for post in POSTS]) == 100


def test_the_grid_is_found_among_several_padded_images():
    posts = generate("multi", "dev", 60)
    assert pointing(posts, [_perfect_attention(post, 4, 8) for post in posts]) == 100


def test_looking_at_the_same_place_of_another_image_does_not_point():
    posts = generate("multi", "dev", 60)
    moved = [np.roll(_perfect_attention(post, 4, 8), 64, axis=1) for post in posts]
    assert pointing(posts, moved) == 0


def test_looking_anywhere_seldom_points():
    random = np.random.default_rng(0)
    posts = generate("default", "dev", 300)
    assert pointing(posts, [random.random((len(post.words), 64)) for post in posts]) < 25


def test_regions_that_form_no_square_need_a_grid():
    attentions = [np.ones((len(post.words), 15)) for post in POSTS]
    with pytest.raises(ValueError, match="rows and columns"):
        pointing(POSTS, attentions)
    assert 0 <= pointing(POSTS, attentions, grid=(3, 5)) <= 100


def test_auc_of_the_truth_is_one_of_its_opposite_zero_and_of_a_constant_half():
    posts = generate("multi", "dev", 40)
    truth = [[float(each) for each in post.truth.relevant] for post in posts]
    assert relevance_auc(posts, truth) == 1
    assert relevance_auc(posts, [[1 - each for each in row] for row in truth]) == 0
    assert relevance_auc(posts, [[0.3] * 4 for _ in posts]) == 0.5
    # a method that looks at the first images alone
    assert relevance_auc(posts, [row[:1] for row in truth]) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(images):
    if len({relevant for relevant, _ in images}) < 2:
        return
    posts = [replace(POSTS[0], truth=replace(POSTS[0].truth, relevant=(relevant,))) for relevant, _ in images]
    pairs = [(a > b) + (a == b) / 2 for yes, a in images if yes for no, b in images if not no]
    assert relevance_auc(posts, [[score] for _, score in images]) == pytest.approx(sum(pairs) / len(pairs))
