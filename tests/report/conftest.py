"""Run folders and table files written by hand: no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import SCRIPT, corpus
from small_runs import BAD, GOLD, GOOD, Spans, Write, rows, tags

import mnerkit
from mnerkit import report
from mnerkit.atomic_files import write_json, write_lines
from mnerkit.scoring.counts import entity_scores


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Writes a finished run folder whose scores are those of its predictions."""

    def write(
        name: str,
        said: list[Spans],
        seed: int = 0,
        plugin: str = "bert",
        ablation: str | None = None,
        lines: list[dict[str, Any]] | None = None,
        model: dict[str, Any] | None = None,
        **protocol: Any,
    ) -> Path:
        path = tmp_path / "runs" / plugin / "corp" / name
        path.mkdir(parents=True)
        config: dict[str, Any] = {"plugin": plugin, "model": model or {"text": "bert-base"}, "seed": seed}
        config |= {"data": {"corpus": protocol.get("corpus", "corp")}}
        if ablation:
            config["ablation"] = ablation
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        write_json(path / "env.json", {"mnerkit": mnerkit.__version__, "command": ["mnerkit", "fit"], "device": "cpu"})
        said_of = {"corpus": "corp", "variant": "default", "digest": "d1", "release": "corp 1", "types": ["PER", "LOC"]}
        write_lines(path / "predictions.test.jsonl", lines if lines is not None else rows(said))
        scores = entity_scores([tags(each) for each in GOLD], [tags(each) for each in said])
        content = {"plugin": plugin, "ablation": ablation, "seed": seed, "protocol": {**said_of, **protocol}}
        write_json(path / "metrics.json", {**content, "test": scores})
        return path

    return write


@pytest.fixture
def write_table(tmp_path: Path) -> Write:
    """Writes a table file of one column, with a row for each list of runs; keywords replace its keys."""

    def write(runs: list[list[Path]], name: str = "paper/table1", **keys: Any) -> Path:
        path = tmp_path / "out" / name / "table.json"
        path.parent.mkdir(parents=True, exist_ok=True)

        def relative(run: Path) -> str:
            up = len(path.parent.relative_to(tmp_path).parts)
            return "../" * up + run.relative_to(tmp_path).as_posix()

        content: dict[str, Any] = {
            "format": "mnerkit-table",
            "version": 1,
            "experiment": name,
            "paper": "paper",
            "title": "Table 1",
            "what": "table",
            "profile": "tweets",
            "note": "",
            "rows": [{"name": f"row {place}", "plugin": None, "printed_only": None} for place in range(len(runs))],
            "columns": [{"name": "F1", "corpus": "corp", "split": "test", "metric": "f1"}],
            "cells": [
                {"row": place, "column": 0, "printed": 50.0, "runs": [relative(run) for run in each], "state": "done"}
                for place, each in enumerate(runs)
            ],
        }
        path.write_text(json.dumps(content | keys))
        return path

    return write


@pytest.fixture
def hostile(tmp_path: Path, write_run: Write) -> Path:
    """The page of two runs that were asked about the hostile tweet."""
    folder = corpus(tmp_path / "mine")
    spans = {"good": [[1, 2, "PER"]], "bad": [[1, 2, SCRIPT]]}
    runs = []
    for name, said in spans.items():
        lines = [
            {
                "id": "testp0",
                "words": ["see", SCRIPT, "now"],
                "gold": [[1, 2, "PER"]],
                "entities": [{"start": start, "end": end, "type": kind} for start, end, kind in said],
            },
            {"id": "testp1", "words": ["two", "words"], "gold": [], "entities": []},
        ]
        runs.append(write_run(name, GOOD, seed=len(runs), lines=lines, corpus=str(folder), types=["PER"]))
    assert report.write(tmp_path / "report", runs=runs).problems == []
    return tmp_path / "report" / "index.html"


@pytest.fixture
def whole(tmp_path: Path, write_run: Write, write_table: Write) -> Path:
    """A page with something in every section."""
    full = write_run("full", GOOD)
    write_run("less", BAD, ablation="less")
    columns = [{"name": name, "corpus": "corp"} for name in ("0.1", "0.5")]
    cells = [
        {"row": 0, "column": n, "printed": 40 + n, "state": "done", "runs": ["../../../runs/bert/corp/full"]}
        for n in (0, 1)
    ]
    sweep = {"option": "model.delta", "values": [0.1, 0.5]}
    table = write_table([[full]], what="sweep", columns=columns, cells=cells, sweep=sweep)
    report.write(tmp_path / "report", [table], list((tmp_path / "runs").glob("*/*/*")))
    return tmp_path / "report" / "index.html"
