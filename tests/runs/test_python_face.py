"""Runs from Python, as documentation shows them: the same folders, resume and refusals as the command's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mnerkit
from mnerkit.cli import main
from mnerkit.errors import DataError, RunBusy, UsageError
from mnerkit.runs.run_folder import RunFolder

QUIET = {"enable_progress_bar": False}
# towers that are trained along: none is trained before
GMF: dict[str, Any] = {
    "model": {"text": "tiny-bert", "freeze_vision": False, "head": {"name": "crf", "constrain_bio": True}},
    "data": {"corpus": "probe", "limit": 40},
    "trainer": {"max_epochs": 1, **QUIET},
}
BERT: dict[str, Any] = {
    "data": {"limit": 64, "batch_size": 8},
    "trainer": {"max_epochs": 3, **QUIET},
    "seed": 1,
    "name": "cut",
}


def test_a_run_is_trained_scored_and_asked_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    run = mnerkit.fit("gmf", **GMF, seed=0, test=True, runs_dir=tmp_path, report=lines.append)
    assert lines[0] == f"run {run.path}" == lines[-1]
    assert run.finished and run.path.parent == tmp_path / "gmf" / "probe"
    assert run.config["model"]["alpha"] == 0.7 and run.config["model"]["head"]["constrain_bio"] is True
    f1 = run.metrics["test"]["f1"]
    assert 0 <= f1 <= 100 and f"test F1 {f1:.2f}" in repr(run)
    assert run.metrics["looks_at_test"] == 1

    predicted = run.predictions("test")
    assert len(predicted) == 40 and {"id", "entities"} <= set(predicted[0])
    with pytest.raises(DataError, match=r"predictions\.train\.jsonl: No such file"):
        run.predictions("train")

    # again: the same run, without training
    before = run.folder.best.stat().st_mtime_ns
    lines.clear()
    again = mnerkit.fit("gmf", **GMF, seed=0, test=True, runs_dir=str(tmp_path), report=lines.append)
    assert again.path == run.path and again.metrics == run.metrics and run.folder.best.stat().st_mtime_ns == before
    assert lines[0].startswith(f"already finished: {run.path}")

    scores = mnerkit.score(run, "test", data={"pictures": "blank"}, report=lines.append)
    (key,) = (name for name in scores if name.startswith("test@probe-") and ":" not in name)
    assert mnerkit.load_run(run.path).metrics[key] == scores[key] and run.metrics["looks_at_test"] == 2
    assert run.metrics["test"]["f1"] == f1
    assert mnerkit.score(run.path, "test", report=lines.append)["test"]["f1"] == f1

    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    record = {"text": "Zara Bolt waves in Norwick", "images": ["a.png"]}
    (answer,) = mnerkit.load(run).predict([record], images=tmp_path)
    assert answer["words"] == ["Zara", "Bolt", "waves", "in", "Norwick"] and isinstance(answer["entities"], list)

    assert run.figure("tsne").parent.parent == run.path

    # the command finds the run that Python trained, and the other way round
    argv = ["fit", "--plugin", "gmf", "--runs_dir", str(tmp_path), "--data.limit", "40", "--data.corpus", "probe"]
    argv += ["--model.text", "tiny-bert", "--model.freeze_vision", "false", "--model.head.constrain_bio", "true"]
    argv += ["--model.head", "crf", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    monkeypatch.setattr("mnerkit.runs.fit._train", lambda *_: pytest.fail("it is trained again"))
    assert main(argv) == 0


SCRIPT = """
import sys, time
import mnerkit
from mnerkit.runs import fit
write_json = fit.write_json
def hold(path, content):
    if path.name == "metrics.json":
        time.sleep(600)
    write_json(path, content)
fit.write_json = hold
mnerkit.fit("bert", **{options!r}, runs_dir={runs!r})
"""


def test_a_call_that_was_killed_is_continued_by_the_same_call_to_the_same_result(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "cut" / "bert" / "probe" / "cut")
    script = SCRIPT.format(options=BERT, runs=str(tmp_path / "cut"))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 240
        while not folder.last.is_file():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(RunBusy) as busy:
            mnerkit.fit("bert", **BERT, runs_dir=tmp_path / "cut")
        assert busy.value.folder == folder.path
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert "not finished" in repr(mnerkit.load_run(folder.path))
    with pytest.raises(DataError, match="is not finished"):
        mnerkit.load_run(folder.path).metrics  # noqa: B018
    lines: list[str] = []
    run = mnerkit.fit("bert", **BERT, runs_dir=tmp_path / "cut", report=lines.append)
    assert lines[0] == f"continuing {run.path}" and run.path == folder.path
    whole = mnerkit.fit("bert", **BERT, runs_dir=tmp_path / "whole", report=lines.append)
    assert {**run.metrics, "seconds": None} == {**whole.metrics, "seconds": None}
    assert run.predictions("dev") == whole.predictions("dev")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"plugin": "gmff"}, "Did you mean 'gmf'?"),
        ({"model": {"alhpa": 1}}, "no option --model.alhpa. Did you mean '--model.alpha'?"),
        ({"model": {"alpha": 2}}, "--model.alpha 2.0: give at least 0 and at most 1"),
        ({"model": {"alpha": "much"}}, "--model.alpha much: give a number"),
        ({"model": {"head": "crff"}}, "no head 'crff'. Did you mean 'crf'?"),
        ({"trainer": {"callbacks": []}}, "--trainer.callbacks is managed by mnerkit"),
        ({"data": {"corpus": "probe", "variant": "hardest"}}, "hardest"),
        ({"seed": -1}, "--seed must lie between 0"),
        ({"ablation": "no_cas"}, "Did you mean 'no_csa'?"),
        ({"config": "twitter2017-gfm"}, "--config twitter2017-gfm: no such file"),
        ({"name": "../a"}, "must be a plain folder name"),
        ({"logger": "mlflow"}, "no logger 'mlflow'"),
    ],
)
def test_a_mistake_is_an_error_of_one_line_and_leaves_no_run(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        mnerkit.fit(**{"plugin": "gmf", "runs_dir": tmp_path, **given})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("config.yaml"))


def test_paths_and_names_of_packaged_settings_are_taken(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        mnerkit.fit(config="twitter2017-gmf", data={"root": tmp_path / "absent"}, runs_dir=tmp_path)
    assert str(tmp_path / "absent") in str(caught.value)


def test_there_is_no_run_where_none_was_begun(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run"):
        mnerkit.load_run(tmp_path)
    with pytest.raises(UsageError, match="no split 'train' to score: dev or test"):
        mnerkit.score(tmp_path, "train")
