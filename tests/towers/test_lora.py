"""LoRA: a pretrained tower stays as it is, and a checkpoint holds what was learnt beside it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mnerkit
from mnerkit.cli import main
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.methods import checkpoint
from mnerkit.runs.run_folder import RunFolder
from mnerkit.towers import text_tower, tower_from_state, tower_state, vision_tower, weight_digest
from mnerkit.towers.lora import adapt, original_weights, sentence

pytest.importorskip("peft", reason="needs the extra lora (peft)")
Folder = Callable[[str], str]
FACTS = CorpusFacts(())
ROWS = [["the", "cat", "cat"], ["a", "the"]]


def learnt(tower: Any) -> Any:
    """The tower, with additions that are not zero any more."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in tower.parameters():
            if weight.requires_grad:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return tower


def words(tower: Any) -> torch.Tensor:
    return tower.eval()(tower.reader.collate(ROWS)).words


@pytest.mark.parametrize("name", ["bert", "clip"])
def test_additions_begin_at_zero_and_are_all_that_is_trained(folder_of: Folder, name: str) -> None:
    tower = text_tower(folder_of(name), facts=FACTS, max_tokens=20)
    before, whole = words(tower), tower.state_dict()
    adapt(tower, 2)
    assert torch.equal(words(tower), before)
    # six maps in each of three layers: two of 32 x 48, four of 32 x 32; A and B have 2 rows
    trained = sum(weight.numel() for weight in tower.parameters() if weight.requires_grad)
    assert trained == 3 * 2 * (2 * (32 + 48) + 4 * (32 + 32))
    assert all(".lora_" in each for each, weight in tower.named_parameters() if weight.requires_grad)
    assert len(original_weights(tower)) == len(whole)
    assert f"LoRA of rank 2: {trained:,} parameters are trained" in sentence([tower])
    assert not torch.allclose(words(learnt(tower)), before, atol=1e-3)


def test_additions_that_are_merged_into_the_weights_compute_the_same(folder_of: Folder) -> None:
    from peft.tuners.lora import LoraLayer

    tower = text_tower(folder_of("bert"), facts=FACTS, max_tokens=20)
    adapt(tower, 2)
    before, merged = words(learnt(tower)), copy.deepcopy(tower)
    for part in merged.modules():
        if isinstance(part, LoraLayer):
            part.merge()
    torch.testing.assert_close(words(merged), before, rtol=1e-5, atol=1e-5)


def test_a_tower_is_rebuilt_from_its_folder_and_its_additions(folder_of: Folder, tmp_path: Path) -> None:
    for tower in (text_tower(folder_of("clip"), facts=FACTS, max_tokens=20), vision_tower(folder_of("clip"))):
        digest = weight_digest(tower)
        learnt_tower = tower
        adapt(learnt_tower, 3)
        learnt(learnt_tower)
        state = tower_state(learnt_tower)
        assert state["external"] and state["lora_rank"] == 3 and state["digest"] == digest
        torch.save(state, tmp_path / "x.pt")
        again = tower_from_state(torch.load(tmp_path / "x.pt", weights_only=True))
        own = {each: value for each, value in learnt_tower.state_dict().items() if ".lora_" in each}
        assert not again.load_state_dict(own, strict=False).unexpected_keys
        assert weight_digest(again) == weight_digest(learnt_tower) != digest


def fit(runs: Path, tower: str, *argv: str) -> int:
    command = ["fit", "--plugin", "bert", "--runs_dir", str(runs), "--name", "r", "--data.limit", "24", "--test"]
    command += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    return main([*command, "--model.text", tower, "--model.max_tokens", "24", *argv])


def test_a_run_with_lora_scores_and_predicts_the_same_from_its_checkpoint(
    folder_of: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = ["--model.tower_lr", "1e-2", "--model.lora_rank", "4"]
    assert fit(tmp_path, folder_of("bert"), *rates) == 0
    assert "LoRA of rank 4: 4,992 parameters are trained beside the 25,968 of" in capsys.readouterr().out
    run = RunFolder(tmp_path / "bert" / "probe" / "r")
    content = checkpoint.read(run.best)
    tower = [name for name in content["state_dict"] if name.startswith("encoder.tower.")]
    assert tower and all(".lora_" in name for name in tower)
    assert any(value.abs().max() > 0 for name, value in content["state_dict"].items() if ".lora_B." in name)
    assert run.metrics()["parameters"] == sum(
        value.numel() for name, value in content["state_dict"].items() if "buffer" not in name
    )
    first, predictions = run.metrics()["test"], (run.path / "predictions.test.jsonl").read_bytes()
    (run.path / "predictions.test.jsonl").unlink()
    assert main(["test", "--ckpt_path", str(run.best), "--trainer.enable_progress_bar", "false"]) == 0
    assert run.metrics()["test"] == first and (run.path / "predictions.test.jsonl").read_bytes() == predictions
    posts = [json.loads(line) for line in predictions.decode().splitlines()][:5]
    method = mnerkit.load(run.best)
    answers = method.predict([{"words": post["words"]} for post in posts])
    assert [len(answer["words"]) for answer in answers] == [len(post["words"]) for post in posts]


@pytest.mark.parametrize(
    ("tower", "options", "reason"),
    [
        ("tiny", [], "tower tiny is no transformer"),
        ("tiny-bert", [], "tower tiny-bert has no pretrained weights"),
        ("bert", ["--model.freeze", "true"], "no transformer is trained here"),
    ],
)
def test_lora_of_another_tower_is_refused_in_a_line(
    tower: str, options: list[str], reason: str, folder_of: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = folder_of(tower) if tower == "bert" else tower
    assert fit(tmp_path, spec, "--model.lora_rank", "4", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("mnerkit: --model.lora_rank 4: ") and reason in error and error.count("\n") == 1
    assert error.endswith("--model.lora_rank 0\n") and not list(tmp_path.rglob("config.yaml"))


def test_lora_of_a_cnn_is_refused_and_without_peft_the_way_to_it_is_named(
    folder_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(mnerkit.errors.UsageError, match="tower random:resnet18 is no transformer"):
        adapt(vision_tower("random:resnet18"), 4)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(mnerkit.errors.UsageError, match=r"needs peft \(.*\): pip install 'mnerkit\[lora\]'"):
        adapt(vision_tower(folder_of("vit")), 4)
