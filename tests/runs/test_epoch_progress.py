"""Progress of training and scoring: lines in a file, a bar in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mnerkit.cli import main

FIT = ["fit", "--plugin", "bilstm", "--name", "a", "--data.limit", "60", "--trainer.max_epochs", "2"]


def test_an_epoch_and_a_pass_of_scoring_are_a_line_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "--runs_dir", str(tmp_path), "--test"]) == 0
    lines = [re.sub(r"[\d.]+ s$", "T s", line) for line in capsys.readouterr().err.splitlines()]
    lines = [re.sub(r"loss [\d.e-]+, dev/f1 [\d.]+( \(best so far\))?", "SCORES", line) for line in lines]
    assert lines == ["epoch 1 of 2: SCORES, T s", "epoch 2 of 2: SCORES, T s", "scoring dev", "scoring test"]
    assert main([*FIT, "--runs_dir", str(tmp_path / "quiet"), "--trainer.enable_progress_bar", "false"]) == 0
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_that_counts_epochs_from_one(tmp_path: Path) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "mnerkit", *FIT, "--runs_dir", str(tmp_path)]
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))  # rows and columns
    # output is read at once: a terminal holds back what nobody reads
    with subprocess.Popen(command, stdout=child, stderr=child) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                shown += os.read(parent, 1 << 16)
            except OSError:  # the other end is closed
                break
        assert process.wait(120) == 0
    os.close(parent)
    for name in (b"epoch 1 of 2: ", b"epoch 2 of 2: ", b"scoring dev: "):
        assert name in shown
    assert b"v_num" not in shown and b"best so far" not in shown
