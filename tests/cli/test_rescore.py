"""`mnerkit runs rescore`: recorded figures follow from kept predictions, or the command shows which do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.atomic_files import write_json, write_lines
from mnerkit.cli import main
from mnerkit.data.corpus.post import Post
from mnerkit.methods.prediction import Prediction, rows, scores
from mnerkit.runs.rescore import figures
from mnerkit.scoring.comparison import answer_of

TYPES = ("LOC", "PER")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@st.composite
def predictions(draw: st.DrawFn) -> list[Prediction]:
    """Posts with gold and predicted tags, some words ignored, in episodes or not."""
    in_episodes, found = draw(st.booleans()), []
    for number in range(draw(st.integers(1, 6))):
        size = draw(st.integers(1, 6))
        gold, predicted = (draw(st.lists(st.sampled_from(TAGS), min_size=size, max_size=size)) for _ in range(2))
        gold = [tag if tag[0] != "I" else f"B{tag[1:]}" for tag in gold]
        ignored = tuple(draw(st.sets(st.integers(0, size - 1), max_size=2)))
        for word in ignored:
            gold[word] = "O"
        post = Post(f"p{number}", tuple(f"w{word}" for word in range(size)), tuple(gold))
        episode = draw(st.integers(0, 2)) if in_episodes else None
        found.append(Prediction(post, predicted, TYPES, episode, ignored=ignored))
    return found


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_figures_from_records_are_those_that_a_run_writes(predicted: list[Prediction]) -> None:
    recomputed = figures([answer_of(json.dumps(row)) for row in rows(predicted)])
    recorded = {name: value for name, value in scores(predicted).items() if "strict" not in name}
    assert recomputed == pytest.approx(recorded, abs=1e-9)


def write_run(path: Path, **figures: Any) -> Path:
    path.mkdir(parents=True)
    post = Post("p", ("Kevin", "Durant", "leaves", "Oklahoma"), ("B-PER", "I-PER", "O", "B-LOC"))
    predicted = [Prediction(post, ["B-PER", "I-PER", "O", "B-PER"], TYPES)]
    write_json(path / "config.yaml", {"plugin": "bert"})
    write_lines(path / "predictions.test.jsonl", rows(predicted))
    write_json(path / "metrics.json", {"test": scores(predicted) | figures})
    return path


def test_a_figure_that_does_not_follow_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "right")
    assert main(["runs", "rescore", str(tmp_path / "runs"), "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["split"], row["recorded"], row["recomputed"], row["result"]) == ("test", 50.0, 50.0, "the same")
    write_run(tmp_path / "runs" / "wrong", f1=51.0)
    assert main(["runs", "rescore", str(tmp_path / "runs")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[-4:] == ["50.00", "50.00", "the", "same"]
    assert lines[-1].split()[-4:] == ["51.00", "50.00", "differ:", "f1"]


def test_damaged_missing_and_unfinished_get_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs" / "one")
    (run / "predictions.dev.jsonl").write_text("{}\n")
    assert main(["runs", "rescore", str(run)]) == 1
    assert "has no figures of 'dev'" in capsys.readouterr().out
    for path in run.glob("predictions.*"):
        path.unlink()
    assert main(["runs", "rescore", str(run)]) == 0
    assert "no predictions" in capsys.readouterr().out
    (run / "metrics.json").unlink()
    assert main(["runs", "rescore", str(run)]) == 1
    assert "no finished run in" in capsys.readouterr().err
    assert main(["runs", "rescore", str(tmp_path / "nowhere")]) == 1
    assert "no folder" in capsys.readouterr().err
