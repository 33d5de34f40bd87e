"""The main path: fit, test, predict, load, and what a run folder holds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mnerkit
from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder

SMALL = ["--data.limit", "150", "--data.batch_size", "8", "--model.lr", "5e-3", "--trainer.max_epochs", "4"]
SMALL += ["--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    runs = tmp_path_factory.mktemp("runs")
    assert main(["fit", "--plugin", "bert", "--name", "first", "--runs_dir", str(runs), "--test", *SMALL]) == 0
    return RunFolder(runs / "bert" / "probe" / "first")


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    copy = tmp_path / "runs" / "bert" / "probe" / "first"
    shutil.copytree(finished.path, copy)
    return RunFolder(copy)


def again(run: RunFolder, *argv: str) -> int:
    return main(["fit", "--plugin", "bert", "--name", "first", "--runs_dir", str(run.path.parents[2]), *SMALL, *argv])


def test_a_run_folder_holds_all_that_a_figure_depends_on(finished: RunFolder) -> None:
    metrics = finished.metrics()
    assert metrics["protocol"]["corpus"] == "probe" and metrics["protocol"]["digest"]
    assert metrics["seed"] == 0 and metrics["epochs"] == 4
    assert 0 < metrics["dev"]["f1"] <= 100 and 0 < metrics["test"]["f1"] <= 100
    environment = json.loads((finished.path / "env.json").read_text())
    assert torch.__version__.startswith(environment["packages"]["torch"].partition("+")[0])
    for split, posts in (("dev", 150), ("test", 150)):
        lines = (finished.path / f"predictions.{split}.jsonl").read_text().strip().split("\n")
        assert len(lines) == posts
    assert finished.best.is_file() and not finished.last.exists()


def test_a_method_that_sees_no_picture_is_scored_on_clear_and_ambiguous_entities_too(finished: RunFolder) -> None:
    metrics = finished.metrics()
    for split in ("dev", "test"):
        unseen = metrics[f"{split}:image_use"]["unseen"]
        assert unseen["all"] == pytest.approx(metrics[split]["f1"])
        assert {"clear", "ambiguous"} < set(unseen)


def test_the_same_command_says_that_the_run_is_finished(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = run.metrics_file.read_bytes()
    assert again(run) == 0
    assert "already finished" in capsys.readouterr().out
    assert run.metrics_file.read_bytes() == before


def test_a_name_that_is_taken_by_another_configuration_is_refused(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.best.read_bytes()
    assert again(run, "--model.lr", "0.5") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run.best.read_bytes() == before


def test_overwrite_trains_again_to_the_same_figures(run: RunFolder) -> None:
    before = run.metrics()
    assert again(run, "--overwrite", "--test") == 0
    after = run.metrics()
    for key in ("dev", "test", "best_epoch"):
        assert after[key] == before[key]


def test_a_checkpoint_scores_as_the_run_did_and_looks_are_counted(run: RunFolder) -> None:
    before = run.metrics()
    said = (run.path / "predictions.test.jsonl").read_bytes()
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    after = run.metrics()
    assert after["test"] == before["test"]
    assert (run.path / "predictions.test.jsonl").read_bytes() == said
    assert after["looks_at_test"] == before["looks_at_test"] + 1
    assert main(["validate", "--ckpt_path", str(run.best)]) == 0
    assert run.metrics()["dev"] == before["dev"]


def test_a_checkpoint_predicts_from_a_file_and_from_python(run: RunFolder, tmp_path: Path) -> None:
    posts = [{"id": "a", "text": "Flying to Zanu Brako tomorrow!"}, {"id": "b", "words": ["met", "Kori", "backstage"]}]
    source, target = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps(post) for post in posts))
    argv = ["predict", "--ckpt_path", str(run.best), "--input", str(source), "--output", str(target)]
    assert main(argv) == 0
    rows = [json.loads(line) for line in target.read_text().strip().split("\n")]
    assert [row["id"] for row in rows] == ["a", "b"]
    for row, post in zip(rows, posts, strict=True):
        text = post.get("text") or " ".join(post["words"])
        for span in row["entities"]:
            assert text[span["char_start"] : span["char_end"]] == span["text"]
            assert row["words"][span["start"] : span["end"]]
    assert mnerkit.load(str(run.best)).predict(posts) == rows
    assert main(argv) == 2, "an output that is there is not overwritten unasked"
    assert main([*argv, "--overwrite"]) == 0


def test_a_checkpoint_of_another_plugin_is_refused(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", str(run.best), "--plugin", "bilstm"]) == 2
    assert "written by plugin 'bert'" in capsys.readouterr().err


class _Payload:
    def __reduce__(self) -> tuple:
        return (print, ("payload ran",))


@pytest.mark.parametrize("damage", ["pickle", "truncated", "foreign", "tensor missing"])
def test_a_hostile_or_damaged_checkpoint_is_refused(
    damage: str, run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.ckpt"
    if damage == "pickle":
        torch.save({"mnerkit": _Payload()}, bad)
    elif damage == "truncated":
        bad.write_bytes(run.best.read_bytes()[:5000])
    elif damage == "foreign":
        torch.save({"state_dict": {}}, bad)
    else:
        content = torch.load(run.best, weights_only=True)
        content["state_dict"].popitem()
        torch.save(content, bad)
    assert main(["test", "--ckpt_path", str(bad)]) == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err and "payload ran" not in shown.out
    assert len(shown.err.strip().split("\n")) <= 2


def test_a_type_unknown_to_the_checkpoint_is_refused(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", str(run.best), "--data.variant", "fewshot"]) == 1
    assert "does not know" in capsys.readouterr().err


def test_runs_are_listed_with_their_scores(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(run.path.parents[2]), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["plugin"] == "bert" and row["state"] == "finished"
    assert row["test"] == run.metrics()["test"]["f1"]


def test_a_few_shot_checkpoint_predicts_untagged_posts_by_its_own_support_or_a_given_one(tmp_path: Path) -> None:
    few = ["--data.limit", "200", "--data.episodes_per_epoch", "4", "--data.dev_episodes", "3"]
    argv = ["fit", "--plugin", "mousing", "--name", "few", "--runs_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    assert main([*argv, *few, "--trainer.enable_progress_bar", "false"]) == 0
    ckpt = tmp_path / "mousing" / "probe-fewshot" / "few" / "best.ckpt"
    source, target, support = (tmp_path / name for name in ("posts.jsonl", "out.jsonl", "support.jsonl"))
    source.write_text('{"id": "a", "text": "met Kori backstage"}\n{"id": "b", "words": ["hello"]}\n')
    predict = ["predict", "--ckpt_path", str(ckpt), "--input", str(source), "--output", str(target)]
    assert main(predict) == 0
    rows = [json.loads(line) for line in target.read_text().strip().split("\n")]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert (
        mnerkit.load(str(ckpt)).predict([json.loads(line) for line in source.read_text().strip().split("\n")]) == rows
    )
    support.write_text('{"id": "s", "words": ["eat", "Zuko", "now"], "tags": ["O", "B-FOOD", "O"]}\n')
    assert main([*predict, "--support", str(support), "--overwrite"]) == 0
    found = [json.loads(line) for line in target.read_text().strip().split("\n")]
    assert {span["type"] for row in found for span in row["entities"]} <= {"FOOD"}


def test_scores_are_not_written_into_a_folder_that_another_process_writes(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = "import sys; from pathlib import Path; from mnerkit.runs.run_folder import RunFolder; "
    hold += "w = RunFolder(Path(sys.argv[1]))"
    hold += ".writing(); w.__enter__(); print('held', flush=True); sys.stdin.read()"
    before = run.metrics_file.read_bytes()
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout and other.stdout.readline() == "held\n"
    assert main(["test", "--ckpt_path", str(run.best)]) == 2
    assert f"is being written by process {other.pid}" in capsys.readouterr().err
    other.communicate()
    assert run.metrics_file.read_bytes() == before


def test_posts_of_training_are_not_tested_on_in_another_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def corpus(name: str, **splits: str) -> str:
        for split, ids in splits.items():
            file = tmp_path / name / f"{split}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(f"IMGID:{id_}\nParis\tB-LOC\nsees\tO\nAnn{id_}\tB-PER\n\n" for id_ in ids))
        return str(tmp_path / name)

    first = corpus("first", train="abcd", valid="ef", test="gh")
    overlapping, fresh = (
        corpus("other", train="ij", valid="kl", test="mbc"),
        corpus("fresh", train="ij", valid="kl", test="mno"),
    )
    fit = ["fit", "--plugin", "bert", "--data.corpus", first, "--name", "one", "--runs_dir", str(tmp_path / "runs")]
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--test"]) == 0
    folder = RunFolder(tmp_path / "runs" / "bert" / "first" / "one")
    before = folder.metrics_file.read_bytes()
    assert main(["test", "--ckpt_path", str(folder.best), "--data.corpus", overlapping]) == 1
    assert "trained with 2 of the test posts of other, the first is 'b'" in capsys.readouterr().err
    assert folder.metrics_file.read_bytes() == before
    assert main(["test", "--ckpt_path", str(folder.best), "--data.corpus", fresh]) == 0


def test_training_posts_without_entities_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, tag in (("train", "O"), ("valid", "B-PER"), ("test", "B-PER")):
        file = tmp_path / "flat" / f"{split}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"IMGID:{split}1\nAnn\t{tag}\nsings\tO\n\nIMGID:{split}2\nhello\tO\n\n")
    runs = tmp_path / "runs"
    assert main(["fit", "--plugin", "bert", "--data.corpus", str(tmp_path / "flat"), "--runs_dir", str(runs)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "2 training posts" in said and "no entity of the types PER: there is nothing to learn" in said
    assert not list(runs.rglob("config.yaml"))
