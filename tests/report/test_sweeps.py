"""Curves of sweeps and of training, and counts of what is corrected and spoiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import BAD, GOLD, GOOD, Write

from mnerkit.report.posts.answers import Library
from mnerkit.report.posts.corrected import counts
from mnerkit.report.tables.sweeps import series
from mnerkit.report.tables.table_file import read_table
from mnerkit.report.tables.tables import Filled, Shelf, fill


def filled(path: Path) -> Filled:
    return fill(read_table(path), Shelf(), Library())


def cell(row: int, column: int, run: Path, **keys: Any) -> dict[str, Any]:
    return {"row": row, "column": column, "runs": ["../../../" + "/".join(run.parts[-4:])], "state": "done", **keys}


@pytest.mark.parametrize("order", ["metrics first", "values first", "rows"])
def test_a_line_is_a_method_and_metric_over_the_values(write_run: Write, write_table: Write, order: str) -> None:
    runs = [write_run("a", BAD), write_run("b", GOOD)]
    sweep = {"option": "model.delta", "values": [0.3, "off"]}
    names = [(metric, value) for metric in ("f1", "recall") for value in (0, 1)]
    if order == "values first":
        names = sorted(names, key=lambda name: name[1])
    columns = [{"name": f"{metric} at {value}", "metric": metric} for metric, value in names]
    cells = [cell(0, place, runs[value], metric=metric) for place, (metric, value) in enumerate(names)]
    if order == "rows":
        columns = [{"name": "F1 one"}, {"name": "F1 two"}, {"name": "F1 three"}]
        cells = [cell(row, column, runs[row], printed=7.0) for row in (0, 1) for column in range(3)]
    path = write_table(
        [[], []] if order == "rows" else [[]], what="sweep", sweep=sweep, columns=columns, cells=cells, x="delta"
    )
    [drawn] = series(filled(path))
    assert (drawn["option"], drawn["x"]) == ("delta", [0.3, "off"])
    if order == "rows":
        assert [line["name"] for line in drawn["lines"]] == ["F1 one", "F1 two", "F1 three"]
        assert [point[3] for point in drawn["lines"][0]["points"]] == [7.0, 7.0]
    else:
        assert [line["name"] for line in drawn["lines"]] == ["row 0 f1 at", "row 0 recall at"]
    for line in drawn["lines"]:
        assert [point[0] for point in line["points"]] == [0, 1]
        assert line["points"][0][1] < line["points"][1][1] == 100.0
    assert series(filled(write_table([[runs[0]]]))) == []


def test_training_is_drawn_from_the_logs_of_all_seeds(write_run: Write, write_table: Write) -> None:
    runs = [write_run(f"s{seed}", GOOD, seed=seed) for seed in (0, 1)]
    for seed, run in enumerate(runs):
        lines = [
            "dev/f1,epoch,train/loss",
            f"{10 + seed},0,",
            ",0,3.5",
            f"{20 + 3 * seed},1,",
            "nan,2,x",
            *(["9,2,1"] * (1 - seed)),
        ]
        (run / "curve").mkdir()
        (run / "curve" / "metrics.csv").write_text("\n".join(lines))
    # two corpora that are one here: their runs are the same, and drawn once
    columns = [{"name": f"{name} dev F1", "split": "dev"} for name in ("A", "B")]
    both = [each for run in runs for each in cell(0, 0, run)["runs"]]
    cells = [{**cell(0, column, runs[0]), "runs": both} for column in (0, 1)]
    path = write_table([[]], what="curve", columns=columns, cells=cells, x="epoch")
    for run in runs:
        metrics = (run / "metrics.json").read_text()
        (run / "metrics.json").write_text(metrics.replace('"test"', '"dev"'))
    scores, loss = series(filled(path))
    assert [point[:2] for point in scores["lines"][0]["points"]] == [[0, 10.5], [1, 21.5]]
    assert [line["name"] for line in scores["lines"] + loss["lines"]] == ["row 0, corp"] * 2
    assert scores["x"] == [0, 1] and scores["lines"][0]["points"][0][2] == pytest.approx(12.706 / 2, abs=1e-3)
    assert [point[:2] for point in loss["lines"][0]["points"]] == [[0, 3.5]]


def test_corrected_and_spoiled_entities_are_counted_against_the_baseline(write_run: Write, write_table: Write) -> None:
    mixed = [*GOOD[:12], *BAD[12:]]
    base, other = write_run("base", [*BAD[:12], *GOOD[12:]]), write_run("other", mixed, plugin="gmf")
    table = filled(write_table([[base], [other]], baseline_row=0, draw=["counts"]))
    # of four posts GOOD finds four entities, BAD one of these
    half = 3 * 3
    assert counts(table, Library()) == [
        {"r": 1, "c": 0, "corrected": half, "spoiled": half, "gold": sum(map(len, GOLD))}
    ]
    assert counts(filled(write_table([[base], [other]], baseline_row=0)), Library()) == []


@pytest.mark.parametrize("better", [0, 8, 17, 24])
def test_corrected_less_spoiled_is_what_the_method_finds_more_of_gold(
    write_run: Write, write_table: Write, better: int
) -> None:
    said = [*BAD[:10], *GOOD[10:]], [*GOOD[:better], *BAD[better:]]
    base, other = write_run("base", said[0]), write_run("other", said[1], plugin="gmf")
    [found] = counts(filled(write_table([[base], [other]], baseline_row=0, draw=["counts"])), Library())
    right = [sum(len(set(a) & set(b)) for a, b in zip(each, GOLD, strict=True)) for each in said]
    assert found["corrected"] - found["spoiled"] == right[1] - right[0]
    assert found["corrected"] == sum(len(set(gold) & set(b) - set(a)) for a, b, gold in zip(*said, GOLD, strict=True))
