"""Offline Weights & Biases runs, read back from the files that `wandb sync` would send."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7  # a LevelDB log: blocks of records, each with checksum, length and kind (1 whole, 2-4 parts)


def records(file: Path) -> list[Any]:
    """All records of a file."""
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


@dataclass(frozen=True)
class Offline:
    """What a file says of its run.

    Attributes:
        run: its first record: project, group, job type, tags.
        config: what W&B would show as configuration.
        history: metric -> its values, in order.
        exit_code: None for a file that was never closed.
    """

    run: Any
    config: dict[str, Any]
    history: dict[str, list[Any]]
    summary: dict[str, Any]
    exit_code: int | None


def offline(file: Path) -> Offline:
    """Read a file."""
    config: dict[str, Any] = {}
    history: dict[str, list[Any]] = {}
    summary: dict[str, Any] = {}
    found = records(file)
    for record in found:
        for item in (*record.run.config.update, *record.config.update):
            config[item.key] = json.loads(item.value_json)
        for item in record.history.item:
            history.setdefault(_key(item), []).append(json.loads(item.value_json))
        for item in record.summary.update:
            summary[_key(item)] = json.loads(item.value_json)
    codes = [record.exit.exit_code for record in found if record.HasField("exit")]
    run = next(record.run for record in found if record.HasField("run"))
    return Offline(run, config, history, summary, codes[-1] if codes else None)


def _key(item: Any) -> str:
    return ".".join(item.nested_key) or item.key
