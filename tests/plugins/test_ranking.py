"""Pair ranking and relevance, against loops and by their properties."""

from __future__ import annotations

import math

import pytest
import torch

from mnerkit_plugins.relevance.ranking import (
    PairRankLoss,
    RelevanceScorer,
    pair_hits,
    pair_rank_loss,
    ranked_pairs,
    relevance,
)

# three posts of up to three images and the blank one, which stands last
WORTHS = torch.tensor([[2.0, -1.0, 1.0, 0.0], [1.0, 1.0, -1.0, 0.0], [3.0, 9.0, 9.0, 0.0]])
MASK = torch.tensor([[True] * 4, [True] * 4, [True, False, False, True]])


def test_the_loss_is_the_mean_over_ordered_pairs() -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 4)
    losses: list[list[float]] = []
    for row in range(3):
        losses.append([])
        for a in range(4):
            for b in range(4):
                if MASK[row, a] and MASK[row, b] and WORTHS[row, a] > WORTHS[row, b]:
                    x = float(scores[row, a] - scores[row, b])
                    losses[-1].append(-math.log(1 / (1 + math.exp(-x))))
    assert [len(each) for each in losses] == [6, 5, 1]  # the tie of the second post is no pair
    flat = [each for post in losses for each in post]
    both = PairRankLoss("pairs").pairs(WORTHS, MASK)
    assert float(PairRankLoss("pairs")(scores, both)) == pytest.approx(sum(flat) / 12, abs=1e-5)
    by_post = sum(sum(each) / len(each) for each in losses) / 3
    assert float(PairRankLoss("posts")(scores, both)) == pytest.approx(by_post, abs=1e-5)


@pytest.mark.parametrize("images", [1, 2, 3, 4])
def test_a_strict_ranking_with_the_blank_image_has_m_times_m_plus_1_over_2_pairs(images: int) -> None:
    worths = torch.randperm(images + 1).float().unsqueeze(0)
    pairs = ranked_pairs(worths, torch.ones(1, images + 1, dtype=torch.bool))
    assert int(pairs.sum()) == images * (images + 1) // 2
    assert not (pairs & pairs.mT).any()


def test_candidates_within_the_margin_are_tied() -> None:
    worths, mask = torch.tensor([[0.0, 0.4, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    pairs = ranked_pairs(worths, mask, margin=0.5)
    assert torch.nonzero(pairs[0]).tolist() == [[2, 0], [2, 1]]


@pytest.mark.parametrize("mean", ["pairs", "posts"])
def test_equal_scores_cost_log_2_and_a_clear_order_nothing(mean) -> None:
    pairs = ranked_pairs(WORTHS, MASK)
    assert float(pair_rank_loss(torch.full((3, 4), 7.0), pairs, mean)) == pytest.approx(math.log(2), abs=1e-6)
    assert float(pair_rank_loss(100 * WORTHS, pairs, mean)) == pytest.approx(0, abs=1e-6)
    # swapped pairs pay the difference itself: -log sigmoid(-x) = x - log sigmoid(x)
    one = torch.tensor([[1.5, 0.0]])
    pair = torch.tensor([[[False, True], [False, False]]])
    assert float(pair_rank_loss(one, pair.mT) - pair_rank_loss(one, pair)) == pytest.approx(1.5, abs=1e-6)


def test_a_constant_added_to_a_posts_scores_changes_neither_loss_nor_relevance() -> None:
    torch.manual_seed(0)
    scores, shift = torch.randn(3, 4), torch.tensor([[5.0], [-3.0], [0.5]])
    pairs = ranked_pairs(WORTHS, MASK)
    torch.testing.assert_close(pair_rank_loss(scores + shift, pairs), pair_rank_loss(scores, pairs))
    moved = scores + shift
    torch.testing.assert_close(relevance(moved[:, :3], moved[:, 3]), relevance(scores[:, :3], scores[:, 3]))


def test_the_blank_image_has_relevance_one_half_and_relevance_rises_with_the_score() -> None:
    scores = torch.linspace(-4, 4, 33).unsqueeze(0)
    found = relevance(scores, torch.zeros(1))
    assert (found.diff() > 0).all() and (found > 0).all() and (found < 1).all()
    assert float(found[0, 16]) == 0.5
    torch.testing.assert_close(relevance(scores + 2, torch.tensor([2.0])), found)


@pytest.mark.parametrize("mean", ["pairs", "posts"])
def test_posts_without_a_pair_cost_nothing_and_leave_a_gradient(mean) -> None:
    scores = torch.randn(2, 3, requires_grad=True)
    none = torch.zeros(2, 3, 3, dtype=torch.bool)
    loss = pair_rank_loss(scores, none, mean)
    loss.backward()
    assert float(loss.detach()) == 0 and scores.grad is not None and not scores.grad.any()


def test_hits_count_pairs_in_order_and_ties_half() -> None:
    pairs = ranked_pairs(WORTHS, MASK)
    assert [float(each) for each in pair_hits(WORTHS, pairs)] == [12, 12]
    assert [float(each) for each in pair_hits(-WORTHS, pairs)] == [0, 12]
    assert [float(each) for each in pair_hits(torch.zeros(3, 4), pairs)] == [6, 12]


def test_a_score_does_not_depend_on_the_other_images_or_posts() -> None:
    torch.manual_seed(0)
    scorer = RelevanceScorer(6, 10, joint=8, hidden=4).eval()
    text, images = torch.randn(3, 6), torch.randn(3, 4, 10)
    scores = scorer(text, images)
    for row in range(3):
        for place in range(4):
            alone = scorer(text[row : row + 1], images[row : row + 1, place : place + 1])
            torch.testing.assert_close(scores[row, place], alone[0, 0])


def test_the_scorer_has_the_layers_of_the_paper() -> None:
    scorer = RelevanceScorer(512, 768)
    wanted = (512 * 512 + 512) + (768 * 512 + 512) + (1024 * 512 + 512) + (512 + 1)
    assert sum(each.numel() for each in scorer.parameters()) == wanted == 1_181_697
