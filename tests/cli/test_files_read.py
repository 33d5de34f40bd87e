"""Files that a run reads beside its corpus: a run is of what they held when it began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main
from mnerkit.runs import RunFolder

SMALL = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--name", "a", "--runs_dir"]
NOT = "is not what it was when this run began; put it back, or give --overwrite or another --name\n"


def score_file(path: Path, score: float) -> None:
    path.write_text("".join(json.dumps({"id": f"{each}", "scores": [score]}) + "\n" for each in range(6)))


@pytest.fixture
def relevance(tmp_path: Path) -> Path:
    """Scores of the pictures of the six posts of `corpus`."""
    (tmp_path / "corpus").mkdir()
    for split, names in (("train", "0123"), ("dev", "4"), ("test", "5")):
        rows: list[dict[str, Any]] = [
            {"id": name, "text": ["Ann", "sings"], "label": ["B-PER", "O"], "images": [f"{name}.jpg"]} for name in names
        ]
        (tmp_path / "corpus" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "relevance.jsonl"
    score_file(path, 0.5)
    return path


def test_a_run_is_not_taken_for_one_with_other_scores_in_a_file_of_one_name(
    relevance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = relevance.parent / "runs"
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", str(relevance.parent / "corpus")]
    fit += ["--data.relevance", str(relevance), *SMALL, str(runs)]
    run = RunFolder(runs / "bilstm" / "corpus" / "a")
    assert main(fit) == 0
    assert main([*fit, "--test"]) == 0
    (note,) = json.loads((run.path / "env.json").read_text())["files"]
    assert (note["option"], note["file"]) == ("data.relevance", str(relevance))
    before = run.metrics()
    refused = f"mnerkit: {run.path}: {relevance} (--data.relevance) {NOT}"

    score_file(relevance, 0.9)
    capsys.readouterr()
    for more in ([], ["--test"]):  # finished
        assert main([*fit, *more]) == 2
        assert capsys.readouterr().err == refused

    # a score with it says so, and stands beside the run's own
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    after = run.metrics()
    (key,) = (each for each in after.keys() - before.keys() if each.endswith(":protocol"))
    key = key.removesuffix(":protocol")
    assert key.startswith("test@corpus-") and after["test"] == before["test"]
    said = f"mnerkit: {relevance} (--data.relevance) is not what it was when the run was trained; scores as {key}\n"
    assert said in capsys.readouterr().err
    assert main(["test", "--ckpt_path", str(run.best), "--data.relevance", "null"]) == 0
    assert "when the run was trained" not in capsys.readouterr().err  # another file was asked for

    run.metrics_file.unlink()  # not finished
    assert main(fit) == 2
    assert capsys.readouterr().err.endswith(refused)
    score_file(relevance, 0.5)
    assert main(fit) == 0
    assert {**run.metrics(), "seconds": 0} == {**{key: before[key] for key in run.metrics()}, "seconds": 0} | {
        "looks_at_test": 0
    }


def test_a_run_of_an_older_version_is_taken_as_it_is(relevance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = relevance.parent / "runs"
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", str(relevance.parent / "corpus")]
    fit += ["--data.relevance", str(relevance), *SMALL, str(runs)]
    run = RunFolder(runs / "bilstm" / "corpus" / "a")
    assert main(fit) == 0
    env = json.loads((run.path / "env.json").read_text())
    del env["files"]
    (run.path / "env.json").write_text(json.dumps(env))
    score_file(relevance, 0.9)
    assert main(fit) == 0 and "already finished" in capsys.readouterr().out
    run.metrics_file.unlink()
    assert main(fit) == 0
    score_file(relevance, 0.8)
    assert main(fit) == 2  # noted since it went on
    relevance.unlink()
    assert main(fit) == 0  # nothing else is there


def test_captions_that_no_option_names_are_noted_where_the_method_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twitter2015").mkdir()
    (tmp_path / "captions").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "twitter2015" / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\nsings\tO\n")
    captions = tmp_path / "captions" / "twitter2015.txt"
    captions.write_text("".join(f"{split}.jpg :a cat\n" for split in ("train", "valid", "test")))
    of_corpus = ["--data.corpus", "twitter2015", "--data.root", str(tmp_path), *SMALL, str(tmp_path / "runs")]
    for plugin in ("captions", "bilstm"):
        assert main(["fit", "--plugin", plugin, *of_corpus]) == 0
    captions.write_text(captions.read_text().replace("cat", "dog"))
    capsys.readouterr()
    assert main(["fit", "--plugin", "bilstm", *of_corpus]) == 0
    assert main(["fit", "--plugin", "captions", *of_corpus]) == 2
    assert capsys.readouterr().err.endswith(f"{captions} (--data.captions) {NOT}")
    run = RunFolder(tmp_path / "runs" / "captions" / "twitter2015" / "a")
    run.metrics_file.unlink()
    assert main(["fit", "--plugin", "captions", *of_corpus]) == 2
    assert capsys.readouterr().err.endswith(f"{captions} (--data.captions) {NOT}")
