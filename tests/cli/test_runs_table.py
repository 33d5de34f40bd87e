"""`mnerkit runs` sorted, filtered and exported, and `runs repeat`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mnerkit import registry
from mnerkit.atomic_files import write_json
from mnerkit.cli import main
from mnerkit.runs import repeat
from mnerkit.runs.run_folder import RunFolder

RUNS: dict[str, tuple[str, int, float, float | None]] = {  # name: plugin, seed, lr, test F1
    "low": ("bert", 0, 0.1, 30.0),
    "high": ("bert", 10, 0.1, 50.0),
    "none": ("bert", 2, 0.01, None),
    "=other": ("cross", 0, 0.01, 40.0),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, (plugin, seed, lr, score) in RUNS.items():
        path = tmp_path / "runs" / plugin / "corp" / name
        path.mkdir(parents=True)
        config: dict[str, Any] = {"plugin": plugin, "seed": seed, "model": {"lr": lr, "head": {"name": "crf"}}}
        config["data"] = {"train_types": ["PER", "LOC"]}
        (path / "config.yaml").write_text(json.dumps(config))
        if score is not None:
            write_json(path / "metrics.json", {"seed": seed, "test": {"f1": score, "recall": score - 5}, "epochs": 1})
    return tmp_path / "runs"


def names(folder: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(["runs", str(folder), "--json", *argv]) == 0
    return [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]


def test_figures_are_sorted_from_the_highest_and_names_from_a(folder: Path, capsys) -> None:
    assert names(folder, capsys, "--sort", "test") == ["high", "=other", "low", "none"]
    assert names(folder, capsys, "--sort=-test") == ["low", "=other", "high", "none"]
    assert names(folder, capsys, "--sort", "seed") == ["low", "=other", "none", "high"]
    assert names(folder, capsys, "--sort", "name") == ["=other", "high", "low", "none"]
    assert main(["runs", str(folder), "--sort", "tset"]) == 2
    assert "Did you mean 'test'" in capsys.readouterr().err


def test_a_folder_far_above_the_runs_or_a_run_itself_will_do(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(names(folder.parent, capsys)) == len(RUNS)  # as of a sweep: runs/reproduce/mini/runs
    monkeypatch.chdir(folder / "bert" / "corp" / "low")
    assert names(Path("."), capsys) == ["low"]


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        (["plugin=bert"], ["high", "low", "none"]),
        (["plugin!=bert"], ["=other"]),
        (["model.lr<0.05"], ["none", "=other"]),
        (["model.lr=1e-1", "test>=50"], ["high"]),
        (["test/recall<=35"], ["low", "=other"]),
        (["test="], ["none"]),
        (["state=unfinished"], ["none"]),
        (["data.train_types=PER+LOC", "seed>1"], ["high", "none"]),
        (["model.head.name=softmax"], []),
    ],
)
def test_runs_are_those_of_which_all_conditions_hold(folder: Path, capsys, conditions: list[str], wanted: list[str]):
    argv = [word for each in conditions for word in ("--where", each)]
    assert names(folder, capsys, *argv) == wanted


def test_a_condition_on_what_no_run_has_or_that_is_none_is_refused(folder: Path, capsys) -> None:
    for asked, said in {"plugn=bert": "Did you mean 'plugin'", "bert": "expected KEY=VALUE"}.items():
        assert main(["runs", str(folder), "--where", asked]) == 2
        assert said in capsys.readouterr().err


def test_the_table_is_exported_as_it_is_sorted_and_nothing_is_overwritten(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "table.csv"
    assert main(["runs", str(folder), "--sort", "test", "--export", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["name"] for row in rows] == ["high", "'=other", "low", "none"]
    assert [row["test"] for row in rows] == ["50.0", "40.0", "30.0", ""]
    assert main(["runs", str(folder), "--export", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["runs", str(folder), "--by-seed", "--export", str(out), "--overwrite"]) == 0
    seeds = next(row for row in csv.DictReader(out.open()) if row["plugin"] == "bert")
    assert (seeds["test"], seeds["test_seeds"], seeds["seeds"]) == ("40.0", "2", "0 10")
    as_json = tmp_path / "table.json"
    assert main(["runs", str(folder), "--where", "test>35", "--export", str(as_json)]) == 0
    assert {row["name"] for row in json.loads(as_json.read_text())} == {"high", "=other"}
    assert main(["runs", str(folder), "--export", str(tmp_path / "table.xls")]) == 2


def test_a_damaged_run_is_a_row_and_hides_no_other(folder: Path, capsys) -> None:
    (folder / "bert" / "corp" / "low" / "metrics.json").write_text('{"test": 3}')
    (folder / "bert" / "corp" / "high" / "config.yaml").write_text("[]")
    assert main(["runs", str(folder), "--json", "--sort", "test", "--where", "plugin!=x"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["high"]["state"] == "damaged" and rows["low"]["test"] is None and rows["=other"]["test"] == 40.0


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", '{"test": {"f1": "x"}}'),
        ("metrics.json", '{"test": {"f1": true}}'),
        ("metrics.json", '{"test": {"f1": 1e999}}'),
        ("metrics.json", '{"test": {"f1": 1%s}}' % ("0" * 400)),
        ("metrics.json", "[" * 100_000),
        ("config.yaml", "plugin: bert\ntrainer: 5\n"),
        ("config.yaml", "plugin: bert\nseed: 2026-99-99\n"),
    ],
    ids=range(7),
)
@pytest.mark.parametrize("asked", [["--by-seed"], ["--sort", "test", "--where", "plugin!=x"]], ids=["seeds", "rows"])
def test_figures_that_are_none_and_odd_configurations_are_damaged(
    folder: Path, capsys, file: str, content: str, asked: list[str]
) -> None:
    (folder / "bert" / "corp" / "low" / file).write_text(content)
    assert main(["runs", str(folder), "--json", *asked]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    if asked == ["--by-seed"]:
        assert [row["test"]["mean"] for row in rows] == [50.0, 40.0]
    else:
        [row] = [row for row in rows if row["name"] == "low"]
        assert (row["state"], row["test"]) == ("damaged", None) and len(rows) == len(RUNS)


# ---------------------------------------------------------------------- repeat


def fit(runs: Path, *argv: str) -> Path:
    options = ["--plugin", "bert", "--data.limit", "24", "--trainer.max_epochs", "1", "--name", "first"]
    assert main(["fit", *options, "--trainer.enable_progress_bar", "false", "--runs_dir", str(runs), *argv]) == 0
    return runs / "bert" / "probe" / "first"


def test_a_repeated_run_has_the_same_figures_and_another_one_is_told(tmp_path: Path, capsys) -> None:
    run = fit(tmp_path, "--test", "--seed", "3", "--model.lr", "1e-3")
    capsys.readouterr()
    assert main(["runs", "repeat", str(run), "--dry-run"]) == 0
    command = capsys.readouterr().out.strip()
    assert command == f"mnerkit fit --config {run}/config.yaml --runs_dir {tmp_path} --name first-repeat --test"
    assert not (run.parent / "first-repeat").exists()
    assert main(["runs", "repeat", str(run)]) == 0
    assert f"the same figures as {run}, and the same predictions" in capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["f1"] += 0.5
    write_json(run / "metrics.json", metrics)
    env = json.loads((run / "env.json").read_text())
    files = [{"option": "data.captions", "file": "a" * 70, "content": "file 12"}]
    write_json(run / "env.json", env | {"threads": 99, "files": files})
    assert main(["runs", "repeat", str(run)]) == 1
    said = capsys.readouterr().out
    assert "not the same figures" in said and "  test.f1: " in said and "  threads: 99 before" in said
    assert "\n  data.captions: file 12 before, none now\n" in said and "files: " not in said
    del env["files"]  # of an older version
    write_json(run / "env.json", env)
    assert main(["runs", "repeat", str(run)]) == 1
    assert capsys.readouterr().out.endswith("  versions and device are the same\n")


def test_differences_are_of_figures_alone() -> None:
    before = {"test": {"f1": 1.0}, "seconds": {"train": 3}, "looks_at_test": 4, "test@other-1": {"f1": 2.0}}
    assert repeat.differences(before, {"test": {"f1": 1.0}, "seconds": {"train": 9}, "looks_at_test": 1}) == []
    assert repeat.differences(before, {"test": {"f1": 1.5}}) == ["  test.f1: 1.0 before, 1.5 now"]
    assert repeat.differences({"dev": {"f1": 1.0}}, {}) == ["  dev.f1: 1.0 before, none now"]


def test_a_run_that_can_not_be_repeated_gets_a_line(tmp_path: Path, folder: Path, capsys) -> None:
    unfinished = folder / "bert" / "corp" / "none"
    assert main(["runs", "repeat", str(unfinished)]) == 1
    assert "is not finished" in capsys.readouterr().err
    assert main(["runs", "repeat", str(tmp_path / "nowhere")]) == 1
    assert "no run" in capsys.readouterr().err


def test_a_run_is_repeated_as_its_record_has_it_whatever_the_defaults_are_now(folder: Path, capsys) -> None:
    old = RunFolder(folder / "bert" / "corp" / "low")
    # of a release whose defaults.yaml said nothing; today's gives another batch size
    record = {"plugin": "bert", "seed": 0, "model": {"head": {"name": "crf"}}}
    old.config_file.write_text(json.dumps(record))
    configuration, _ = repeat.repetition(old)
    assert registry.get("bert").defaults["data"]["batch_size"] != configuration.content["data"]["batch_size"] == 16
    assert main(["runs", "repeat", str(old.path), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"mnerkit runs repeat {old.path} --runs_dir ")
    # with every option in it a file means itself
    old.config_file.write_text(json.dumps(configuration.content))
    assert main(["runs", "repeat", str(old.path), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"mnerkit fit --config {old.config_file} --runs_dir ")
