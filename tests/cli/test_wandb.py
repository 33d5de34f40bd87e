"""An offline Weights & Biases run, read back from the file that `wandb sync` would send."""

from __future__ import annotations

from pathlib import Path

import pytest
import wandb

from mnerkit.cli import main
from mnerkit.methods.wandb_logging import account
from mnerkit.runs.run_folder import RunFolder
from tests.offline_records import offline


def test_an_offline_run_carries_config_group_tags_metrics_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    argv = ["fit", "--plugin", "bert", "--name", "logged", "--runs_dir", str(tmp_path), "--logger", "wandb"]
    argv += ["--wandb.mode", "offline", "--wandb.project", "mner", "--wandb.group", "table2", "--wandb.tags", "a,b"]
    argv += ["--data.limit", "64", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    assert main(argv) == 0
    wandb.teardown()  # the process that writes the file has written all of it
    folder = RunFolder(tmp_path / "bert" / "probe" / "logged")
    found = offline(next(folder.path.rglob("*.wandb")))
    assert (found.run.project, found.run.run_group, found.run.job_type) == ("mner", "table2", "full")
    assert set(found.run.tags) == {"a", "b"}
    assert found.config["plugin"] == "bert" and found.config["data"]["limit"] == 64
    assert {"dev/f1", "train/loss", "predictions.path", "confusion_table.path"} <= set(found.history)
    assert {"rate/head", "gradient/norm", "seconds/train", "seconds/dev", "pictures.count"} <= set(found.history)
    assert found.summary["final/dev/f1"] == pytest.approx(folder.metrics()["dev"]["f1"])
    tables = {path.name.split("_")[0] for path in folder.path.rglob("*.table.json")}
    assert tables == {"predictions", "confusion"}


def test_tags_are_plugin_and_corpus_where_none_are_given() -> None:
    told, cells = account({"plugin": "bert", "wandb": {"project": "mner"}}, "probe-" + "x" * 70)
    assert told["wandb"] == {"project": "mner", "tags": ["bert", "probe-" + "x" * 58]}  # W&B takes 64 letters
    assert cells == {}


@pytest.mark.parametrize("given", ["3", "[a]"])
def test_cells_that_are_no_mapping_are_refused_in_a_line(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["fit", "--plugin", "bert", "--runs_dir", str(tmp_path), "--logger", "wandb", "--wandb.cells", given]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("mnerkit: --wandb.cells ") and said.endswith(": give a mapping\n")
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize(("key", "complaint"), [(None, "no API key"), ("short", "API key must")])
def test_a_run_without_credentials_is_refused_before_it_begins_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str | None, complaint: str
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    wandb.teardown()
    argv = ["fit", "--plugin", "bert", "--runs_dir", str(tmp_path / "runs"), "--logger", "wandb"]
    assert main(argv) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("mnerkit: Weights & Biases") and complaint in line
    assert "`wandb login`" in line and "--wandb.mode offline" in line
    assert not (tmp_path / "runs").exists()
    wandb.teardown()
