"""Methods of several images train in two processes where one of them has a batch without images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from mnerkit.data.probe import generate


def write_corpus(folder: Path) -> None:
    """Twelve posts a split, the pictures of every second one without a file, and rankings of the training posts."""
    folder.mkdir()
    rankings = []
    for split in ("train", "dev", "test"):
        lines = []
        for number, post in enumerate(generate("multi", split, 12)):
            names = [image.name for image in post.images]
            for image in post.images if number % 2 == 0 else ():
                assert image.pixels is not None
                Image.fromarray(image.pixels).save(folder / image.name)
            lines.append({"id": post.id, "text": post.words, "label": post.tags, "images": names})
            if split == "train":
                rankings.append({"id": post.id, "order": list(range(len(names))), "blank_pos": 1 if names else 0})
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    (folder / "rankings.json").write_text("".join(f"{json.dumps(each)}\n" for each in rankings))


@pytest.mark.parametrize("plugin", ["relevance", "gifr", "tpm_mi"])
def test_two_ranks_train_where_one_has_no_images(
    plugin: str, tmp_path: Path, two_ranks: Callable[[Sequence[str]], None]
) -> None:
    folder = tmp_path / "corpus"
    write_corpus(folder)
    own = {
        "relevance": ["--model.preference", "file", "--model.rankings", str(folder / "rankings.json")],
        "gifr": ["--model.relevance", "ones", "--data.train_on", "all_train"],
        "tpm_mi": [],
    }[plugin]
    own += ["--model.freeze", "false"] if plugin == "relevance" else ["--model.freeze_vision", "false"]
    if plugin == "relevance":
        own += ["--data.train_on", "all_train"]
    command = ["fit", "--plugin", plugin, "--runs_dir", str(tmp_path / "runs")]
    command += ["--data.corpus", str(folder), "--data.batch_size", "1", "--data.cache", "none", *own]
    command += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    two_ranks([*command, "--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"])


def test_ranks_learn_from_the_same_rankings_where_each_would_compute_others(tmp_path: Path) -> None:
    script = Path(__file__).with_name("ranked_fit.py")
    options = ["--data.limit", "24", "--data.cache", "none", "--model.freeze", "false", "--model.preference", "utility"]
    options += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    options += ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, str(script), str(tmp_path), "--runs_dir", str(tmp_path / "runs"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and len(first["worths"]) > 2 and first["margin"] == 0.25
    assert (tmp_path / "computed").read_text().split() == ["0"]
