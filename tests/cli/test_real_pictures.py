"""Real tweets of which fifteen have their picture: methods with images train, test and predict by each policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder

METHODS = ("hvpnet", "gmf", "mgips_cl", "gei", "tpm_mi", "gifr", "relevance")
QUICK = ["--trainer.max_steps", "3", "--trainer.enable_progress_bar", "false", "--data.cache", "none"]
# nothing is trained before the method itself
OWN = {
    "mgips_cl": [],
    "gifr": ["--model.freeze_vision", "false", "--model.relevance", "ones"],
    "relevance": ["--model.freeze", "false", "--model.preference", "matched", "--data.train_on", "all_train"],
}


def fit(method: str, root: Path, runs: Path, *argv: str) -> int:
    where = ["--data.corpus", "twitter2017", "--data.root", str(root), "--name", "one", "--runs_dir", str(runs)]
    own = OWN.get(method, ["--model.freeze_vision", "false"])
    return main(["fit", "--plugin", method, *own, *where, *QUICK, *argv])


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_tests_and_predicts_with_the_pictures_that_are_there(
    method: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pictures = real_data / "twitter2017_images"
    names = sorted(path.name for path in pictures.iterdir())
    assert fit(method, real_data, tmp_path, "--data.missing_images", "skip", "--data.batch_size", "4", "--test") == 0
    run = RunFolder(next(tmp_path.glob("*/*/one")))
    metrics = run.metrics()
    counts = {"train": (10, 3373), "dev": (3, 723), "test": (2, 723)}
    for split, (kept, posts) in counts.items():
        assert any(f"{split}: {posts - kept} of {posts} posts are left out" in each for each in caplog.messages)
        if split != "train":
            lines = (run.path / f"predictions.{split}.jsonl").read_text(encoding="utf-8").splitlines()
            assert len(lines) == kept and split in metrics
    held_out = 2 if method == "relevance" else 0
    assert metrics["protocol"]["missing_images"] == "skip" and metrics["protocol"]["train_posts"] == 10 - held_out
    posts = [{"id": name, "words": ["Ann", "sings"], "images": [name]} for name in (*names[:2], "absent.jpg")]
    source, target = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(each) + "\n" for each in posts))
    argv = ["predict", "--ckpt_path", str(run.best), "--input", str(source), "--output", str(target)]
    capsys.readouterr()
    assert main([*argv, "--images", str(pictures)]) == 0
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [each["id"] for each in posts]
    assert "absent.jpg is missing" in capsys.readouterr().err


def test_missing_pictures_are_blank_and_counted_or_refused(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    few = ["--data.limit", "20"]  # one of them, a dev post, has its picture
    assert fit("hvpnet", real_data, tmp_path / "blank", *few) == 0
    said = [each for each in caplog.messages if "pictures are missing (--data.missing_images blank)" in each]
    assert [each.split(" ", 1)[1].split(" pictures")[0] for each in said] == ["train: 20 of 20", "dev: 19 of 20"]
    capsys.readouterr()
    assert fit("hvpnet", real_data, tmp_path / "error", *few, "--data.missing_images", "error") == 1
    complaint = capsys.readouterr().err.strip().splitlines()
    assert complaint[0].startswith("mnerkit: picture ") and "is missing" in complaint[0] and len(complaint) <= 2
