"""Paired tests and Holm's correction, held against scipy, brute force and worked examples."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from small_runs import BAD, GOLD, GOOD, Write, rows, tags

from mnerkit.errors import DataError
from mnerkit.report.posts.answers import Library
from mnerkit.scoring import significance
from mnerkit.scoring.comparison import Answer, compare, read_answers, units_of


def test_holm_is_the_worked_example_and_the_closed_test_procedure() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([]) == [] and significance.holm([0.9, 0.8]) == [1.0, 1.0]
    # Holm is the closure of Bonferroni: a hypothesis falls when every set that holds it falls
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = list(rng.uniform(0, 0.2, size=5).round(2))
        closed = [
            max(
                min(1.0, sum(chosen) * min(p for p, inside in zip(values, chosen, strict=True) if inside))
                for chosen in product([0, 1], repeat=5)
                if chosen[place]
            )
            for place in range(5)
        ]
        assert significance.holm(values) == pytest.approx(closed)


def exact(parts: list[significance.UnitCounts], measure) -> tuple[float, float]:
    """Difference and p-value of every way to swap units, by enumeration; a unit of several parts is swapped in all."""

    def figure(counts: np.ndarray, swap: np.ndarray) -> float:
        a, b = (
            np.where(swap[:, None], counts[:, 3:], counts[:, 1:3]),
            np.where(swap[:, None], counts[:, 1:3], counts[:, 3:]),
        )
        gold = counts[:, 0].sum()
        return measure(gold, *b.sum(0)) - measure(gold, *a.sum(0))

    names = sorted({int(unit) for part in parts for unit in part.units})
    found = []
    for chosen in product([False, True], repeat=len(names)):
        swap = dict(zip(names, chosen, strict=True))
        each = [figure(part.table, np.array([swap[int(unit)] for unit in part.units])) for part in parts]
        found.append(np.mean(each))
    return found[0], float(np.mean(np.abs(found) >= abs(found[0]) - 1e-9))


def f1(gold: int, said: int, right: int) -> float:
    return 200 * right / (gold + said) if gold + said else 0.0


def some_counts(seed: int, size: int = 8, first: int = 0) -> significance.UnitCounts:
    """Counts of the units from `first` on."""
    rng = np.random.default_rng(seed)
    gold, said_a, said_b = (rng.integers(0, 4, size=size) for _ in range(3))
    right_a, right_b = (rng.integers(0, np.minimum(gold, said) + 1) for said in (said_a, said_b))
    return significance.UnitCounts(first + np.arange(size), np.stack((gold, said_a, right_a, said_b, right_b), axis=1))


@pytest.mark.parametrize("seeds", [(1,), (2,), (3, 4), (5, 6)])
def test_the_p_value_is_that_of_all_swaps_for_one_cell_and_for_a_mean_of_cells(seeds: tuple[int, ...]) -> None:
    size = 10 // len(seeds)
    parts = [some_counts(seed, size, first=place * size) for place, seed in enumerate(seeds)]
    difference, p = significance.paired_mean_test(parts, samples=40_000)
    wanted = exact(parts, f1)
    assert difference == pytest.approx(wanted[0]) and p == pytest.approx(wanted[1], abs=0.012)


@pytest.mark.parametrize("seeds", [(3, 4), (7, 8, 9)])
def test_a_post_that_several_cells_of_a_mean_were_asked_about_changes_sides_in_all(seeds: tuple[int, ...]) -> None:
    parts = [some_counts(seed, 7, first=2 * place) for place, seed in enumerate(seeds)]  # most units in common
    difference, p = significance.paired_mean_test(parts, samples=40_000)
    wanted = exact(parts, f1)
    assert difference == pytest.approx(wanted[0]) and p == pytest.approx(wanted[1], abs=0.012)
    # the same cell twice tells no more than once, draw by draw
    assert significance.paired_mean_test([parts[0], parts[0]]) == significance.paired_mean_test(parts[:1])
    assert len(significance.units_in(parts)) == 7 + 2 * (len(seeds) - 1)


def test_draws_in_pieces_are_those_of_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [some_counts(1, 40), some_counts(2, 40, first=20)]
    whole = significance.paired_mean_test(parts)
    monkeypatch.setattr(significance, "DRAWS_IN_MEMORY", 1000)
    assert significance.paired_mean_test(parts) == whole


def test_recall_is_tested_as_scipy_does_it() -> None:
    stats = pytest.importorskip("scipy.stats")
    units = some_counts(7, 9)
    counts = units.table
    gold, zero = counts[:, 0], 0 * counts[:, 0]
    as_recall = np.stack((gold, gold, counts[:, 2], gold, counts[:, 4]), axis=1)
    difference, p = significance.paired_mean_test([significance.UnitCounts(units.units, as_recall)], samples=40_000)
    assert difference == pytest.approx(100 * (counts[:, 4] - counts[:, 2]).sum() / gold.sum())
    # gold is the same on both sides, so a swap changes the sign of a unit's difference: scipy's paired permutation test
    found = stats.permutation_test(
        (counts[:, 4], counts[:, 2]), lambda b, a: (b - a).sum(), permutation_type="samples", n_resamples=np.inf
    )
    assert p == pytest.approx(found.pvalue, abs=0.012)
    as_precision = np.stack((zero, 2 * counts[:, 1], counts[:, 2], 2 * counts[:, 3], counts[:, 4]), axis=1)
    wanted = exact([units], lambda gold, said, right: 100 * right / said if said else 0.0)
    found_p = significance.paired_mean_test([significance.UnitCounts(units.units, as_precision)], samples=40_000)
    assert found_p == (pytest.approx(wanted[0]), pytest.approx(wanted[1], abs=0.012))


@pytest.mark.parametrize("episodes", [False, True])
def test_counts_are_those_of_runs_compare(write_run: Write, episodes: bool) -> None:
    def lines(said: list) -> list[dict]:
        found = rows(said)
        return [{**row, "episode": n // 4, "types": ["PER"]} for n, row in enumerate(found)] if episodes else found

    a = write_run("a", BAD, lines=lines(BAD))
    b = write_run("b", GOOD, lines=lines(GOOD))
    library = Library()
    wanted = compare([tuple(read_answers(run / "predictions.test.jsonl") for run in (a, b))])
    counts = library.counts([(a, b)], "test", "f1")
    assert len(counts.units) == wanted["posts"] == (6 if episodes else 24)
    assert significance.paired_mean_test([counts]) == (wanted["difference"], wanted["p"])
    of_type = library.counts([(a, b)], "test", "type/LOC/f1")
    assert of_type.table[:, 0].sum() == wanted["by_type"]["LOC"]["gold"]
    assert f1(*of_type.table[:, :3].sum(0)) == pytest.approx(wanted["by_type"]["LOC"]["f1_a"])
    for name, place in {"precision": 1, "recall": 0}.items():
        tested = library.counts([(a, b)], "test", name).table.sum(0)
        plain = counts.table.sum(0)
        assert f1(*tested[:3]) == pytest.approx(100 * plain[2] / plain[place])


@pytest.mark.parametrize("episodes", [False, True])
def test_more_seeds_on_the_same_posts_are_no_more_posts(write_run: Write, episodes: bool) -> None:
    def lines(said: list, seed: int) -> list[dict]:
        support = {"types": ["PER"], "support": [f"support-{seed}"]}
        return [{**row, "episode": n, **support} for n, row in enumerate(rows(said))] if episodes else rows(said)

    runs = [
        tuple(write_run(f"{name}{seed}", said, lines=lines(said, seed)) for name, said in (("a", BAD), ("b", GOOD)))
        for seed in range(3)
    ]
    library = Library()
    one, three = (library.counts(runs[:seeds], "test", "f1") for seeds in (1, 3))
    assert (three.units == one.units).all() and (three.table == 3 * one.table).all()
    assert significance.paired_mean_test([three]) == significance.paired_mean_test([one])
    answers = [tuple(read_answers(run / "predictions.test.jsonl") for run in pair) for pair in runs]
    once, thrice = compare(answers[:1]), compare(answers)
    for name in ("difference", "low", "high", "p", "posts", "unit"):
        assert thrice[name] == once[name], name
    assert thrice["gold"] == 3 * once["gold"]


def test_posts_that_a_run_is_asked_twice_and_other_posts_are_units_of_their_own() -> None:
    def asked(*ids: str, episodes: tuple[int, ...] = ()) -> list[Answer]:
        numbers = episodes or (None,) * len(ids)
        return [
            Answer(each, ("a",), frozenset(), frozenset(), episode=of) for each, of in zip(ids, numbers, strict=True)
        ]

    assert len(set(units_of(asked("1", "2", "1")))) == 3
    assert units_of(asked("1", "2")) == units_of(asked("1", "2", episodes=(7, 8)))
    together = units_of(asked("1", "2", "3", "1", "2", episodes=(0, 0, 1, 2, 2)))
    assert together[0] == together[1] != together[3] == together[4]
    assert set(units_of(asked("1"))) & set(units_of(asked("3", "1"))), "the same post, wherever it stands"


def test_what_can_not_be_tested_is_said(write_run: Write) -> None:
    a, b = write_run("a", BAD), write_run("b", GOOD, lines=rows(GOOD)[:-1])
    with pytest.raises(DataError, match="not asked alike"):
        Library().counts([(a, b)], "test", "f1")
    with pytest.raises(DataError, match="f1_strict is not counted"):
        Library().counts([(a, a)], "test", "f1_strict")
    with pytest.raises(DataError, match="no seed"):
        Library().counts([], "test", "f1")
    with pytest.raises(DataError, match=r"no predictions\.dev\.jsonl"):
        Library().counts([(a, a)], "dev", "f1")


def test_a_file_of_predictions_that_lies_is_refused(write_run: Write) -> None:
    for number, change in enumerate([{"gold": [[0, 9, "PER"]]}, {"gold": [[0, 1, 3]]}, {"id": 3}, {"words": [1]}]):
        run = write_run(f"r{number}", GOOD, lines=[rows(GOOD)[0] | change])
        with pytest.raises(DataError, match=r"predictions\.test\.jsonl:1: no prediction"):
            Library().of(run, "test")


def test_confusion_is_that_of_the_tags(write_run: Write) -> None:
    from mnerkit.scoring.counts import confusion

    run = write_run("a", BAD)
    asked = Library().of(run, "test")
    types = ["LOC", "ORG", "PER"]
    assert asked.types == types
    wanted = confusion([tags(each) for each in GOLD], [tags(each) for each in BAD], types)
    assert (asked.confusion(Path(run / "predictions.test.jsonl"), types) == wanted).all()


def test_seeds_are_drawn_as_runs_compare_draws_them(write_run: Write) -> None:
    a = [write_run(f"a{seed}", BAD[: 24 - seed] + GOOD[24 - seed :]) for seed in range(3)]
    b = [write_run(f"b{seed}", GOOD[: 20 - 4 * seed] + BAD[20 - 4 * seed :]) for seed in range(3)]
    library, pairs = Library(draws_seeds=True), list(zip(a, b, strict=True))
    cell = (pairs, "test", "f1")
    test = library.over_seeds([cell])
    answers = [
        (read_answers(one / "predictions.test.jsonl"), read_answers(other / "predictions.test.jsonl"))
        for one, other in pairs
    ]
    wanted = compare(answers, draw="posts,seeds")
    assert test["seeds"] == 3 and test["deviation_seeds"] > 0
    assert [test["difference"], test["low"], test["p"]] == pytest.approx(
        [wanted[n] for n in ("difference", "low", "p")]
    )
    with pytest.raises(DataError, match="with one seed"):
        library.over_seeds([(pairs[:1], "test", "f1")])
    with pytest.raises(DataError, match="share posts"):
        library.over_seeds([cell, cell])
