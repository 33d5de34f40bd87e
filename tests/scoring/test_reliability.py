"""Scores of entities beside the share of them that is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.cli import main
from mnerkit.scoring.reliability import reliability

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(PAIRS)
def test_bins_hold_all_entities_and_the_error_is_their_mean_difference(pairs: list[tuple[float, bool]]) -> None:
    found = reliability(pairs)
    assert found is not None and found["entities"] == sum(count for *_, count in found["bins"]) == len(pairs)
    for low, score, right, count in found["bins"]:
        inside = [pair for pair in pairs if min(int(pair[0] * 10), 9) == round(10 * low)]
        assert count == len(inside)
        assert score == pytest.approx(sum(each for each, _ in inside) / count, abs=1e-4)
        assert right == pytest.approx(sum(correct for _, correct in inside) / count, abs=1e-4)
    mean = sum(count * abs(score - right) for _, score, right, count in found["bins"]) / len(pairs)
    assert found["error"] == pytest.approx(mean, abs=3e-4)


def test_scores_that_are_always_right_have_no_error() -> None:
    assert reliability([]) is None
    perfect = reliability([(1.0, True), (0.0, False), (0.5, True), (0.5, False)])
    assert perfect is not None and perfect["error"] == 0.0
    boastful = reliability([(0.9, False)])
    assert boastful is not None and boastful["error"] == 0.9


def test_scoring_notes_the_reliability_of_all_entities_that_were_predicted(tmp_path: Path) -> None:
    fit = ["fit", "--plugin", "bilstm", "--name", "one", "--runs_dir", str(tmp_path), "--data.limit", "400"]
    assert main([*fit, "--trainer.max_epochs", "5", "--trainer.enable_progress_bar", "false"]) == 0
    run = tmp_path / "bilstm" / "probe" / "one"
    found = json.loads((run / "metrics.json").read_text())["dev:reliability"]
    rows = [json.loads(line) for line in (run / "predictions.dev.jsonl").read_text().splitlines()]
    spans = [(entity, row) for row in rows for entity in row["entities"]]
    right = sum([entity["start"], entity["end"], entity["type"]] in row["gold"] for entity, row in spans)
    assert found["entities"] == len(spans) > 20 and found["calibrated"] is True
    assert sum(share * count for _, _, share, count in found["bins"]) == pytest.approx(right, abs=0.1)
    assert all("score" not in entity for entity, _ in spans)
