"""Every few-shot head on a text encoder and on MOUSING: fit, test of the saved checkpoint, prediction by a support."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import mnerkit
from mnerkit.cli import main
from mnerkit.methods.predictor import Predictor
from mnerkit.runs.run_folder import RunFolder

FEW = ["--data.variant", "fewshot", "--data.limit", "70", "--data.episodes_per_epoch", "4"]
FEW += ["--data.dev_episodes", "4", "--data.eval_episodes", "5", "--trainer.max_epochs", "1"]
FEW += ["--trainer.enable_progress_bar", "false"]
TYPES = ["--data.train_types", "PER+LOC+ORG+MISC", "--data.test_types", "VEH+ANI+FOOD+MUS"]


def fit(runs: Path, plugin: str, *argv: str) -> RunFolder:
    assert main(["fit", "--plugin", plugin, "--name", "few", "--runs_dir", str(runs), "--test", *FEW, *argv]) == 0
    return RunFolder(runs / plugin / "probe-fewshot" / "few")


@pytest.mark.parametrize("plugin", ["bert", "mousing"])
@pytest.mark.parametrize(
    "head",
    [
        ["prototype"],
        ["nearest"],
        ["struct"],
        ["finetune", "--model.head.steps", "3"],
        ["finetune", "--model.head.steps", "2", "--model.head.scope", "all", "--model.head.layer", "crf"],
    ],
    ids=lambda value: " ".join(value[::4]),
)
def test_a_head_trains_and_its_checkpoint_says_the_same_and_predicts(
    plugin: str, head: list[str], tmp_path: Path
) -> None:
    run = fit(tmp_path, plugin, "--model.head", *head, *TYPES)
    metrics = run.metrics()
    assert metrics["protocol"]["episodic"] and metrics["protocol"]["test_types"] == ["VEH", "ANI", "FOOD", "MUS"]
    said = (run.path / "predictions.test.jsonl").read_bytes()
    rows = [json.loads(line) for line in said.decode().strip().split("\n")]
    assert len(rows) == 5 and all(set(row["types"]) <= {"VEH", "ANI", "FOOD", "MUS"} for row in rows)
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    assert (run.path / "predictions.test.jsonl").read_bytes() == said
    assert run.metrics()["test"] == metrics["test"]
    # the dev score of the finished run is the one that chose the checkpoint, power and all
    curve = (run.path / "curve" / "metrics.csv").read_text().strip().split("\n")
    place = curve[0].split(",").index("dev/f1")
    logged = [row.split(",")[place] for row in curve[1:] if row.split(",")[place]]
    assert float(logged[-1]) == pytest.approx(metrics["dev"]["f1"], abs=1e-4)

    posts, support = [{"id": "a", "words": ["met", "Kori"]}], tmp_path / "support.jsonl"
    (tmp_path / "posts.jsonl").write_text(json.dumps(posts[0]))
    support.write_text('{"id": "s", "words": ["eat", "Zuko", "now"], "tags": ["O", "B-FOOD", "O"]}\n')
    out = tmp_path / "out.jsonl"
    predict = ["predict", "--ckpt_path", str(run.best), "--input", str(tmp_path / "posts.jsonl"), "--output", str(out)]
    assert main(predict) == 0
    assert mnerkit.load(str(run.best)).predict(posts) == [json.loads(out.read_text())]
    assert main([*predict, "--support", str(support), "--overwrite"]) == 0
    assert {span["type"] for span in json.loads(out.read_text())["entities"]} <= {"FOOD"}


@pytest.mark.parametrize(("option", "out_of_play"), [("out_of_play", "O"), ("train_out_of_play", "ignore")])
def test_words_out_of_play_count_in_the_checkpoints_support_as_they_did_in_training(
    option: str, out_of_play: str, tmp_path: Path
) -> None:
    options = ["--model.head", "prototype", f"--data.{option}", out_of_play, "--data.k_shot", "12", *TYPES]
    run = fit(tmp_path, "bert", *options)
    loaded = mnerkit.load(str(run.best))
    batch = loaded.collator.episode(loaded.support, [], loaded.types)
    assert len(loaded.types) == 2 and len(batch) == 12 and batch.tags is not None
    others = torch.zeros_like(batch.text.word_mask)
    for row, post in enumerate(loaded.support):
        for place, tag in enumerate(post.tags or ()):
            others[row, place] = tag != "O" and tag[2:] not in loaded.types
    assert others.any() and not batch.tags[others].any()  # the posts tell of other types, and their tag is O
    if out_of_play == "ignore":
        assert batch.play_mask is not None and torch.equal(batch.play_mask, batch.text.word_mask & ~others)
    else:
        assert batch.play_mask is None
    # a support of the user's has its own types in play
    given = Predictor.from_checkpoint(run.best, support=loaded.support)
    assert set(given.types) > set(loaded.types)


def test_struct_keeps_its_counts_and_power_in_the_checkpoint(tmp_path: Path) -> None:
    run = fit(tmp_path, "bert", "--model.head", "struct", *TYPES)
    state = torch.load(run.best, weights_only=True)["state_dict"]
    assert state["head.counts"].sum() > 100 and state["head.chosen"].dtype == torch.long
    tagger = mnerkit.load(str(run.best)).method
    assert torch.equal(tagger.head.counts, state["head.counts"])  # type: ignore[arg-type]


def test_a_head_that_reads_a_support_gets_episodes_without_being_asked(tmp_path: Path) -> None:
    run = fit(tmp_path, "bert", "--model.head", "nearest")
    protocol = run.metrics()["protocol"]
    assert protocol["episodic"] and protocol["train_mode"] == "plain"
    half = len(protocol["types"]) // 2
    assert protocol["train_types"] == protocol["types"][:half]
    # its own softmax knows the training types alone
    state = torch.load(run.best, weights_only=True)["state_dict"]
    assert len(state["head.source.linear.bias"]) == 1 + 2 * half


def test_one_training_type_is_enough_for_a_head_with_its_own_softmax(tmp_path: Path) -> None:
    types = ["--data.train_types", "PER", "--data.test_types", "VEH+ANI", "--data.dev_types", "LOC+ORG"]
    run = fit(tmp_path, "bert", "--model.head", "nearest", *types)
    assert run.metrics()["test"]["episodes"] == 5
    assert mnerkit.load(str(run.best)).types == ("PER",)


def test_train_types_are_refused_for_a_head_without_a_support(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", "--plugin", "bert", "--runs_dir", str(tmp_path), "--model.head", "softmax", *FEW, *TYPES]
    assert main(argv) == 2
    assert "nearest, struct or finetune" in capsys.readouterr().err


def test_tuning_switches_inference_mode_off(tmp_path: Path) -> None:
    from mnerkit.runs.build import Assembly
    from mnerkit.runs.config.configuration import filled

    config = {"plugin": "bert", "seed": 0, "model": {"head": {"name": "finetune"}}, "data": {"corpus": "probe"}}
    assert Assembly.of(filled(config)).trainer.predict_loop.inference_mode is False
    config["model"] = {"head": {"name": "nearest"}}
    assert Assembly.of(filled(config)).trainer.predict_loop.inference_mode is True


def test_prototypes_of_frozen_states_need_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(tmp_path, "bert", "--model.head", "prototype", "--model.freeze", "true", *TYPES)
    metrics = run.metrics()
    assert metrics["parameters"] == 0 and metrics["epochs"] == 0
    assert "nothing of this model is trained" in capsys.readouterr().out
    said = (run.path / "predictions.test.jsonl").read_bytes()
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    assert (run.path / "predictions.test.jsonl").read_bytes() == said


def test_a_k_that_no_type_can_give_is_refused_before_towers_are_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "cache"))
    argv = ["fit", "--plugin", "mousing", "--runs_dir", str(tmp_path / "runs"), *FEW, *TYPES]
    assert main([*argv, "--data.k_shot", "1000", "--data.support", "per_type"]) == 1
    said = capsys.readouterr()
    assert "occurs in" in said.err and "1000" in said.err and "training the tiny towers" not in said.out
    assert not (tmp_path / "cache").exists()


def test_an_episode_file_is_refused_for_a_head_without_a_support(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", "--plugin", "bert", "--runs_dir", str(tmp_path), "--model.head", "crf", *FEW]
    (tmp_path / "episodes.jsonl").write_text("{}\n")
    assert main([*argv, "--data.episode_file", str(tmp_path / "episodes.jsonl")]) == 2
    assert "--data.episode_file makes" in capsys.readouterr().err


def test_trained_tiny_towers_lie_where_the_option_says_and_without_a_cache_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MNERKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.chdir(tmp_path)
    without = fit(tmp_path / "runs", "mousing", *TYPES, "--data.cache", "none")
    assert [each.name for each in tmp_path.iterdir()] == ["runs"]
    assert "(cached for the next run)" not in capsys.readouterr().out
    named = fit(tmp_path / "runs2", "mousing", *TYPES, "--data.cache", str(tmp_path / "own"))
    assert {each.name for each in tmp_path.iterdir()} == {"runs", "runs2", "own"}
    capsys.readouterr()
    assert main(["cache", "info", "--json", "--folder", str(tmp_path / "own")]) == 0
    assert "tower" in {each["kind"] for each in json.loads(capsys.readouterr().out)["kept"]}
    said = [(run.path / "predictions.test.jsonl").read_bytes() for run in (without, named)]
    assert said[0] == said[1]


def test_a_cache_that_takes_nothing_costs_a_warning_and_no_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from mnerkit.methods import warm_start

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(warm_start, "write_bytes", full)
    run = fit(tmp_path, "mousing", *TYPES)
    assert run.finished and "No space left" in caplog.text


def test_training_posts_that_drop_sentence_leaves_without_an_entity_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    posts = [["B-PER", "B-LOC"], ["O", "O"], ["B-PER", "B-ORG"], ["B-ORG", "B-LOC"]]
    for split in ("train", "valid", "test"):
        rows = [
            {"id": f"{split}{number}", "words": [f"{split}{number}", "b"], "tags": tags}
            for number, tags in enumerate(posts)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["fit", "--plugin", "bert", "--model.head", "nearest", "--runs_dir", str(tmp_path / "runs")]
    argv += ["--data.corpus", str(tmp_path), "--data.train_types", "PER", "--data.out_of_play", "drop_sentence"]
    assert main(argv) == 1
    assert "the 1 training posts" in (said := capsys.readouterr().err) and "hold no entity of the types PER" in said
