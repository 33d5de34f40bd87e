"""The overview: what is best, by how much, is it sure, does it look at the picture; smoke tests claim nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Seen, in_browser
from small_runs import BAD, GOOD, Write

from mnerkit import report
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.report.posts.groups import LENGTHS, by_groups, training_counts
from mnerkit.report.tables.run_tables import duration, short_count
from mnerkit.scoring.comparison import Answer
from mnerkit.scoring.intervals import episode_scores, f1_interval
from mnerkit.scoring.post_sets import PostSets


def facts_of(out: Path) -> dict[str, Any]:
    return Seen((out / "index.html").read_text()).embedded("facts")


def with_metrics(run: Path, **more: Any) -> Path:
    content = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(content | more))
    return run


def test_the_four_questions_are_answered_for_each_protocol(tmp_path: Path, write_run: Write) -> None:
    use = {"right": {"all": 100.0, "ambiguous": 90.0}, "shuffled": {"all": 60.0, "ambiguous": 20.0}}
    runs = [
        with_metrics(write_run("good", GOOD, plugin="cross"), **{"test:image_use": use}),
        write_run("bad", BAD),
        write_run("alone", BAD, corpus="other", digest="d2"),
    ]
    report.write(tmp_path / "report", runs=runs)
    first, second = facts_of(tmp_path / "report")["overview"]
    assert [group["corpus"] for group in (first, second)] == ["corp", "other"]
    assert [row["name"] for row in first["rows"]] == ["cross", "bert"]
    best, margin, sure, looks = (answer[1:] for answer in first["answers"])
    assert best == ["cross", "F1 100.00, one seed"]
    assert re.fullmatch(r"[\d.]+ points", margin[0]) and margin[1].startswith("over bert, F1 ")
    assert sure[0] == "Yes, for this seed" and "against bert on the same posts, p < 0.001" in sure[1]
    assert looks == [
        "40.00 points lost",
        "with other posts' pictures, 100.00 to 60.00; on entities that only the picture tells, 90.00 to 20.00",
    ]
    assert [answer[:2] for answer in second["answers"]] == [
        ["What is there?", "bert"],
        ["Does it look at the picture?", "It reads none"],
    ]


def test_a_difference_that_may_be_chance_is_said_to_be_none(tmp_path: Path, write_run: Write) -> None:
    runs = [write_run("a", GOOD), write_run("b", [*GOOD[:-1], BAD[0]], plugin="gmf")]
    report.write(tmp_path / "report", runs=runs)
    [group] = facts_of(tmp_path / "report")["overview"]
    assert group["answers"][2][:2] == ["Is it sure?", "No"] and "may be chance" in group["answers"][2][2]


def test_intervals_over_seeds_that_overlap_are_mentioned(tmp_path: Path, write_run: Write) -> None:
    for seed in (0, 1):
        write_run(f"a{seed}", GOOD[: 24 - 8 * seed] + BAD[24 - 8 * seed :], seed=seed)
        write_run(f"b{seed}", BAD, seed=seed, plugin="gmf")
    report.write(tmp_path / "report", runs=list((tmp_path / "runs").glob("*/*/*")))
    [group] = facts_of(tmp_path / "report")["overview"]
    assert group["answers"][2][1] == "Yes, for these seeds" and "overlap" in group["answers"][2][2]
    assert group["rows"][0]["n"] == 2 and group["rows"][0]["posts"] is None


def test_a_test_of_some_seeds_only_is_described_as_such(tmp_path: Path, write_run: Write) -> None:
    write_run("a0", GOOD, seed=0)
    write_run("a1", BAD, seed=1)
    write_run("b1", GOOD[:11] + BAD[11:], seed=1, plugin="gmf")
    report.write(tmp_path / "report", runs=list((tmp_path / "runs").glob("*/*/*")))
    [group] = facts_of(tmp_path / "report")["overview"]
    assert group["answers"][0][1] == "bert" and group["answers"][2][1] == "No"
    assert "on the same posts and the 1 seed that both have, p" in group["answers"][2][2]
    assert group["answers"][2][2].endswith(": there gmf is better")


@pytest.mark.parametrize(("tower", "found"), [("bert-base", True), ("other", False)])
def test_an_ablation_without_pictures_is_of_the_same_configuration(
    tmp_path: Path, write_run: Write, tower: str, found: bool
) -> None:
    runs = [
        write_run("full", GOOD, plugin="umt", model={"text": "bert-base"}, max_images=1),
        write_run("part", BAD, plugin="umt", ablation="text_only", model={"text": tower, "fuse": "none"}),
    ]
    report.write(tmp_path / "report", runs=runs)
    [group] = [each for each in facts_of(tmp_path / "report")["overview"] if each["rows"][0]["name"] == "umt"]
    answer, basis = group["answers"][-1][1:]
    assert (answer.endswith("lost"), "(umt text_only)" in basis) == (found, found)
    assert found or answer == "Not measured"


def test_learning_curves_are_means_over_seeds(tmp_path: Path, write_run: Write) -> None:
    for seed, scores in enumerate(((10, 20), (30, 60))):
        run = write_run(f"a{seed}", GOOD, seed=seed)
        (run / "curve").mkdir()
        lines = "".join(f"{value},{epoch},{2 - epoch}\n" for epoch, value in enumerate(scores))
        (run / "curve" / "metrics.csv").write_text(f"dev/f1,epoch,train/loss\n{lines}")
    report.write(tmp_path / "report", runs=list((tmp_path / "runs").glob("*/*/*")))
    [group] = facts_of(tmp_path / "report")["overview"]
    scores, losses = group["rows"][0]["learning"]
    assert [point[:2] for point in scores] == [[0, 20.0], [1, 40.0]] and [point[1] for point in losses] == [2.0, 1.0]
    seen, complaints = in_browser(tmp_path / "report" / "index.html", "#learning", tmp_path / "profile")
    assert complaints == "" and seen.tags.count("h3") == 2


def test_entities_are_grouped_by_length_and_by_frequency_in_training() -> None:
    words = ("Kevin", "Durant", "leaves", "Oakland", "now")
    gold = frozenset({Entity(0, 2, "PER"), Entity(3, 4, "LOC")})
    said = frozenset({Entity(0, 2, "PER"), Entity(3, 4, "ORG"), Entity(0, 1, "PER")})
    posts = PostSets().add("a", [Answer("1", words, gold, said)])
    training = training_counts([Post("t", ["Oakland", "x"], ["B-LOC", "O"]), Post("u", ["Oakland"], ["B-LOC"])])
    groups = by_groups(posts, "a", training)
    assert dict(groups["length"]) == dict(zip(LENGTHS, [[1, 2, 0], [1, 1, 1], [0] * 3, [0] * 3], strict=True))
    # Oakland as LOC is seen twice, as ORG never
    assert [counts for _, counts in groups["training"]] == [[1, 3, 1], [0] * 3, [1, 0, 0], [0] * 3]
    assert "training" not in by_groups(posts, "a", {})


@pytest.mark.parametrize("smoke", [True, False])
def test_a_smoke_test_ranks_and_tests_nothing(
    tmp_path: Path, write_run: Write, write_table: Write, smoke: bool
) -> None:
    runs = [write_run("good", GOOD), write_run("bad", BAD, plugin="gmf")]
    table = write_table([[run] for run in runs], profile="tiny", smoke=smoke)
    report.write(tmp_path / "report", [table], runs)
    facts = facts_of(tmp_path / "report")
    cells = facts["tables"][0]["cells"]
    assert [cell["best"] for cell in cells] == [not smoke, False]
    assert ["test" in cell for cell in cells] == [not smoke, not smoke]
    assert bool(facts["overview"]) is not smoke and len(facts["tables"]) == (1 if smoke else 2)
    seen, complaints = in_browser(tmp_path / "report" / "index.html", "#overview", tmp_path / "profile")
    shown = " ".join(text for _, text in seen.texts)
    assert complaints == "" and ("Profile tiny is a smoke test" in shown) is smoke and "significant diff" not in shown


def test_the_interval_over_posts_is_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 4, 600)
    predicted = np.clip(gold + rng.integers(-1, 2, 600), 0, None)
    counts = np.stack((gold, predicted, rng.binomial(np.minimum(gold, predicted), 0.7)), axis=1)
    drawn = episode_scores(counts, 2000)
    low, high = f1_interval(counts, np.arange(600))
    assert (low, high) == pytest.approx((drawn["f1_low"], drawn["f1_high"]), abs=0.25)
    # rows of one unit are drawn together
    halves = np.concatenate((counts // 2, counts - counts // 2))
    assert f1_interval(halves, np.concatenate((np.arange(600),) * 2)) == pytest.approx((low, high))
    assert f1_interval(counts[:1], np.zeros(1)) == f1_interval(0 * counts, np.arange(600)) == (0.0, 100.0)


def test_durations_and_counts_are_short() -> None:
    assert [duration([seconds]) for seconds in (9.4, 300, 7200)] == ["9 s", "5 min", "2.0 h"] and duration([]) == ""
    assert [short_count(count) for count in (12, 254_110, 108_310_272, 7_000_000_000)] == [
        *("12", "254 k", "108 M", "7.0 G")
    ]
