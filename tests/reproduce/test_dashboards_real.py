"""Real runs that tell Weights & Biases of themselves, offline: what was recorded is what their folders hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnerkit.cli import main
from mnerkit.runs.run_folder import RunFolder, find
from tests.offline_records import Offline, offline
from tests.reproduce.small import laid_out

WORDS = ["reproduce", "--experiments", "experiments", "--jobs", "1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which four runs of a table and a sweep were done, W&B offline; this process stands in it."""
    place = tmp_path_factory.mktemp("swept")
    laid_out(place / "experiments")
    (place / "bin").mkdir()
    for name in ("mnerkit", "wandb"):
        command = place / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m {name} "$@"\n')
        command.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("MNERKIT_CACHE", str(place / "cache"))
        patch.chdir(place)
        words = ["paper", "--out", "out", "--logger", "wandb", "--wandb.project", "mner", "--wandb.tags", "first try"]
        assert main([*WORDS, *words]) == 0
        yield place


def recorded(run: RunFolder) -> Offline:
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    return offline(file)


def filled(run: RunFolder) -> dict[str, list[tuple[int, int]]]:
    """The cells that tables say are a run's, by experiment."""
    found: dict[str, list[tuple[int, int]]] = {}
    for path in sorted(Path("out").glob("*/*/table.json")):
        table = json.loads(path.read_text())
        for cell in table["cells"]:
            if any((path.parent / place).resolve() == run.path.resolve() for place in cell["runs"]):
                found.setdefault(table["experiment"], []).append((cell["row"], cell["column"]))
    return found


def noted(found: Offline) -> dict[str, list[tuple[int, int]]]:
    """The cells that a record names, by experiment."""
    cells = found.config["cells"]
    return {name: [(each["row"], each["column"]) for each in cells[name]["fills"]] for name in cells}


def numbers(content: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in content.items() if isinstance(value, int | float)}


def test_offline_records_say_what_the_run_folders_hold(swept: Path) -> None:
    runs = list(find(Path("out/runs")))
    assert len(runs) == 4
    experiments = []
    for run in runs:
        found, config, metrics, cells = recorded(run), run.config(), run.metrics(), filled(run)
        group = next(name for name in ("paper/sweep", "paper/table1") if name in cells)
        table = json.loads(Path(f"out/{group}/table.json").read_text())
        assert found.exit_code == 0
        assert found.run.project == "mner"
        assert found.run.run_group == group
        assert found.run.job_type == table["rows"][cells[group][0][0]]["name"]
        assert list(found.run.tags) == ["mini", config["plugin"], run.path.parent.name, *cells, "first try"]
        assert noted(found) == cells
        experiments.append(tuple(cells))
        if table["sweep"]:
            assert found.config["cells"][group]["point"] == table["sweep"]["values"][cells[group][0][1]]
        for key in ("plugin", "seed", "model", "data", "trainer"):
            assert found.config[key] == config[key], key
        for split in ("dev", "test"):
            assert numbers(metrics[split])
            for name, value in numbers(metrics[split]).items():
                assert found.summary[f"final/{split}/{name}"] == pytest.approx(value), (split, name)
        assert found.history["dev/f1"] == pytest.approx([metrics["selected_by"]["dev/f1"]])  # of the one epoch
    # the sweep's middle is the table's BERT-CRF
    both = ("paper/sweep", "paper/table1")
    assert sorted(experiments) == [("paper/sweep",), ("paper/sweep",), both, ("paper/table1",)]


def test_the_last_line_sends_all_records_and_nothing_is_done_again(swept: Path, capsys: Any) -> None:
    assert main([*WORDS, "--out", "out", "--logger", "wandb"]) == 0
    said = capsys.readouterr().out
    assert "4 runs are complete, 0 are left" in said
    assert len(list(Path("out").rglob("*.wandb"))) == 4
    count, _, command = said.strip().splitlines()[-1].partition(" offline records; to send them: ")
    assert count == "4"
    listed = subprocess.run(f"{command} --dry-run", shell=True, capture_output=True, text=True, check=True)
    assert "Would sync 4 run(s)" in listed.stdout + listed.stderr


def test_the_report_draws_what_the_runs_have_told(swept: Path) -> None:
    assert main([*WORDS, "--wandb-report", "report.json"]) == 0
    found = [recorded(run) for run in find(Path("out/runs"))]
    sections = json.loads(Path("report.json").read_text())["sections"]
    assert len(sections) == 2
    for section in sections:
        mine = [each for each in found if set(section["tags"]) <= set(each.run.tags)]
        assert len(mine) == {"a sweep": 3, "a table": 2}[section["title"]]
        for run in mine:
            for panel in section["panels"]:
                assert panel["y"] in (run.history if panel["kind"] == "lines" else run.summary)
                start, name, last = (panel.get("by") or panel["x"]).split(".")
                assert last in run.config[start][name]


def test_an_agent_fills_the_folder_that_reproduce_would(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The command is put together and started by W&B's own agent; only its server is not there."""
    from wandb.wandb_agent import Agent

    here = [*WORDS, "paper/table1", "--out", "agents"]
    assert main([*here, "--wandb-sweep", "sweeps"]) == 0
    content = yaml.safe_load(Path("sweeps/paper/table1.yaml").read_text())
    value = content["parameters"]["config"]["values"][0]
    # what W&B sets before and after: it goes with the test
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_DIR", str(swept))
    agent: Any = Agent(api=None, queue=None, sweep_id="s1")
    agent._sweep_command = content["command"]
    command = {"type": "run", "run_id": "abcd1234", "program": content["program"], "args": {"config": {"value": value}}}
    assert "exception" not in agent._process_command(command)
    agent._run_processes["abcd1234"].wait()
    assert agent._run_processes["abcd1234"].poll() == 0
    (run,) = find(Path("agents/runs"))
    found, asked = recorded(run), yaml.safe_load(Path(value).read_text())
    # the run that W&B's server has numbered, with the value that it chose
    assert (found.run.run_id, found.run.sweep_id, found.config["config"]) == ("abcd1234", "s1", value)
    assert (found.run.run_group, found.run.job_type) == ("paper/table1", asked["wandb"]["job_type"])
    # what the grid did is in a folder of the same name, and the same
    (other,) = Path("out/runs").glob(f"*/*/{run.path.name}")
    assert other.relative_to("out") == run.path.relative_to("agents")
    assert noted(found) == filled(RunFolder(other))
    metrics, others = run.metrics(), RunFolder(other).metrics()
    assert {key: metrics[key] for key in metrics if key != "seconds"} == {
        key: others[key] for key in others if key != "seconds"
    }
    capsys.readouterr()
    assert main([*here, "--dry-run"]) == 0
    assert "1 runs are complete, 1 are left" in capsys.readouterr().out
