"""Run folders and a table file written by hand, whose report is compared with the one that was once made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from mnerkit.cli import main

WORDS = ["Kevin", "Durant", "leaves", "Oakland", "now"]
Spans = list[tuple[int, int, str]]
GOLD: list[Spans] = [[(0, 2, "PER"), (3, 4, "LOC")], [(0, 2, "PER")], [], [(3, 4, "LOC")]] * 6
BAD: list[Spans] = [[(0, 1, "PER")], [(0, 2, "LOC")], [(4, 5, "ORG")], [(3, 4, "LOC")]] * 6
# method, seed, how many of the 24 posts it gets right, F1
RUNS = (
    ("bert", 0, 14, 61.5),
    ("bert", 1, 12, 56.25),
    ("bert", 2, 13, 58.82),
    ("gmf", 0, 22, 94.12),
    ("gmf", 1, 24, 100.0),
    ("gmf", 2, 21, 91.43),
    ("hvpnet", 0, 16, 70.59),
)
CELLS = (("bert", 57.9), ("gmf", 95.5), ("hvpnet", 72.0))


def write_report(folder: Path) -> dict[str, str]:
    """Write the runs and `mnerkit report`'s tables of them, in a new folder; return the text of each by its path.

    FOLDER stands in them for the folder's own path, and DAY for the day on which the runs were written.
    """
    for method, seed, right, f1 in RUNS:
        _run(_place(folder, method, seed), method, seed, [*GOLD[:right], *BAD[right:]], f1)
    # in no table but that of all runs
    _run(_place(folder, "cross", 0), "cross", 0, BAD, 16.67)
    table = _table(folder)
    argv = ["report", str(folder / "runs"), "--tables", str(table), "--out", str(folder / "report")]
    if code := main(argv):
        raise RuntimeError(f"mnerkit {' '.join(argv)} ended with {code}")
    tables = folder / "report" / "tables"
    texts = {path.relative_to(tables).as_posix(): path.read_text("utf-8") for path in sorted(tables.rglob("*.*"))}
    texts = {name: re.sub(r"\b\d{4}-\d\d-\d\d\b", "DAY", text) for name, text in texts.items()}
    return {name: text.replace(str(folder), "FOLDER") for name, text in texts.items()}


def _place(folder: Path, method: str, seed: int) -> Path:
    return folder / "runs" / method / "corp" / f"s{seed}"


def _run(path: Path, method: str, seed: int, said: list[Spans], f1: float) -> None:
    """A finished run of 24 posts."""
    path.mkdir(parents=True)
    config = {"plugin": method, "model": {"text": "bert-base"}, "data": {"corpus": "corp"}, "seed": seed}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    _json(path / "env.json", {"mnerkit": "0.1.0", "command": ["mnerkit", "fit"], "device": "cpu"})
    rows = [
        {
            "id": f"p{place}",
            "words": WORDS,
            "entities": [{"start": start, "end": end, "type": kind} for start, end, kind in spans],
            "gold": gold,
        }
        for place, (spans, gold) in enumerate(zip(said, GOLD, strict=True))
    ]
    (path / "predictions.test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    protocol = {"corpus": "corp", "variant": "default", "digest": "d1", "release": "corp 1", "types": ["PER", "LOC"]}
    scores = {"f1": f1, "precision": f1 + 1.5, "recall": f1 - 1.25, "f1_strict": f1 - 2}
    scores |= {"PER/f1": f1 + 4, "LOC/f1": f1 - 4}
    _json(
        path / "metrics.json",
        {"plugin": method, "ablation": None, "seed": seed, "protocol": protocol, "test": scores},
    )


def _table(folder: Path) -> Path:
    path = folder / "sweep" / "paper" / "table1" / "table.json"
    path.parent.mkdir(parents=True)
    content: dict[str, Any] = {
        "format": "mnerkit-table",
        "version": 1,
        "experiment": "paper/table1",
        "paper": "paper",
        "title": "Table 1, with 100 % & more",
        "what": "table",
        "profile": "tweets",
        "note": "written by hand",
        "rows": [{"name": f"{method} (ours)", "plugin": method, "printed_only": None} for method, _ in CELLS],
        "columns": [{"name": "F1", "corpus": "corp", "split": "test", "metric": "f1"}],
        "cells": [
            {
                "row": row,
                "column": 0,
                "printed": printed,
                "state": "done",
                "runs": [f"../../../runs/{each}/corp/s{seed}" for each, seed, *_ in RUNS if each == method],
            }
            for row, (method, printed) in enumerate(CELLS)
        ],
    }
    _json(path, content)
    return path


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))
