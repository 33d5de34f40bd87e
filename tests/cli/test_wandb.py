"""An offline Weights & Biases run, read back from the file that `wandb sync` would send."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import wandb

from mnerkit.cli import main
from mnerkit.runs import RunFolder

BLOCK, HEADER = 32768, 7  # a LevelDB log: blocks of records, each with checksum, length and kind (1 whole, 2-4 parts)


def records(file: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    content, position, found, part = file.read_bytes(), HEADER, [], b""
    assert content[:4] == b":W&B"
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        part += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return found


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
    file = next(folder.path.rglob("*.wandb"))
    found = records(file)
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.project, run.run_group, run.job_type) == ("mner", "table2", "full")
    assert set(run.tags) == {"a", "b"}
    config = {item.key: json.loads(item.value_json) for record in found for item in record.run.config.update}
    config |= {item.key: json.loads(item.value_json) for record in found for item in record.config.update}
    assert config["plugin"] == "bert" and config["data"]["limit"] == 64
    logged = {".".join(item.nested_key) or item.key for record in found for item in record.history.item}
    assert {"dev/f1", "train/loss", "predictions.path", "confusion_table.path"} <= logged
    summary = {
        ".".join(item.nested_key) or item.key: item.value_json for record in found for item in record.summary.update
    }
    assert json.loads(summary["final/dev/f1"]) == pytest.approx(folder.metrics()["dev"]["f1"])
    tables = {path.name.split("_")[0] for path in folder.path.rglob("*.table.json")}
    assert tables == {"predictions", "confusion"}
