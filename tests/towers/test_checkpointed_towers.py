"""A run with a frozen tower from outside continues with the weights that it began with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder


def test_a_run_is_not_continued_with_other_weights_of_its_frozen_tower(
    folder_of: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import BertModel

    tower = tmp_path / "tower"
    shutil.copytree(folder_of("bert"), tower)
    fit = ["fit", "--plugin", "bert", "--model.text", str(tower), "--model.freeze", "true", "--data.limit", "20"]
    fit += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    fit += ["--name", "one", "--runs_dir", str(tmp_path), "--keep_last"]
    assert main(fit) == 0
    folder = RunFolder(tmp_path / "bert" / "probe" / "one")
    wanted = folder.metrics()["dev"]
    folder.metrics_file.unlink()  # as if it had been killed
    assert main(fit) == 0
    assert folder.metrics()["dev"] == wanted

    folder.metrics_file.unlink()
    model = BertModel.from_pretrained(tower)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save_pretrained(tower)
    capsys.readouterr()
    assert main(fit) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        f"mnerkit: tower {tower}: its weights have changed since this run began; restore the former weights,"
        " or start the run again with --overwrite"
    ]
    assert not folder.finished
