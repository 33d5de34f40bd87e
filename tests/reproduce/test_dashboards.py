"""What runs are told to tell Weights & Biases; sweep files and the report's definition. Nothing is trained here."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from mnerkit.cli import main, reproduce
from mnerkit.cli import reproduce_wandb as board
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.errors import DataError
from mnerkit.options import declared
from mnerkit.plain_yaml import yaml_text
from mnerkit.reproduce import wandb_files, wandb_report
from mnerkit.reproduce.executors import tasks
from mnerkit.reproduce.executors.tasks import Task
from mnerkit.reproduce.wandb_files import labels
from mnerkit.runs.config.options import WandbOptions
from mnerkit.runs.run_folder import deciding
from tests.offline_records import offline
from tests.reproduce.small import EXPERIMENTS, MINI, Pretend, built

FOLDER = "dashboards"
OFFLINE = ("--logger", "wandb", "--wandb.mode", "offline")


@pytest.fixture
def go(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mnerkit reproduce` with an executor that trains nothing; returns the exit code, and what was done."""

    def run(*words: str) -> tuple[int, list[str]]:
        executor = Pretend()
        monkeypatch.setattr(reproduce, "_executor", lambda *_: executor)
        return main(["reproduce", "--experiments", str(folder), "--out", str(tmp_path / "out"), *words]), executor.done

    return run


def test_every_run_names_its_place_and_all_cells_that_it_fills(go: Any, tmp_path: Path) -> None:
    assert go("--seeds", "0", "1")[0] == 0
    assert go("paper/sweep", "--seeds", "0", "1", *OFFLINE, "--wandb.project", "mner", "--wandb.tags", "x")[0] == 0
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "out" / FOLDER).glob("*.yaml")}
    assert len(files) == 6  # of the sweep alone: softmax is none of its runs
    filled: dict[str, dict[str, Any]] = {}
    for name in ("paper/sweep", "paper/table1"):
        table = json.loads((tmp_path / "out" / name / "table.json").read_text())
        for cell in table["cells"]:
            row, column = table["rows"][cell["row"]]["name"], table["columns"][cell["column"]]["name"]
            for digest in (Path(place).name for place in cell["runs"]):
                here = filled.setdefault(digest, {}).setdefault(name, {"variant": row, "fills": []})
                if table["sweep"]:
                    here["point"] = table["sweep"]["values"][cell["column"]]
                here["fills"].append({"row": cell["row"], "column": cell["column"], "name": f"{row}: {column}"})
    for digest, content in files.items():
        told = content["wandb"]
        assert content["logger"] == "wandb"
        assert told["cells"] == filled[digest]
        assert (told["group"], told["job_type"]) == ("paper/sweep", "BERT-CRF, T15")
        assert told["tags"] == ["mini", "bert", "probe-default", *filled[digest], "x"]
        assert (told["project"], told["mode"]) == ("mner", "offline")
    assert any("paper/table1" in content["wandb"]["cells"] for content in files.values())
    assert any("paper/table1" not in content["wandb"]["cells"] for content in files.values())


def test_telling_changes_no_digest_and_repeats_no_run(go: Any, tmp_path: Path, capsys: Any) -> None:
    first = go("paper/table1")[1]
    assert len(first) == 2
    assert go("paper/table1", *OFFLINE)[1] == []
    assert len(go(*OFFLINE)[1]) == 2  # those that only the sweep needs
    assert go()[1] == []
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    assert go("--commands", "--seeds", "7", *OFFLINE) == (0, [])
    assert sorted(tmp_path.rglob("*")) == before
    assert f"--config {tmp_path}/out/{FOLDER}/" in capsys.readouterr().out


