"""A run that is killed continues to the figures of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnerkit.runs import RunFolder

FIT = [
    "--plugin",
    "bert",
    "--data.limit",
    "200",
    "--data.batch_size",
    "8",
    "--model.lr",
    "5e-3",
    "--trainer.max_epochs",
    "4",
]
FIT += ["--trainer.enable_progress_bar", "false", "--model.head.dropout", "0.2"]


def command(runs: Path, name: str) -> list[str]:
    return [sys.executable, "-m", "mnerkit", "fit", *FIT, "--name", name, "--runs_dir", str(runs)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    runs = tmp_path_factory.mktemp("runs")
    subprocess.run(command(runs, "whole"), check=True, capture_output=True)
    return RunFolder(runs / "bert" / "probe" / "whole")


# `make bench-resume` asks for ten
@pytest.mark.parametrize("moment", range(int(os.environ.get("MNERKIT_KILLS", "2"))))
def test_a_killed_run_resumes_to_the_same_result(undisturbed: RunFolder, moment: int, tmp_path: Path) -> None:
    draw = random.Random(moment)
    folder = RunFolder(tmp_path / "bert" / "probe" / "cut")
    process = subprocess.Popen(command(tmp_path, "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.time() + 120
    # in the first run it dies somewhere after the first epoch, in the second one anywhere at all
    while not folder.last.is_file() and process.poll() is None and time.time() < until and moment == 0:
        time.sleep(0.02)
    time.sleep(draw.uniform(0.0, 1.5) if moment == 0 else draw.uniform(4.0, 14.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command(tmp_path, "cut"), check=True, capture_output=True)
    whole, cut = undisturbed.metrics(), folder.metrics()
    for key in ("dev", "epochs", "best_epoch"):
        assert cut[key] == whole[key]
    assert (folder.path / "predictions.dev.jsonl").read_bytes() == (
        undisturbed.path / "predictions.dev.jsonl"
    ).read_bytes()
