"""Scores equal seqeval's, add up over parts and ranks; the paired test finds what is there."""

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import in_two_ranks, joined

from mnerkit.errors import DataError
from mnerkit.scoring.metrics import EntityScores, confusion, entity_scores, paired_test, report

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
PAIRS = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=12)


def columns(posts):
    """Gold and predicted sequences of lists of pairs."""
    return [[gold for gold, _ in post] for post in posts], [[said for _, said in post] for post in posts]


def random_posts(count, noise, seed):
    """Gold tags, and the same with a share of them redrawn."""
    rng = np.random.default_rng(seed)
    gold = [[str(tag) for tag in rng.choice(TAGS, 10)] for _ in range(count)]
    said = [[str(rng.choice(TAGS)) if rng.random() < noise else tag for tag in post] for post in gold]
    return gold, said


@settings(max_examples=60)
@given(st.lists(PAIRS, min_size=1, max_size=4))
def test_scores_equal_seqeval(posts):
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
    from seqeval.metrics.v1 import precision_recall_fscore_support as strict_scores
    from seqeval.scheme import IOB2

    gold, said = columns(posts)
    ours = entity_scores(gold, said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lenient = precision_recall_fscore_support(gold, said, average="micro", zero_division=0)[:3]
        strict = strict_scores(gold, said, average="micro", scheme=IOB2, zero_division=0)[:3]
        by_type = precision_recall_fscore_support(gold, said, average=None, zero_division=0)
    names = ("precision", "recall", "f1")
    assert [ours[name] for name in names] == pytest.approx([100 * each for each in lenient])
    assert [ours[f"{name}_strict"] for name in names] == pytest.approx([100 * each for each in strict])
    kinds = sorted({tag[2:] for post in (*gold, *said) for tag in post if tag != "O"})
    for place, kind in enumerate(kinds):
        found = [ours[f"type/{kind}/{name}"] for name in names]
        assert found == pytest.approx([100 * each[place] for each in by_type[:3]])


@settings(max_examples=20)
@given(st.lists(PAIRS, min_size=2, max_size=6))
def test_scores_of_parts_add_up(posts):
    metric = EntityScores(("PER", "LOC"))
    for post in posts:
        metric.update(*columns([post]))
    whole = entity_scores(*columns(posts))
    assert metric.compute().items() >= {name: pytest.approx(value) for name, value in whole.items()}.items()


def test_an_orphan_inside_tag_is_an_entity_to_the_lenient_rule_alone():
    scores = entity_scores([["O", "I-PER"]], [["O", "I-PER"]])
    assert (scores["f1"], scores["f1_strict"]) == (100, 0)


def test_types_outside_the_declared_ones_count_in_the_micro_scores():
    metric = EntityScores(("PER",))
    metric.update([["B-PER", "B-NEW"]], [["B-PER", "O"]])
    scores = metric.compute()
    assert scores["type/PER/f1"] == 100 and scores["recall"] == 50
    assert "type/NEW/f1" not in scores


def test_reset_forgets():
    metric = EntityScores()
    metric.update([["B-PER"]], [["B-PER"]])
    metric.reset()
    metric.update([["B-PER"]], [["O"]])
    assert metric.compute()["f1"] == 0


@pytest.mark.parametrize("said", [[["O"]], [["O", "O"], ["O"]]])
def test_predictions_that_do_not_fit_the_gold_are_refused(said):
    with pytest.raises(ValueError, match="predicted"):
        entity_scores([["O", "O"]], said)


def _one_rank(rank, folder):
    with joined(rank, folder):
        gold, said = random_posts(9, 0.4, seed=0)
        metric = EntityScores(("PER", "LOC"))
        mine = range(0, 3) if rank == 0 else range(3, 9)
        metric.update([gold[post] for post in mine], [said[post] for post in mine])
        assert metric.compute() == entity_scores(gold, said)


def test_two_ranks_give_the_scores_of_one_process(tmp_path):
    in_two_ranks(_one_rank, tmp_path)


def test_confusion_counts_types_missed_and_spurious():
    gold = [["B-PER", "O", "B-LOC", "I-LOC"], ["B-PER", "O"]]
    said = [["B-LOC", "B-PER", "B-LOC", "O"], ["B-PER", "O"]]
    # PER right once, PER as LOC once, LOC missed (other bounds), PER and LOC spurious once each
    assert confusion(gold, said, ("PER", "LOC")).tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]