def test_a_run_that_others_read_from_is_in_their_group(folder: Path, tmp_path: Path) -> None:
    first = "bilstm: {}\n  gifr: {first: {plugin: relevance, file: relevance.jsonl, option: data.relevance}}"
    (folder / "profiles" / "mini.yaml").write_text(MINI.replace("bilstm: {}", first))
    path = folder / "paper" / "table1.yaml"
    path.write_text(path.read_text().replace("plugin: bert}", "plugin: gifr}"))
    out = tmp_path / "out"
    made = built(folder, "paper/table1", out=out)
    sections = labels(made, ["paper/table1"], {})
    found = {made.runs[digest].plugin: section["wandb"] for digest, section in sections.items()}
    assert (found["relevance"]["group"], found["relevance"]["job_type"]) == ("paper/table1", "relevance")
    assert (found["relevance"]["cells"], found["gifr"]["job_type"]) == ({}, "BERT-CRF")
    assert found["relevance"]["tags"] == ["mini", "relevance", "probe-default", "paper/table1"]
    # in its sweep it comes first, and the head of the file says so
    (sweep,) = wandb_files.write_sweeps(tmp_path / "sw", made, {})
    values = yaml.safe_load(sweep.read_text())["parameters"]["config"]["values"]
    plugins = [yaml.safe_load(Path(value).read_text())["plugin"] for value in values]
    assert plugins == ["relevance", "bert", "gifr"]
    assert "begin with `wandb agent --count 1`, alone" in sweep.read_text().partition("name:")[0]
    gifr = yaml.safe_load(Path(values[plugins.index("gifr")]).read_text())
    relevance = yaml.safe_load(Path(values[plugins.index("relevance")]).read_text())
    place = out / "runs" / "relevance" / "probe-default" / relevance["name"] / "relevance.jsonl"
    assert gifr["data"]["relevance"] == str(place)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wandb.project", "x"], "--wandb.project has no effect without --logger wandb"),
        (["--wandb-sweep", "d", "--dry-run"], "run nothing: they do not go with --dry-run"),
        (["--wandb-report", "f", "--logger", "wandb"], "run nothing: they do not go with --logger wandb"),
        (["--logger", "wanbd"], "invalid choice: 'wanbd'"),
        (["--logger", "wandb"], "this machine knows no W&B key"),
        (["--wandb-swep", "d"], "Did you mean '--wandb-sweep'"),
    ],
)
def test_a_wrong_option_is_said_clearly(
    go: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(board, "_has_key", lambda: False)
    assert go(*words) == (2, [])
    assert said in capsys.readouterr().err


def test_sweep_files_hold_the_runs_of_the_grid(go: Any, folder: Path, tmp_path: Path, capsys: Any) -> None:
    sweeps = tmp_path / "sweeps"
    assert go("--wandb-sweep", str(sweeps), "--wandb-project", "mner") == (0, [])
    assert f"wandb sweep {sweeps}/paper/table1.yaml" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    made = built(folder)
    for name in ("paper/sweep", "paper/table1"):
        content = yaml.safe_load((sweeps / f"{name}.yaml").read_text())
        assert (content["method"], content["project"]) == ("grid", "mner")
        files = [yaml.safe_load(Path(each).read_text()) for each in content["parameters"]["config"]["values"]]
        assert [each["name"] for each in files] == [run.digest for run in made.needed([name])]
        # in its own sweep a run belongs to the sweep's experiment, and still names all its cells
        assert {each["wandb"]["group"] for each in files} == {name}
    assert {len(each["wandb"]["cells"]) for each in files} == {1, 2}
    kept = {path: path.read_text() for path in sweeps.rglob("*.yaml")}
    (sweeps / "paper" / "table1.yaml").unlink()
    assert go("--wandb-sweep", str(sweeps))[0] == 2
    assert "exists (and" in capsys.readouterr().err
    assert not (sweeps / "paper" / "table1.yaml").exists()
    assert go("--wandb-sweep", str(sweeps), "--overwrite", "--wandb-project", "mner")[0] == 0
    assert {path: path.read_text() for path in sweeps.rglob("*.yaml")} == kept


def test_a_sweep_s_file_means_what_the_grid_s_command_means(tmp_path: Path) -> None:
    """For all experiments of the papers at the size of `mini`."""
    made = built(EXPERIMENTS, out=tmp_path / "out")
    for digest, run in made.runs.items():
        path = tmp_path / f"{digest}.yaml"
        path.write_text(yaml_text(wandb_files.configuration(run)))
        again = configuration_of(["fit", "--config", str(path)]).content
        assert deciding(again) == deciding(configuration_of(run.training.command).content), run
        assert again["name"] == digest


def test_wandb_s_own_schema_and_grid_take_the_sweep_files(go: Any, tmp_path: Path) -> None:
    import sweeps
    from sweeps.config import cfg

    assert go("--wandb-sweep", str(tmp_path / "sw"), "--wandb.entity", "me")[0] == 0
    for path in (tmp_path / "sw" / "paper").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        assert cfg.schema_violations_from_proposed_config(content) == []
        runs: list[Any] = []
        while (suggested := sweeps.next_run(content, runs, validate=True)) is not None:
            runs.append(suggested)
        assert [run.config["config"]["value"] for run in runs] == content["parameters"]["config"]["values"]


def test_the_report_draws_bars_of_tables_and_points_of_sweeps(go: Any, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "report.json"
    assert go("--wandb-report", str(file), "--wandb.project", "mner") == (0, [])
    assert f"wandb_report {file}" in capsys.readouterr().out
    assert go("--wandb-report", str(file))[0] == 2
    content = wandb_report.read(file)
    assert content.project == "mner"
    sweep, table = content.sections
    assert sweep.tags == ("mini", "paper/sweep", "probe-default")
    panels = [(panel.kind, panel.y, panel.x, panel.by) for panel in sweep.panels]
    assert panels[0] == ("points", "final/test/f1", "cells.paper/sweep.point", "")
    groups = [(panel.kind, panel.y, panel.by) for panel in table.panels]
    by = "cells.paper/table1.variant"
    assert groups == [(k, f"final/test/{m}", by) for k, m in (("bars", "precision"), ("bars", "f1"))] + [
        ("lines", "dev/f1", by)
    ]
    file.write_text(file.read_text().replace('"bars"', '"pies"'))
    with pytest.raises(
        DataError, match=r"sections\[1\]: panels\[0\]: kind must be one of bars, points, lines, got 'pies'"
    ):
        wandb_report.read(file)
    assert wandb_report.main([str(tmp_path / "none.json")]) == 1


def test_wandb_s_own_package_makes_the_report(go: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb_workspaces.reports.v2 import interface

    # asked for the project's number alone
    monkeypatch.setattr(interface, "_get_api", lambda: None)
    monkeypatch.setattr(interface, "execute_graphql", lambda *_: {"project": {"internalId": "1"}})
    file = tmp_path / "report.json"
    assert go("--wandb-report", str(file))[0] == 0
    spec = wandb_report.made(wandb_report.read(file), "me")._to_model().model_dump(by_alias=True, exclude_none=True)
    grids = [block for block in spec["spec"]["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == 2
    runs = grids[1]["metadata"]["runSets"][0]
    tags = [(each["key"]["name"], each["op"], each["value"]) for each in runs["filters"]["filters"]]
    assert tags == [("tags", "IN", [tag]) for tag in ("mini", "paper/table1", "probe-default")]
    views = {p["viewType"]: p["config"] for p in grids[1]["metadata"]["panelBankSectionConfig"]["panels"]}
    assert views["Bar Chart"]["metrics"] == ["summary_metrics.final/test/f1"]
    assert views["Bar Chart"]["groupBy"] == "cells.value.paper/table1.variant"
    (points,) = (p for p in grids[0]["metadata"]["panelBankSectionConfig"]["panels"] if p["viewType"] == "Scatter Plot")
    assert points["config"]["xAxis"] == "config:cells.value.paper/sweep.point"


def test_the_report_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces.reports.v2", None)
    content = {"format": wandb_report.FORMAT, "version": wandb_report.VERSION, "sections": []}
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert wandb_report.main([str(tmp_path / "report.json")]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err


def test_a_run_that_fails_is_closed_and_the_next_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a sweep live on: without it the next run would be written into the failed one's record."""

    def begin(name: str) -> None:
        assert wandb.run is None
        wandb.init(id=name, mode="offline", dir=str(tmp_path))
        if name == "bad":
            raise RuntimeError("no memory")

    def error_of(name: str) -> str | None:
        return tasks.perform(Task(name, (name,), partial(begin, name), tmp_path / "log")).error

    monkeypatch.setenv("WANDB_SILENT", "true")
    errors = [error_of(name) for name in ("bad", "good")]
    assert errors == ["RuntimeError: no memory", None]
    found = {each.run.run_id: each.exit_code for each in map(offline, tmp_path.rglob("*.wandb"))}
    assert found == {"bad": 1, "good": 0}


def test_help_names_the_options(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    said = capsys.readouterr().out
    for word in ("--logger", "--wandb.project", "--wandb-sweep", "--wandb-report"):
        assert word in said
    assert {"cells", "tags"} <= set(declared(WandbOptions))
