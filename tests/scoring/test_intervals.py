"""Intervals: Student's t over seeds, the bootstrap over episodes, and the average of the six splits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.errors import DataError, UsageError
from mnerkit.scoring.counts import entity_scores, prf
from mnerkit.scoring.intervals import (
    counts_by_unit,
    episode_scores,
    mean_interval,
    six_split_average,
    t_quantile,
    t_within,
)

# two-sided 95 % and 99 % points, from the printed table
PRINTED = {1: (12.706, 63.657), 2: (4.303, 9.925), 3: (3.182, 5.841), 4: (2.776, 4.604), 9: (2.262, 3.250)}
PRINTED |= {10: (2.228, 3.169), 29: (2.045, 2.756), 30: (2.042, 2.750), 120: (1.980, 2.617)}


@pytest.mark.parametrize("freedom", PRINTED)
def test_t_quantiles_are_the_printed_ones(freedom: int):
    assert [t_quantile(freedom, each) for each in (0.95, 0.99)] == pytest.approx(PRINTED[freedom], abs=6e-4)


def test_t_quantiles_equal_scipys_where_it_is_installed():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 7, 50, 500):
        for confidence in (0.5, 0.95, 0.999):
            assert t_quantile(freedom, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_the_closed_form_equals_the_integral_of_the_density(freedom: int):
    points = np.linspace(-1.7, 1.7, 20_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    density = np.exp(log_scale - (freedom + 1) / 2 * np.log1p(points**2 / freedom))
    area = float(((density[1:] + density[:-1]) / 2 * np.diff(points)).sum())
    assert t_within(1.7, freedom) == pytest.approx(area, abs=1e-7)


def test_an_interval_over_seeds_is_the_textbooks():
    found = mean_interval([30.0, 32.0, 34.0])
    assert found.mean == 32 and found.size == 3
    assert found.half == pytest.approx(4.302653 * 2 / math.sqrt(3), abs=1e-5)
    assert mean_interval([5.0]) == (5.0, None, 1)
    assert mean_interval([4.0, 4.0]).half == 0
    with pytest.raises(ValueError):
        mean_interval([])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(3, 2, size=(4000, 4))
    inside = [abs(found.mean - 3) <= (found.half or 0) for found in map(mean_interval, draws.tolist())]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def brute(counts: np.ndarray) -> tuple[float, float]:
    """Pooled F1, and the mean over episodes that have entities."""
    own = [prf(*each)[2] for each in counts.tolist() if each[0] + each[1]]
    return prf(*counts.sum(0).tolist())[2], sum(own) / len(own) if own else 0.0


counted = st.tuples(st.integers(0, 4), st.integers(0, 4)).flatmap(
    lambda both: st.tuples(st.just(both[0]), st.just(both[1]), st.integers(0, min(both)))
)


@given(st.lists(counted, min_size=1, max_size=30))
def test_episode_f1_is_the_mean_over_episodes_with_entities(rows):
    counts = np.array(rows)
    found = episode_scores(counts, samples=50)
    assert found["f1_episode"] == pytest.approx(brute(counts)[1])
    assert found["episodes"] == len(rows)
    assert found["episodes_without_entities"] == sum(not gold + said for gold, said, _ in rows)
    assert found["f1_low"] <= found["f1_high"] and 0 <= found["f1_episode_low"] <= found["f1_episode_high"] <= 100


def test_intervals_equal_those_of_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, size=(80, 2))
    counts = np.concatenate((counts, (counts.min(1, keepdims=True) * rng.random((80, 1))).round().astype(int)), axis=1)
    drawn = np.array([brute(counts[rng.integers(0, 80, 80)]) for _ in range(3000)])
    found = episode_scores(counts)
    for column, name in enumerate(("f1", "f1_episode")):
        bounds = np.quantile(drawn[:, column], [0.025, 0.975])
        assert [found[f"{name}_low"], found[f"{name}_high"]] == pytest.approx(bounds.tolist(), abs=1.0)
    assert episode_scores(counts) == found
    assert episode_scores(counts, seed=1) != found


def test_posts_of_one_episode_are_one_unit():
    gold = [["B-PER", "O"], ["B-PER", "O"], ["O", "B-LOC"]]
    said = [["B-PER", "O"], ["O", "O"], ["O", "B-LOC"]]
    counts = counts_by_unit([4, 4, 9], gold, said)
    assert counts.tolist() == [[2, 1, 1], [1, 1, 1]]
    assert brute(counts)[0] == pytest.approx(entity_scores(gold, said)["f1"])


def test_the_average_of_the_six_splits_is_the_arithmetic_mean():
    scores = {"Per+Loc": 1.0, "org+per": 2.0, "PER+MISC": 3.0, "Loc+Org": 4.0, "Misc+Loc": 5.0, "Org+Other": 9.0}
    assert six_split_average(scores) == 4.0
    with pytest.raises(DataError, match=r"split Per\+Org is missing"):
        six_split_average({name: score for name, score in scores.items() if name != "org+per"})
    with pytest.raises(DataError, match=r"Per\+Loc is given twice"):
        six_split_average({**scores, "Loc+Per": 1.0})
    with pytest.raises(DataError, match="no split of two types"):
        six_split_average({**scores, "Per": 1.0})
    with pytest.raises(UsageError, match="no type 'Pre'"):
        six_split_average({**scores, "Pre+Loc": 1.0})
