"""Two real runs through real processes: killed between them, gone on with, and written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mnerkit.runs.run_folder import RunFolder
from tests.reproduce.small import TABLE


def test_a_killed_sweep_of_two_runs_goes_on_to_a_whole_table(folder: Path, tmp_path: Path) -> None:
    """The first run is finished before the kill and not touched again, the second one is done after it."""
    text = TABLE.replace("BERT, plugin: bert, ablation: softmax}", "BERT, plugin: bilstm}")
    (folder / "paper" / "table1.yaml").write_text(text)
    out = tmp_path / "out"
    words = [sys.executable, "-m", "mnerkit", "reproduce", "paper/table1", "--experiments", str(folder)]
    words += ["--out", str(out), "--jobs", "1"]
    environment = {**os.environ, "MNERKIT_CACHE": str(tmp_path / "cache")}
    started = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.time() + 300
    while not (first := list(out.glob("runs/*/*/*/metrics.json"))) and time.time() < deadline:
        assert started.poll() is None
        time.sleep(0.02)
    started.kill()
    started.wait()
    assert len(first) == 1
    before = (first[0].stat().st_mtime_ns, first[0].read_bytes())
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 runs are complete, 1 are left" in ended.stdout
    assert "1/1 " in ended.stdout and "1/2 " not in ended.stdout
    assert (first[0].stat().st_mtime_ns, first[0].read_bytes()) == before
    table = json.loads((out / "paper" / "table1" / "table.json").read_text())
    assert [cell["state"] for cell in table["cells"]] == ["done"] * 12 + ["printed_only"] * 6
    for cell in table["cells"][:4]:
        (place,) = cell["runs"]
        run = RunFolder((out / "paper" / "table1" / place).resolve())
        assert run.path.name.isalnum() and run.metrics()["plugin"] == run.path.parts[-3]
        command = json.loads((run.path / "env.json").read_text())["command"]
        assert command[:2] == ["mnerkit", "fit"] and "--test" in command
    assert not list(out.rglob(".lock"))
