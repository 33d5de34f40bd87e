"""GIFR's two stages from the command line: rankings, R in a file, and a tagger that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.data.probe import generate
from mnerkit.errors import UsageError
from mnerkit.runs.reporting import summary
from mnerkit.runs.run_folder import RunFolder

SMALL = ["--data.limit", "40", "--data.dis_fraction", "0.5", "--data.cache", "none"]
QUICK = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
# towers that are trained from scratch: nothing is trained before
STAGE_1 = ["--plugin", "relevance", "--model.freeze", "false", *SMALL, *QUICK]
STAGE_2 = ["--plugin", "gifr", "--data.train_on", "d_model", "--model.freeze_vision", "false", *SMALL, *QUICK]


def fit(folder: Path, name: str, *argv: str) -> RunFolder:
    assert main(["fit", "--name", name, "--runs_dir", str(folder), *argv]) in (0, None)
    return next(RunFolder(path.parent) for path in folder.glob(f"*/*/{name}/metrics.json"))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return fit(tmp_path_factory.mktemp("runs"), "stage1", *STAGE_1, "--test")


def test_the_first_stage_reports_how_it_learnt_and_how_well_it_tells_images_apart(stage_1: RunFolder) -> None:
    metrics = stage_1.metrics()
    said = metrics["supervision"]
    assert said["preference"] == "oracle" and said["posts"] + said["held_out_posts"] <= 20
    assert metrics["protocol"]["train_on"] == "d_dis" and metrics["protocol"]["dis_fraction"] == 0.5
    assert set(metrics["selected_by"]) == {"held_out/pair_accuracy"}
    for split in ("dev", "test"):
        found = metrics[split]
        assert found["images"] == found["relevant/images"] + found["irrelevant/images"]
        assert (
            0 <= found["auc"] <= 1 and 0 <= found["pair_accuracy"] <= 100 and sum(found["histogram"]) == found["images"]
        )
    shown = summary({"plugin": "relevance", **metrics})
    assert "pairs in order" in shown and "F1" not in shown


def test_its_scores_are_what_the_second_stage_reads(stage_1: RunFolder, tmp_path: Path) -> None:
    file = stage_1.path / "relevance.jsonl"
    head, *scored = rows(file)
    assert head["supervision"]["preference"] == "oracle"
    assert (head["corpus"], head["variant"], head["release"]) == ("probe", "multi", "probe-multi version 1")
    assert head["digest"] == stage_1.metrics()["protocol"]["digest"]
    wanted = [post for split in ("train", "dev", "test") for post in generate("multi", split, 40)]
    assert sorted(each["id"] for each in scored) == sorted(post.id for post in wanted)
    images = {post.id: [image.name for image in post.images] for post in wanted}
    assert all(each["images"] == images[each["id"]] for each in scored)
    assert all(0 < score < 1 for each in scored for score in each["scores"])
    run = fit(tmp_path, "stage2", *STAGE_2, "--data.relevance", str(file))
    protocol = run.metrics()["protocol"]
    assert protocol["relevance"]["source"] == "relevance.jsonl" and protocol["train_posts"] == 20
    assert protocol["train_on"] == "d_model"


def test_a_saved_discriminator_scores_posts_of_a_file(stage_1: RunFolder, tmp_path: Path) -> None:
    from PIL import Image

    posts = [post for post in generate("multi", "dev", 10) if len(post.images) > 1][:3]
    lines = []
    for post in posts:
        for image in post.images[:-1]:  # the last one is missing
            Image.fromarray(image.pixels).save(tmp_path / image.name)
        lines.append({"id": post.id, "words": list(post.words), "images": [image.name for image in post.images]})
    (tmp_path / "posts.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    out = tmp_path / "scores.jsonl"
    argv = ["predict", "--ckpt_path", str(stage_1.best), "--input", str(tmp_path / "posts.jsonl"), "--output", str(out)]
    assert main(argv) in (0, None)
    known = {each["id"]: each for each in rows(stage_1.path / "relevance.jsonl")[1:]}
    for row, post in zip(rows(out), posts, strict=True):
        assert row["scores"][:-1] == pytest.approx(known[post.id]["scores"][:-1], abs=1e-4)
        assert row["scores"][-1] == 0 and row["raw"][-1] is None


@pytest.mark.parametrize("kind", ["matched", "utility", "clip"])
def test_supervision_that_needs_no_truth_trains(kind: str, tmp_path: Path) -> None:
    few = ["--model.utility_seeds", "2", "--model.utility_epochs", "1"] if kind == "utility" else []
    run = fit(tmp_path, kind, *STAGE_1, "--model.preference", kind, *few)
    said = run.metrics()["supervision"]
    assert said["preference"] == kind and said["pairs"] > 0
    assert ("against_truth" in said) == (kind != "matched")
    assert (said["margin"] > 0) == (kind == "utility")
    assert run.metrics()["dev"]["images"] > 40  # own images alone are scored


def test_a_method_without_a_head_takes_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"--model\.head"):
        configuration_of(["fit", "--plugin", "relevance", "--model.head", "softmax"])
    main(["fit", "--plugin", "relevance", "--help"])
    page = capsys.readouterr().out
    assert "--model.preference utility|matched|clip|file|oracle" in page and "--model.head" not in page
