"""Abstract transitions: counts against hand-made tags, and what they become between the tags of other types."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.nn.abstract_transitions import ABSTRACT, FLOOR, count_transitions, spread


def test_counts_of_hand_made_tags() -> None:
    posts = [[0, 1, 1, 0], [2, 1, 1, 2], [], [0, 0]]
    expected = {"start-O": 2, "start-I": 1, "O-O": 1, "O-I": 1, "I-O": 1, "I-same": 2, "I-other": 2}
    assert dict(zip(ABSTRACT, count_transitions(posts), strict=True)) == expected


def test_transitions_from_and_to_unknown_words_are_not_counted() -> None:
    assert count_transitions([[0, None, 1, 1], [None, 0]]) == [1, 0, 0, 0, 0, 1, 0]


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=6))
def test_counts_equal_a_naive_count(posts: list[list[int]]) -> None:
    naive = [0] * 7
    for post in posts:
        if post:
            naive[0 if post[0] == 0 else 1] += 1
        for before, this in pairwise(post):
            if before == 0:
                naive[2 if this == 0 else 3] += 1
            elif this == 0:
                naive[4] += 1
            else:
                naive[5 if this == before else 6] += 1
    assert count_transitions(posts) == naive


@given(st.lists(st.integers(0, 50), min_size=7, max_size=7), st.integers(1, 4), st.sampled_from([0.0, 0.1, 1.0, 2.0]))
def test_spread_equals_the_formula_written_out(counts: list[int], num_types: int, tau: float) -> None:
    def shares(*group: int) -> list[float]:
        total = sum(counts[place] for place in group)
        return [counts[place] / total if total else 1 / len(group) for place in group]

    def row(values: list[float]) -> list[float]:
        powered = [value**tau if value else 0.0 for value in values]
        total = sum(powered)
        return [math.log(max(FLOOR, value / total if total else 0.0)) for value in powered]

    (start_o, start_i), (o_o, o_i), (i_o, same, other) = shares(0, 1), shares(2, 3), shares(4, 5, 6)
    start = row([start_o, *[start_i / num_types] * num_types])
    rows = [row([o_o, *[o_i / num_types] * num_types])]
    for kind in range(num_types):
        to = [same if each == kind else other / max(1, num_types - 1) for each in range(num_types)]
        rows.append(row([i_o, *to]))
    found = spread(torch.tensor(counts), num_types, tau)
    torch.testing.assert_close(found.start, torch.tensor(start))
    torch.testing.assert_close(found.transitions, torch.tensor(rows))
    assert not found.end.any()


def test_a_power_of_zero_is_uniform_and_one_keeps_the_frequencies() -> None:
    counts = torch.tensor([3, 1, 6, 2, 4, 2, 2])
    even = spread(counts, 2, 0.0)
    torch.testing.assert_close(even.transitions.exp(), torch.full((3, 3), 1 / 3))
    kept = spread(counts, 2, 1.0)
    torch.testing.assert_close(kept.start.exp(), torch.tensor([0.75, 0.125, 0.125]))
    torch.testing.assert_close(kept.transitions[1].exp(), torch.tensor([0.5, 0.25, 0.25]))


@pytest.mark.parametrize("num_types", [1, 2])
def test_nothing_seen_leaves_finite_scores(num_types: int) -> None:
    for counts in ([0] * 7, [0, 0, 0, 0, 0, 0, 5]):
        found = spread(torch.tensor(counts), num_types, 0.5)
        assert found.start.isfinite().all() and found.transitions.isfinite().all()


@pytest.mark.parametrize("num_types", [1, 3])
def test_rows_sum_to_one_where_every_share_is_positive(num_types: int) -> None:
    for tau in (0.05, 1.0):
        found = spread(torch.tensor([3, 1, 6, 2, 4, 2, 2]), num_types, tau)
        torch.testing.assert_close(found.start.exp().sum(), torch.tensor(1.0))
        torch.testing.assert_close(found.transitions.exp().sum(1), torch.ones(1 + num_types))


def test_with_one_type_its_words_stay_or_leave_as_counted_and_never_as_released() -> None:
    counts = torch.tensor([1, 1, 1, 1, 3, 1, 4])
    torch.testing.assert_close(spread(counts, 1, 1.0).transitions[1].exp(), torch.tensor([0.75, 0.25]))
    released = spread(counts, 1, 1.0, one_type="released")
    torch.testing.assert_close(released.transitions[1], torch.full((2,), math.log(FLOOR)))
    assert torch.equal(released.transitions[0], spread(counts, 1, 1.0).transitions[0])
    assert torch.equal(spread(counts, 2, 1.0, one_type="released").transitions, spread(counts, 2, 1.0).transitions)


def test_the_floor_is_for_all_or_for_zeros_alone() -> None:
    rare, never = (torch.tensor([9, 9, 9, 9, 10_000, 10_000, count]) for count in (1, 0))
    assert float(spread(rare, 3, 2.0).transitions[1, 2]) == pytest.approx(math.log(FLOOR))
    assert float(spread(rare, 3, 2.0, floor="zeros").transitions[1, 2]) < math.log(FLOOR) - 1
    for floor in ("clamp", "zeros"):
        assert float(spread(never, 3, 2.0, floor=floor).transitions[1, 2]) == pytest.approx(math.log(FLOOR))
