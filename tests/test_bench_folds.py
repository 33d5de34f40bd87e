"""`make bench-folds`: a plan that can't change, and figures that are computed from the predictions that rows hold."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnerkit.atomic_files import write_lines, write_text
from mnerkit.data.corpus.tags import entities
from mnerkit.scoring.significance import holm

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SHUFFLED = "captions, trained on shuffled"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("bench_quality", "cells", "bench_methods", "bench_folds"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("bench_folds")


@pytest.fixture
def plan(bench: Any) -> Any:
    systems = {name: each for name, each in bench.Plan.read().systems.items() if name in ("bert", "captions", SHUFFLED)}
    comparisons = [{"claim": "helped", "system": "captions", "against": "bert", "corpora": ["probe"]}]
    comparisons.append({**comparisons[0], "corpora": ["probe", "twitter2015"]})
    return bench.Plan(2, 2, 1, systems, comparisons, "digest")


def test_every_system_of_the_plan_is_a_command_and_every_comparison_one_of_its_systems(bench: Any) -> None:
    plan = bench.Plan.read()
    assert len(plan.comparisons) <= 8
    assert {name for each in plan.comparisons for name in (each["system"], each["against"])} == set(plan.systems)
    whole = bench.Bench("twitter2017", "data", "runs", plan, text_tower="minilm")
    cells = bench.all_cells(plan)
    assert len(cells) == len({cell.name for cell in cells}) == plan.folds * plan.seeds * len(plan.systems)
    configs = [whole.config(cell) for cell in cells]
    for cell, config in zip(cells, configs, strict=True):
        assert (config["data"]["folds"], config["data"]["fold"]) == (plan.folds, cell.fold)
        assert config["model"].get("vision", "captions") == "captions"
    # no two runs of a system share a seed
    seeds = [config["seed"] for cell, config in zip(cells, configs, strict=True) if cell.system == "bert"]
    assert len(set(seeds)) == len(seeds)


def test_figures_of_a_cell_are_those_of_the_predictions_that_its_row_keeps(
    bench: Any, plan: Any, tmp_path: Path
) -> None:
    own = bench.Bench("probe", str(tmp_path), str(tmp_path / "runs"), plan, 3, 40, "bilstm")
    faster = dict.fromkeys(("--model.lr", "--model.tower_lr", "--model.head_lr"), "0.03") | {"--data.batch_size": "4"}
    systems = {"captions": {"plugin": "captions", "options": {**faster, "--trainer.precision": "32"}}}
    own = replace(own, plan=replace(plan, systems=systems))
    cell = bench.Cell("captions", 1, 0)
    row = sys.modules["cells"].run((own, cell, "d"))
    assert row.get("error") is None and row["preregistered"] == "digest" and not own.folder(cell).best.exists()
    scores = bench.Scores(own, {cell: row})
    posts, known = scores.folds[1]
    found = {}
    for pictures, kept in row["predictions"].items():
        said = bench.answers(kept)
        counts = [bench._counts(post, each, known, None) for post, each in zip(posts, said, strict=True)]
        gold, predicted, right = map(sum, zip(*counts, strict=True))
        found[pictures] = 200 * right / (gold + predicted)
    assert found["right"] == pytest.approx(row["test"]["f1"]) and found["right"] > 0
    protocols = [each for key, each in own.folder(cell).metrics().items() if key.endswith("protocol")]
    assert set(found) == {each["pictures"] for each in protocols} == {"right", "shuffled"}


def rows_of(bench: Any, plan: Any, own: Any, right: dict[str, int]) -> dict[Any, dict[str, Any]]:
    """Rows of systems that find the entities of every post but of each n-th one, and with other captions of none."""
    rows = {}
    for cell in bench.all_cells(plan):
        posts = bench.Scores(own, {}).folds[cell.fold][0]
        skip = right[cell.system]
        gold = [[] if (k + cell.repeat) % skip == 0 else entities(post.tags or ()) for k, post in enumerate(posts)]
        texts = {"right": gold, "shuffled": [[] for _ in gold]} if cell.system != "bert" else {"right": gold}
        rows[cell] = {"predictions": {name: bench.packed(each) for name, each in texts.items()}, "digest": "d"}
    return rows


def test_comparisons_claims_and_subsets_are_computed_from_predictions(bench: Any, plan: Any, tmp_path: Path) -> None:
    own = bench.Bench("probe", str(tmp_path), "runs", plan, None, 60)
    rows = rows_of(bench, plan, own, {"bert": 3, "captions": 10, SHUFFLED: 10})
    scores = bench.Scores(own, rows)
    first, second = bench.compared(plan, {"probe": scores})
    assert second is None  # the other corpus is missing
    assert first["difference"] > 5 and (first["seeds"], first["folds"], first["posts"]) == (2, 2, 120)
    text = bench.report(plan, {"probe": scores})
    assert f"{holm([first['p'], 1.0])[0]:.4f}" in text and "cells missing" in text
    claims = next(line for line in bench.claims(scores).split("\n") if line.startswith("captions "))
    assert claims.count("yes: ") == 2 and "no: +0.00" in claims  # trained on shuffled ones it is as good
    assert scores.test("captions", "captions", "shuffled")["f1_a"] == 0
    # each entity is of one subset of each kind
    for names in (("seen in training", "unseen"), ("gold word in caption", "none in caption"), bench.TYPES):
        parts = [np.concatenate(scores.counts("captions", 2, kept=bench.SUBSETS[name]), axis=1) for name in names]
        assert (sum(parts) == np.concatenate(scores.counts("captions", 2), axis=1)).all()
    seen = bench.SUBSETS["seen in training"]
    post = next(post for post in scores.folds[0][0] if any(tag != "O" for tag in post.tags))
    span = entities(post.tags)[0]
    assert seen(post, span, {(post.words[span.start : span.end], span.type)}) and not seen(post, span, set())
    less = bench.Scores(own, {cell: row for cell, row in rows.items() if cell.repeat == 0})
    assert less.seeds("captions") == 1 and less.test("captions", "bert") is None


def test_a_plan_that_changed_after_its_first_cell_is_refused(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "plan.yaml"
    write_text(other, bench.PLAN.read_text("utf-8").replace("seeds: 3", "seeds: 4"))
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    row = {"system": "bert", "fold": 0, "repeat": 0, "digest": "d", "preregistered": bench.Plan.read().digest}
    write_lines(tmp_path / "folds-twitter2017.jsonl", [row])
    changed = bench.Plan.read(other)
    monkeypatch.setattr(bench.Plan, "read", lambda: changed)
    with pytest.raises(SystemExit, match="can't change once there are rows"):
        bench.main(["--root", str(tmp_path), "--report"])


def test_a_system_that_the_plan_lacks_is_refused(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        bench.main(["--root", str(tmp_path), "--systems", "bert", "capshuns"])
    said = capsys.readouterr().err
    assert left.value.code == 2 and "no system capshuns; it has: bert; captions" in said
