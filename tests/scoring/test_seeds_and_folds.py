"""Paired tests that draw posts, seeds and folds: against known components, and how often their intervals are right."""

from __future__ import annotations

import numpy as np
import pytest

from mnerkit.errors import UsageError
from mnerkit.scoring.comparison import folds_of
from mnerkit.scoring.intervals import t_quantile
from mnerkit.scoring.seeds_and_folds import SeedComparison, fractional, runs_test
from mnerkit.scoring.significance import f1_of

Folds = list[tuple[np.ndarray, np.ndarray]]


def drawn(rng: np.random.Generator, runs: int, posts: int, seeds: float, sets: float = 0.0, folds: int = 1) -> Folds:
    """Counts of two methods that are equally good on average.

    How likely an entity is found has a part of the post, of the post in each method, of the run and of both; `seeds`
    and `sets` are the deviations between runs and between training sets, as logits.
    """
    found = []
    for _ in range(folds):
        gold, hard = rng.poisson(1.9, posts), 1.7 + rng.standard_normal(posts)
        pair = []
        for _ in range(2):
            level = hard + 0.4 * rng.standard_normal(posts) + sets * rng.standard_normal()
            level = level + seeds * rng.standard_normal((runs, 1)) + 0.8 * rng.standard_normal((runs, posts))
            right = rng.binomial(gold, 1 / (1 + np.exp(-level)))
            wrong = rng.binomial(gold, 1 / (1 + np.exp(level)))
            pair.append(np.stack(np.broadcast_arrays(gold, right + wrong, right), axis=-1))
        found.append((pair[0], pair[1]))
    return found


def variance(test: SeedComparison) -> float:
    return sum(test[name] ** 2 for name in ("deviation_posts", "deviation_seeds", "deviation_folds"))  # type: ignore[literal-required]


@pytest.mark.parametrize(
    ("runs", "seeds", "sets", "folds", "least"),
    [(2, 0.05, 0.0, 1, 0.93), (3, 0.05, 0.0, 1, 0.93), (3, 0.15, 0.0, 1, 0.91), (2, 0.05, 0.05, 5, 0.93)],
)
def test_the_interval_holds_the_true_difference_as_often_as_it_says(
    runs: int, seeds: float, sets: float, folds: int, least: float
) -> None:
    rng = np.random.default_rng(0)
    tests = [runs_test(drawn(rng, runs, 300, seeds, sets, folds)) for _ in range(300)]
    inside = np.mean([test["low"] <= 0 <= test["high"] for test in tests])
    assert least <= inside <= 0.995
    assert all((test["p"] < 0.05) == (not test["low"] <= 0 <= test["high"]) for test in tests)
    # the variance is no smaller than that of the differences themselves
    true = np.var([test["difference"] for test in tests])
    assert 0.8 * true <= np.mean([variance(test) for test in tests])


def test_many_runs_and_posts_give_the_variance_of_a_bootstrap_over_both() -> None:
    # nothing belongs to a post and a run together: that a bootstrap over both counts three times (Owen, 2007)
    rng = np.random.default_rng(3)
    right = [12 + rng.integers(0, 5, 200) + rng.integers(0, 2, (40, 1)) for _ in range(2)]
    pair = [np.stack(np.broadcast_arrays(20, 20, each), axis=-1) for each in right]
    test = runs_test([(pair[0], pair[1])])
    found = []
    for _ in range(4000):
        posts = rng.multinomial(200, np.full(200, 1 / 200))
        f1 = []
        for counts in pair:
            seeds = rng.multinomial(40, np.full(40, 1 / 40))
            gold, *system = np.einsum("rnc,r,n->c", counts, seeds, posts, optimize=True)
            f1.append(f1_of(gold, np.array(system)))
        found.append(f1[1] - f1[0])
    assert variance(test) == pytest.approx(np.var(found), rel=0.08)


def test_posts_alone_are_drawn_where_runs_do_not_differ() -> None:
    a, b = drawn(np.random.default_rng(1), 1, 500, 0.0)[0]
    test = runs_test([(np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0))])
    assert test["deviation_seeds"] == 0 and test["seeds"] == 3
    assert test["low"] == pytest.approx(test["difference"] - t_quantile(10_000) * test["deviation_posts"], abs=0.05)


def test_differences_between_folds_count_with_the_correction_for_overlapping_training_sets() -> None:
    # no post differs from another, nor any run: all that varies is the difference of a fold
    counts = [np.array([[10, 10, right]]) for right in (9, 8, 7)]
    folds = [(np.full((2, 400, 3), (10, 10, 8)), np.repeat(each[None], 2, 0).repeat(400, 1)) for each in counts]
    test = runs_test(folds)
    differences = [10.0, 0.0, -10.0]
    factor = 1 / 3 + 1 / 2  # Nadeau and Bengio: 1 / folds + posts tested on / posts trained on
    assert test["deviation_folds"] == pytest.approx((factor * np.var(differences, ddof=1)) ** 0.5)
    assert (test["deviation_posts"], test["deviation_seeds"]) == (0, 0)
    assert test["freedom"] == pytest.approx(2) and test["high"] == pytest.approx(
        t_quantile(2) * test["deviation_folds"]
    )


def test_what_can_not_be_known_is_refused() -> None:
    a, b = drawn(np.random.default_rng(1), 2, 20, 0.1)[0]
    with pytest.raises(ValueError, match="one seed"):
        runs_test([(a[:1], b[:1])])
    other = b.copy()
    other[1, 3, 0] += 1
    for wrong in (b[:, :-1], b[:1], other):
        with pytest.raises(ValueError, match="the same posts"):
            runs_test([(a, wrong)])
    units = [{f"post {n}": np.ones(5, int) for n in range(start, start + 4)} for start in (0, 0, 4, 4, 2, 2)]
    assert len(folds_of(units[:2], "posts,seeds")) == 1 and len(folds_of(units[:4], "posts,seeds,folds")) == 2
    for runs, draw, said in (
        (units[:1], "posts,seeds", "with one seed it is unknown"),
        (units[:4], "posts,seeds", "not all scored on the same posts"),
        (units[:3], "posts,seeds,folds", "not all scored on the same posts"),
        (units[:2], "posts,seeds,folds", "not the folds"),
        (units[2:], "posts,seeds,folds", "not the folds"),
    ):
        with pytest.raises(UsageError, match=said):
            folds_of(runs, draw)  # type: ignore[arg-type]


def test_degrees_of_freedom_need_not_be_whole() -> None:
    assert [fractional(t_quantile, each) for each in (1, 4, 10_000)] == [
        t_quantile(1),
        t_quantile(4),
        t_quantile(10_000),
    ]
    assert fractional(t_quantile, 0.5) == t_quantile(1)
    assert fractional(t_quantile, 2.5) == pytest.approx(3.558, rel=0.03)  # of the density itself
