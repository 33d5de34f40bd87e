"""More devices than there are end in a line, before a process is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mnerkit.cli import main


def fit(runs: Path, *options: str) -> int:
    return main(["fit", "--plugin", "bert", "--runs_dir", str(runs), "--name", "r", "--data.limit", "40", *options])


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_more_processes_than_cores_are_refused_with_the_number_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    options = ["--trainer.accelerator", "cpu", "--trainer.devices", "99", "--trainer.strategy", strategy]
    assert fit(tmp_path, *options) == 2
    line = capsys.readouterr().err
    assert line == "mnerkit: --trainer.devices 99: this process may use 3 CPU cores; give at most 3\n"
    assert not (tmp_path / "bert" / "probe" / "r").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_where_there_is_none_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--trainer.accelerator", "gpu", "--trainer.devices", "2") == 2
    line = capsys.readouterr().err
    assert line.startswith("mnerkit: --trainer") and line.count("\n") == 1
    assert not (tmp_path / "bert" / "probe" / "r").exists()