def test_confusion_refuses_an_unknown_type():
    with pytest.raises(DataError, match="NEW"):
        confusion([["B-NEW"]], [["O"]], ("PER",))


def test_report_is_a_table_by_type_and_survives_an_empty_one():
    assert "PER" in report([["B-PER"]], [["B-PER"]])
    assert report([["O"]], [["O"]]) == "no entities\n"


def test_paired_test_of_a_system_with_itself_finds_nothing():
    gold, said = random_posts(60, 0.3, seed=1)
    found = paired_test(gold, said, said, samples=500)
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)


def test_paired_test_tells_a_better_system_and_its_sign():
    gold, worse = random_posts(150, 0.5, seed=2)
    _, better = random_posts(150, 0.1, seed=2)
    better = [post if number % 2 else worse[number] for number, post in enumerate(gold)]
    found = paired_test(gold, worse, better, samples=1000)
    assert found["p"] < 0.01 and 0 < found["low"] < found["difference"] < found["high"]
    assert found["f1_a"] == pytest.approx(entity_scores(gold, worse)["f1"])
    assert found["f1_b"] == pytest.approx(entity_scores(gold, better)["f1"])
    mirrored = paired_test(gold, better, worse, samples=1000)
    assert mirrored["difference"] == -found["difference"]
    assert paired_test(gold, worse, better, samples=1000) == found


def test_p_value_equals_the_count_over_all_swaps():
    gold = [["B-PER", "O", "O"]] * 6
    a = [["B-PER", "O", "O"]] * 2 + [["O", "O", "B-PER"]] * 4
    b = [["O", "O", "O"]] * 1 + [["B-PER", "O", "O"]] * 5
    swaps = np.array(np.meshgrid(*[[False, True]] * 6)).reshape(6, -1).T
    observed = entity_scores(gold, b)["f1"] - entity_scores(gold, a)["f1"]
    extreme = 0
    for swap in swaps:
        one = [y if flip else x for x, y, flip in zip(a, b, swap, strict=True)]
        two = [x if flip else y for x, y, flip in zip(a, b, swap, strict=True)]
        gap = entity_scores(gold, two)["f1"] - entity_scores(gold, one)["f1"]
        extreme += abs(gap) >= abs(observed) - 1e-9
    assert paired_test(gold, a, b, samples=40_000)["p"] == pytest.approx(extreme / len(swaps), abs=0.01)


def test_interval_equals_that_of_a_plain_bootstrap():
    gold, a = random_posts(40, 0.4, seed=3)
    _, b = random_posts(40, 0.2, seed=3)
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(200):
        drawn = rng.integers(0, 40, 40)
        pick = [[posts[post] for post in drawn] for posts in (gold, a, b)]
        gaps.append(entity_scores(pick[0], pick[2])["f1"] - entity_scores(pick[0], pick[1])["f1"])
    found = paired_test(gold, a, b)
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(gaps, [0.025, 0.975]).tolist(), abs=2.0)


def test_interval_leaves_out_as_much_as_among_all_resamples():
    gold = [["B-PER", "O", "B-LOC"]] * 5
    a = [["B-PER", "O", "O"]] * 2 + [["O", "O", "B-LOC"]] * 2 + [["B-LOC", "O", "B-LOC"]]
    b = [["B-PER", "O", "B-LOC"], ["B-PER", "O", "O"], ["O", "B-PER", "B-LOC"], ["B-PER", "O", "O"], ["O", "O", "O"]]
    gaps = []
    for drawn in itertools.product(range(5), repeat=5):
        of_gold, of_a, of_b = ([posts[post] for post in drawn] for posts in (gold, a, b))
        gaps.append(entity_scores(of_gold, of_b)["f1"] - entity_scores(of_gold, of_a)["f1"])
    found = paired_test(gold, a, b, samples=40_000)
    for end, share in (("low", 0.025), ("high", 0.975)):
        below, upto = np.mean(np.array(gaps) < found[end] - 1e-9), np.mean(np.array(gaps) <= found[end] + 1e-9)
        assert below <= share + 0.005 and upto >= share - 0.005


def test_counting_and_comparing_need_no_torch():
    code = "import sys, mnerkit.scoring.significance; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_counts_are_whole_numbers():
    assert EntityScores().totals.dtype == torch.long
