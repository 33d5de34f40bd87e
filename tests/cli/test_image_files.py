"""Boxes and scores of a corpus that can't be used are told before the training, and those that can are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder

QUICK = ["--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false", "--data.cache", "none"]
SPLITS = ("train", "dev", "test")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two posts a split, with two pictures each."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split in SPLITS:
        rows = []
        for number in range(2):
            names = [f"{split}{number}_{place}.png" for place in range(2)]
            for name in names:
                Image.new("RGB", (30, 20), (40 * number, 80, 120)).save(folder / name)
            row = {"id": f"{split}{number}", "text": [f"Ann{number}", "sings"], "label": ["B-PER", "O"]}
            rows.append(json.dumps({**row, "images": names}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def fit(corpus: Path, method: str, *argv: str) -> tuple[int, RunFolder]:
    runs = corpus.parent / "runs"
    where = ["--data.corpus", str(corpus), "--name", "one", "--runs_dir", str(runs), "--model.freeze_vision", "false"]
    return main(["fit", "--plugin", method, *where, *QUICK, *argv]), RunFolder(runs / method / "mine" / "one")


def test_a_box_that_can_not_be_tested_is_told_before_the_training_and_leaves_no_run(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = {"objects": [{"box": [3, 4, 12, 10]}]}
    rows = [{"image": path.name, **box} for path in sorted(corpus.glob("*.png")) if path.name != "dev1_0.png"]
    wrong = [{**row, "objects": [{"box": [90, 90, 99, 99]}]} if row["image"] == "test0_0.png" else row for row in rows]
    boxes = corpus.parent / "boxes.jsonl"
    code, run = fit(corpus, "hvpnet", "--data.boxes", written(boxes, wrong), "--test")
    said = capsys.readouterr()
    assert code == 1 and "lies outside picture test0_0.png" in said.err and "epoch" not in said.out
    assert not run.path.exists()
    for place in range(2):
        (corpus / f"test1_{place}.png").unlink()
    code, run = fit(corpus, "hvpnet", "--data.boxes", written(boxes, rows), "--test")
    assert code == 0
    # the method looks at one picture of a post, so the second ones that are missing are none of its own
    assert run.metrics()["protocol"]["missing_pictures"] == {"test": {"missing": 1, "of": 2}}
    counts = run.metrics()["protocol"]["objects"]["counts"]
    assert {split: counts[split].get("fallback", 0) for split in SPLITS} == {"train": 0, "dev": 1, "test": 0}


def test_scores_that_are_not_given_are_told_before_the_training_and_leave_no_run(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = fit(corpus, "gifr")
    assert code == 1 and "has no relevance score" in capsys.readouterr().err
    assert not run.path.exists()
    scores = [{"id": f"{split}{number}", "scores": [0.9, 0.1]} for split in SPLITS for number in range(2)]
    file = corpus.parent / "scores.jsonl"
    code, run = fit(corpus, "gifr", "--data.relevance", written(file, scores[:-1]), "--test")
    assert code == 1 and "no scores for 1 of 2 posts, the first is 'test1'" in capsys.readouterr().err
    assert not run.path.exists()
    code, run = fit(corpus, "gifr", "--data.relevance", written(file, scores), "--test")
    assert code == 0 and "missing_pictures" not in run.metrics()["protocol"]
