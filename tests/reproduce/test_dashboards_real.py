"""Real runs that tell Weights & Biases of themselves, offline: what was recorded is what their folders hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from mnerkit.cli import main
from mnerkit.runs import RunFolder, find
from tests.offline_records import Offline, offline


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, in a folder of its own, with the commands of this Python found first."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, module in (("mnerkit", "mnerkit"), ("wandb", "wandb")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def recorded(run: RunFolder) -> Offline:
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    return offline(file)


def filled(out: Path, run: RunFolder) -> dict[str, list[tuple[int, int]]]:
    """The cells that tables say are a run's, by experiment."""
    found: dict[str, list[tuple[int, int]]] = {}
    for path in sorted(out.glob("*/*/table.json")):
        table = json.loads(path.read_text())
        for cell in table["cells"]:
            if any((path.parent / place).resolve() == run.path.resolve() for place in cell["runs"]):
                found.setdefault(table["experiment"], []).append((cell["row"], cell["column"]))
    return found


def numbers(content: Any) -> dict[str, float]:
    return {key: value for key, value in content.items() if isinstance(value, int | float)}


def test_offline_records_say_what_the_run_folders_hold(
    folder: Path, tmp_path: Path, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "paper/*", "--experiments", str(folder), "--out", "out", "--jobs", "1"]
    assert main([*words, "--logger", "wandb", "--wandb.project", "mner", "--wandb.tags", "first try"]) == 0
    said = capsys.readouterr().out
    runs = list(find(Path("out/runs")))
    assert len(runs) == 4
    several = 0
    for run in runs:
        found, config, metrics = recorded(run), run.config(), run.metrics()
        cells = filled(Path("out"), run)
        experiment = next(name for name in ("paper/sweep", "paper/table1") if name in cells)
        table = json.loads(Path(f"out/{experiment}/table.json").read_text())
        assert found.exit_code == 0
        assert found.run.project == "mner"
        assert found.run.run_group == experiment
        assert found.run.job_type == table["rows"][cells[experiment][0][0]]["name"]
        assert list(found.run.tags) == ["mini", "bert", "probe-default", *cells, "first try"]
        noted = found.config["cells"]
        assert {name: [(each["row"], each["column"]) for each in noted[name]["fills"]] for name in noted} == cells
        if "paper/sweep" in cells:
            assert noted["paper/sweep"]["point"] == config["model"].get("dropout", 0.2)
        several += len(cells) > 1
        for key in ("plugin", "seed", "model", "data", "trainer"):
            assert found.config[key] == config[key], key
        for split in ("dev", "test"):
            for name, value in numbers(metrics[split]).items():
                assert found.summary[f"final/{split}/{name}"] == pytest.approx(value), (split, name)
        # each epoch's, too
        assert found.history["dev/f1"] == pytest.approx([metrics["selected_by"]["dev/f1"]])
    assert several == 1  # the sweep's middle is the table's BERT-CRF
    command = said.strip().splitlines()[-1].partition("to send them: ")[2]
    assert command.startswith("wandb sync out/runs/")
    listed = subprocess.run(
        f"{command} --dry-run", shell=True, capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert "Would sync 4 run(s)" in listed.stdout + listed.stderr
    assert main([*words, "--logger", "wandb"]) == 0
    assert "4 runs are complete, 0 are left" in capsys.readouterr().out
    assert len(list(Path("out").rglob("*.wandb"))) == 4


def test_an_agent_fills_the_folder_that_reproduce_would(
    folder: Path, tmp_path: Path, environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is put together and started by W&B's own agent; only its server is not there."""
    from wandb.wandb_agent import Agent

    words = ["reproduce", "paper/table1", "--experiments", str(folder), "--jobs", "1"]
    assert main([*words, "--out", "agents", "--wandb-sweep", "sweeps"]) == 0
    content = yaml.safe_load(Path("sweeps/paper/table1.yaml").read_text())
    for name in ("WANDB_SWEEP_ID", "WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "s1")  # the agent sets them: they go with the test
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    agent: Any = Agent(api=None, queue=None, sweep_id="s1")
    agent._sweep_command = content["command"]
    (value, other) = content["parameters"]["config"]["values"]
    answer = agent._process_command(
        {"type": "run", "run_id": "abcd1234", "program": content["program"], "args": {"config": {"value": value}}}
    )
    assert "exception" not in answer
    agent._run_processes["abcd1234"].wait()
    assert agent._run_processes["abcd1234"].poll() == 0
    (run,) = find(Path("agents/runs"))
    assert run.path.name == yaml.safe_load(Path(value).read_text())["name"]
    found = recorded(run)
    # the run that W&B's server has given a number, with the value that it chose
    assert (found.run.run_id, found.run.sweep_id, found.config["config"]) == ("abcd1234", "s1", value)
    assert (found.run.run_group, found.run.job_type) == (
        "paper/table1",
        yaml.safe_load(Path(value).read_text())["wandb"]["job_type"],
    )
    assert {(each["row"], each["column"]) for each in found.config["cells"]["paper/table1"]["fills"]}
    # the grid takes it for its own, and does the other one; done by the grid alone it is the same
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.delenv(name)
    capsys.readouterr()
    assert main([*words, "--out", "agents"]) == 0
    assert "1 runs are complete, 1 are left" in capsys.readouterr().out
    assert {each.path.name for each in find(Path("agents/runs"))} == {
        yaml.safe_load(Path(each).read_text())["name"] for each in (value, other)
    }
    shutil.copytree(run.path, tmp_path / "agent's")
    assert main([*words, "--out", "agents", "--overwrite"]) == 0
    again, before = run.metrics(), RunFolder(tmp_path / "agent's").metrics()
    assert {key: again[key] for key in ("dev", "test", "selected_by")} == {
        key: before[key] for key in ("dev", "test", "selected_by")
    }
    wandb.teardown()
