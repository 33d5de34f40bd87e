"""A warning where a tiny tower, which is made for the probe corpus, meets other posts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnerkit.cli import main
from mnerkit.report.folders import read
from mnerkit.report.page.page import signature
from mnerkit.runs.tiny_towers import tiny_towers, warning


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "tweets"
    folder.mkdir()
    places = ("Rome", "Oslo", "Bonn", "Paris", "Bern", "Kiel", "Lima", "Quito", "Cairo", "Delhi", "Accra", "Minsk")
    for number, split in enumerate(("train", "dev", "test")):
        rows = [
            {"id": f"{split}{place}", "words": ["we", "love", place, "!"], "tags": ["O", "O", "B-LOC", "O"]}
            for place in places[4 * number : 4 * number + 4]
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_forgotten_text_tower_is_named_before_training_and_beside_every_score(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    argv = ["fit", "--plugin", "bert", "--data.corpus", str(corpus), "--runs_dir", str(runs), "--name", "one"]
    argv += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    places = [number for number, text in enumerate(lines) if "warning: --model.text tiny is a tiny tower" in text]
    score = next(number for number, text in enumerate(lines) if text.startswith("split"))
    assert len(places) == 2 and places[0] < score < places[1]
    folder = runs / "bert" / "tweets" / "one"
    for command in (argv, ["test", "--ckpt_path", str(folder)]):
        assert main(command) == 0
        assert capsys.readouterr().out.count("--model.text bert-base-cased") == 1
    assert main(["runs", str(runs)]) == 0
    assert "with tiny towers, made for the probe corpus, on other posts: one\n" in capsys.readouterr().out
    assert "--model.text tiny" in dict(signature(read(folder)))["remark"]


def test_both_towers_are_named_and_none_on_the_probe() -> None:
    model = {"text": "tiny-bert", "vision": "tiny-vit", "lr": 1}
    assert tiny_towers({"model": model, "data": {"corpus": "probe"}}) == {}
    assert warning({"model": model, "data": {"corpus": "probe"}}) == ""
    text = warning({"model": model, "data": {"corpus": "twitter2017"}})
    assert text.startswith("warning: --model.text tiny-bert and --model.vision tiny-vit are tiny towers")
    assert "\n" not in text and "--model.vision openai/clip" in text
    pretrained = {"text": "bert-base-cased", "vision": "captions"}
    assert warning({"model": pretrained, "data": {"corpus": "twitter2017"}}) == ""
