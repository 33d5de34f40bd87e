"""`make bench-probe`: every method with its text twin, and claims that are computed from the predictions in rows."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from mnerkit import registry

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("bench_quality", "cells", "bench_methods", "bench_folds", "bench_probe"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("bench_probe")


def test_every_image_method_has_cells_with_its_twins_tower_and_posts(bench: Any) -> None:
    # text alone, few-shot, no tagger, and a server's
    others = {"bert", "bilstm", "mousing", "relevance", "prompted"}
    assert {*bench.METHODS, *others} == set(registry.plugins())
    whole = bench.Bench("probe", "", "runs")
    for cell in bench.all_cells(["hvpnet", "tpm_mi"]):
        config = whole.config(cell)
        assert (config["seed"], config["data"]["pictures"]) == (cell.seed, cell.pictures)
        if not cell.system.startswith("bert"):
            other = whole.config(bench.Cell(bench.twin(cell.system), "right", cell.seed))
            assert other["model"]["text"] == config["model"]["text"]
            assert other["data"]["variant"] == config["data"]["variant"]


def test_claims_are_computed_from_the_predictions_of_rows(bench: Any) -> None:
    gold = bench.gold_of(None, 60)
    packed = importlib.import_module("bench_folds").packed

    def row(share: int, others: int) -> dict[str, Any]:
        said = [packed([each if number % n else [] for number, each in enumerate(gold)]) for n in (share, others)]
        return {
            "variant": None,
            "test": {"f1": 1.0},
            "predictions": dict(zip(("right", "shuffled"), said, strict=True)),
        }

    rows = {(bench.twin("cross"), "right"): row(2, 2), ("cross", "right"): row(9, 1), ("cross", "shuffled"): row(9, 9)}
    done = {bench.Cell(*key, seed): each for key, each in rows.items() for seed in bench.SEEDS}
    line = next(line for line in bench.report(done, ["cross", "gei"], 60).split("\n") if line.startswith("cross"))
    # it reads, is better than text, and would be so whatever it was trained on
    assert [part for part in line.split() if part.endswith(":")] == ["yes:", "yes:", "no:"]
    assert bench.report({}, ["cross"]) == "no method has two seeds"
