"""Tables from table files and run folders: figures, what is comparable, marks, and three formats that stay text."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from small_runs import BAD, GOLD, GOOD, Write

from mnerkit.errors import DataError
from mnerkit.report.posts.answers import Library
from mnerkit.report.tables import formats
from mnerkit.report.tables.run_tables import TESTED, ablations, of_runs
from mnerkit.report.tables.table_file import read_table
from mnerkit.report.tables.tables import Filled, Shelf, fill

HOSTILE = '<script>alert("1")</script>|&_%$#{}~^\\\n='


def filled(path: Path) -> Filled:
    return fill(read_table(path), Shelf(), Library())


def half_bad(good: int) -> list:
    return [*GOOD[:good], *BAD[good:]]


def test_a_cell_is_the_mean_over_its_seeds_with_its_interval_and_the_difference(write_run: Write, write_table: Write):
    runs = [write_run(f"s{seed}", half_bad(8 + 4 * seed), seed=seed) for seed in (0, 1, 2)]
    values = [json.loads((run / "metrics.json").read_text())["test"]["f1"] for run in runs]
    found = filled(write_table([runs[::-1]])).at(0, 0)
    mean = sum(values) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert found is not None and found.values == dict(enumerate(values)) and found.n == 3
    assert found.mean == pytest.approx(mean) and found.difference == pytest.approx(mean - 50)
    assert found.half == pytest.approx(4.302653 * deviation / math.sqrt(3), rel=1e-5)
    assert found.comparable and found.verdict == "the paper's figure lies in our interval"
    single = filled(write_table([runs[:1]])).at(0, 0)
    assert single is not None and single.half is None and single.verdict == "one seed, no interval"


def test_reasons_against_a_comparison_come_from_the_file_and_from_the_runs(write_run: Write, write_table: Write):
    run = write_run("a", GOOD, corpus="probe", limit=64, model={"text": "tiny"})
    cell: dict[str, Any] = {"row": 0, "column": 0, "printed": 90.0, "state": "done", "runs": [relative(run)]}
    path = write_table([[]], cells=[cell | {"differs": ["captions in place of pictures"]}])
    found = filled(path).at(0, 0)
    assert found is not None and found.comparable is False and found.verdict == "not comparable"
    assert found.reasons == [
        "captions in place of pictures",
        "corpus: probe, not corp",
        "data: the first 64 posts of each split",
        "tower: tiny, trained from scratch",
    ]
    two = [write_run("b", GOOD, seed=1), write_run("c", GOOD, seed=2, digest="d2", release=None)]
    other = filled(write_table([two])).at(0, 0)
    assert other is not None and "its runs are of different data" in other.reasons


def relative(run: Path) -> str:
    return "../../../" + "/".join(run.parts[-4:])


def test_an_erratum_s_figure_is_what_ours_is_compared_with(write_run: Write, write_table: Write):
    run = write_run("a", GOOD)
    cell = {"row": 0, "column": 0, "printed": 90.0, "state": "done", "runs": [relative(run)]}
    erratum = {"text": "the mean of six is", "corrected": 99.0}
    found = filled(write_table([[]], cells=[cell | {"erratum": erratum}])).at(0, 0)
    assert found is not None and found.difference == pytest.approx(1.0)
    assert formats.remarks(found) == ["erratum: the mean of six is; 99.00 is meant"]
    plain = filled(write_table([[]], cells=[cell | {"erratum": "doubtful"}])).at(0, 0)
    assert plain is not None and plain.difference == pytest.approx(10.0)


def test_best_and_significant_figures_are_marked_after_correction(write_run: Write, write_table: Write):
    bad, good = (
        [write_run(f"{name}{seed}", said, seed=seed) for seed in (0, 1)] for name, said in (("b", BAD), ("g", GOOD))
    )
    same = [write_run(f"s{seed}", BAD, seed=seed) for seed in (0, 1)]
    found = filled(write_table([bad, good, same], baseline_row=0))
    base, best, equal = (found.figures[row, 0] for row in range(3))
    assert (base.best, best.best, equal.best) == (False, True, False)
    assert base.test is None and best.test is not None and equal.test is not None and found.tests == 2
    assert best.test.mark == "better" and best.n == 2
    assert best.test.p_holm == pytest.approx(2 * best.test.p) and equal.test.mark == "" and equal.test.p_holm == 1.0
    free = filled(write_table([bad, good, same]))
    assert free.figures[0, 0].against == 1 and free.figures[0, 0].test.mark == "worse"  # type: ignore[union-attr]
    assert free.figures[1, 0].test.mark == "better" and free.tests == 3  # type: ignore[union-attr]
    text = formats.as_markdown(found)
    assert "| **100.00** ± 0.00† (50.00, +50.00) |" in text and "Holm's correction for 2 tests" in text


def test_seeds_are_drawn_on_request_and_a_row_with_one_is_not_tested(write_run: Write, write_table: Write):
    bad, good = (
        [write_run(f"{name}{seed}", said, seed=seed) for seed in (0, 1)] for name, said in (("b", BAD), ("g", GOOD))
    )
    table = read_table(write_table([bad, good, bad[:1]], baseline_row=0))
    found = fill(table, Shelf(), Library(draws_seeds=True))
    test, single = found.figures[1, 0].test, found.figures[2, 0]
    assert test is not None and test.mark == "better" and found.tests == 1
    assert single.test is None and single.untested is not None and "with one seed" in single.untested
    assert "t test that draws posts and seeds" in formats.as_markdown(found)


def test_many_tests_in_a_table_leave_clear_differences_clear(write_run: Write, write_table: Write):
    bad, good = ([write_run(f"{n}{seed}", said, seed=seed) for seed in (0, 1)] for n, said in (("b", BAD), ("g", GOOD)))
    rows, columns = [bad, good, *[bad] * 12], 40
    cells = [
        {"row": row, "column": column, "runs": [relative(run) for run in runs], "state": "done"}
        for row, runs in enumerate(rows)
        for column in range(columns)
    ]
    names = [{"name": str(column), "corpus": "corp"} for column in range(columns)]
    found = filled(write_table(rows, columns=names, cells=cells, baseline_row=0))
    assert found.tests == 13 * columns >= 500
    tests = [[found.figures[row, column].test for column in range(columns)] for row in (1, 2)]
    assert {test.mark for test in tests[0] if test} == {"better"} and {test.mark for test in tests[1] if test} == {""}


def test_rows_are_ranked_and_tested_among_those_of_the_same_data(write_run: Write, write_table: Write):
    # as in a sweep: two methods, each on two corpora, in one column
    rows = [(BAD, "one"), (half_bad(12), "one"), (half_bad(20), "two"), (GOOD, "two")]
    runs = [[write_run(f"r{n}", said, corpus=name, digest=name)] for n, (said, name) in enumerate(rows)]
    found = filled(write_table(runs))
    assert [found.figures[row, 0].best for row in range(4)] == [False, True, False, True]
    assert [found.figures[row, 0].against for row in range(4)] == [1, 0, 3, 2]
    based = filled(write_table(runs, baseline_row=0))
    assert based.tests == 1 and based.figures[3, 0].untested == "not asked alike: corpus two against one"


def test_few_shot_runs_are_ranked_among_those_of_the_same_episodes(write_run: Write, write_table: Write):
    rules = {"episodic": True, "k_shot": 1, "test_types": ["PER"], "queries": {"test": 24}}
    changes: list[dict[str, Any]] = [{}, {"k_shot": 5}, {"test_types": ["LOC"]}, {"digest": "d2"}, {"episode_seed": 7}]
    runs = [write_run(f"r{n}", half_bad(4 * n), seed=n, **{**rules, **change}) for n, change in enumerate(changes)]
    found = filled(write_table([[run] for run in runs]))
    # the seed of the episodes is the run's own, so it tells no two apart
    assert [found.figures[row, 0].best for row in range(5)] == [False, False, False, False, True]
    shelf = Shelf(runs)
    made = of_runs(list(shelf.records.values()))
    assert made is not None and [column.name for column in made.table.columns] == ["F1", "P", "R"]
    assert made.about["protocol"] == [
        "?-way 1-shot digest d1, test_types PER",
        "?-way 5-shot",
        "?-way 1-shot digest d1, test_types LOC",
        "?-way 1-shot digest d2, test_types PER",
    ]
    # of the same episodes as in a file, however the rest was drawn
    files = {"episode_files": {"test": {"sha256": "e"}}}
    frozen = [write_run(f"f{k}", GOOD, **{**rules, **files, "k_shot": k}) for k in (1, 5)]
    alike = filled(write_table([[run] for run in frozen]))
    assert alike.figures[0, 0].evaluations == alike.figures[1, 0].evaluations != found.figures[0, 0].evaluations


def test_a_cell_that_is_the_mean_of_others_is_tested_as_such(write_run: Write, write_table: Write):
    bad, good = (
        [write_run(f"{name}{seed}", said, seed=seed) for seed in (0, 1)] for name, said in (("b", BAD), ("g", GOOD))
    )
    columns = [{"name": name, "corpus": "corp"} for name in ("one", "two", "Avg")]
    cells: list[dict[str, Any]] = [
        {"row": row, "column": column, "runs": [relative(run) for run in runs], "state": "done"}
        for row, runs in enumerate((bad, good))
        for column in (0, 1)
    ]
    cells += [{"row": row, "column": 2, "of": [[row, 0], [row, 1]], "state": "done", "printed": 60.0} for row in (0, 1)]
    path = write_table([bad, good], columns=columns, cells=cells, baseline_row=0)
    average = filled(path).figures[1, 2]
    assert average.mean == 100.0 and average.n == 2 and average.half == 0.0 and average.test is not None
    assert average.test.mark == "better" and average.test.difference == pytest.approx(
        100 - filled(path).figures[0, 2].mean  # type: ignore[operator]
    )
    del cells[0]["runs"]
    cells[0]["state"] = "missing"
    path = write_table([bad, good], columns=columns, cells=cells)
    lacking = filled(path).figures[0, 2]
    assert (lacking.mean, lacking.state) == (None, "missing") and "1 of the 2 cells" in str(lacking.why)


def test_a_run_that_can_not_fill_its_cell_is_named_and_the_others_do(write_run: Write, write_table: Write):
    good, gone, other = write_run("a", GOOD), write_run("b", GOOD, seed=1), write_run("c", GOOD, plugin="gmf", seed=2)
    (gone / "metrics.json").write_text("{")
    rows = [{"name": "BERT", "plugin": "bert"}, {"name": "GMF", "plugin": "gmf"}]
    found = filled(write_table([[good, gone, other], [gone]], rows=rows))
    first, second = found.figures[0, 0], found.figures[1, 0]
    assert first.n == 1 and first.state == "failed" and "metrics.json is damaged" in str(first.why)
    assert not first.comparable and first.reasons == ["runs: not all of them are there"]
    assert "is one of gmf, and the row is bert's" in str(first.why) and "\n" not in str(first.why)
    assert second.state == "failed" and second.mean is None
    printed = [{"row": 0, "column": 0, "printed": 1.0, "state": "printed_only", "why": "UMGF is not in mnerkit"}]
    only = filled(write_table([[]], cells=printed))
    assert "printed only (1.00) a" in formats.as_markdown(only) and "UMGF is not in mnerkit" in formats.as_latex(only)


def test_a_mean_of_uneven_seeds_has_no_interval_and_says_so(write_run: Write, write_table: Write):
    runs = [write_run(f"s{seed}", GOOD, seed=seed) for seed in (0, 1)]
    columns = [{"name": name, "corpus": "corp"} for name in ("a", "b", "mean")]
    cells: list[dict[str, Any]] = [
        {"row": 0, "column": 0, "state": "done", "runs": [relative(each) for each in runs]},
        {"row": 0, "column": 1, "state": "done", "runs": [relative(runs[0])]},
        {"row": 0, "column": 2, "state": "done", "of": [[0, 0], [0, 1]], "printed": 50.0},
    ]
    found = filled(write_table([[]], columns=columns, cells=cells)).at(0, 2)
    assert found is not None and found.mean is not None and found.half is None
    assert found.verdict == "no interval: not one figure of each seed"


def test_scores_from_0_to_1_are_not_called_percent(write_table: Write):
    column = {"name": "R", "corpus": "corp", "metric": "mean_r"}
    shares = filled(write_table([[]], columns=[column]))
    mixed = filled(write_table([[]], "paper/table2", columns=[column, {"name": "F1", "corpus": "corp"}]))
    assert "Ours, from 0 to 1: mean" in formats.as_markdown(shares)
    assert "Ours, in percent, but R and AUC from 0 to 1: mean" in formats.as_latex(mixed)


@pytest.mark.parametrize("name", ["[CLS] only", "* starred"])
def test_latex_does_not_take_the_beginning_of_a_row_for_its_own(write_table: Write, name: str):
    lines = formats.as_latex(filled(write_table([[]], rows=[{"name": name}]))).splitlines()
    assert any(line.startswith(f"{{}}{name}") for line in lines)


def test_names_stay_text_in_every_format(write_run: Write, write_table: Write):
    run = write_run("a", GOOD)
    path = write_table([[run]], title=HOSTILE, rows=[{"name": HOSTILE}], note=HOSTILE)
    found = filled(path)
    markdown, latex = formats.as_markdown(found), formats.as_latex(found)
    assert "<script" not in markdown and "&lt;script&gt;" in markdown
    assert all(line.replace(r"\|", "").count("|") in (0, 3) for line in markdown.splitlines())
    assert r"\textless{}script\textgreater{}alert(\textquotedbl{}1\textquotedbl{})" in latex
    assert r"\textbar{}\&\_\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 2
    records = list(csv.DictReader(io.StringIO(formats.as_csv(found))))
    assert len(records) == 1 and records[0]["row"].startswith("<script>") and records[0]["mean"] == "100"
    dangerous = write_table([[run]], rows=[{"name": "=cmd()"}])
    assert next(csv.DictReader(io.StringIO(formats.as_csv(filled(dangerous)))))["row"] == "'=cmd()"
    assert records[0]["difference"] == "50" and records[0]["comparable"] == "True"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "is no table file"),
        ({"version": 2}, "is of version 2; this mnerkit reads version 1"),
        ({"colums": []}, "table.json: no key 'colums'. Did you mean 'columns'"),
        ({"experiment": "../../etc/x"}, "experiment: '../../etc/x' is no name: letters"),
        ({"experiment": "a b"}, "experiment: 'a b' is no name: letters"),
        ({"what": "chart"}, "what must be one of table, sweep, curve, figure, got 'chart'"),
        ({"rows": []}, "rows must be a list of at least 1"),
        ({"rows": [3]}, r"rows\[0\] must be a mapping, got 3"),
        ({"baseline_row": 7}, "baseline_row 7: there are 2 rows"),
        ({"sweep": {"option": "x"}}, "sweep: the key 'values' is missing"),
        ({"cells": [{"row": 0, "column": 0}]}, r"cells\[0\]: the key 'state' is missing"),
        ({"cells": [{"row": 0, "column": 9, "state": "done"}]}, "there is no row 0, column 9"),
        ({"cells": [{"row": -1, "column": 0, "state": "done"}]}, r"cells\[0\]: row must be 0 or more, got -1"),
        ({"cells": [{"row": 0, "column": 0, "state": "done"}] * 2}, "row 0, column 0 has two cells"),
        (
            {"cells": [{"row": 0, "column": 0, "state": "fine"}]},
            "state must be one of done, .*, got 'fine'",
        ),
        (
            {"cells": [{"row": 0, "column": 0, "state": "done", "printed": "9"}]},
            "printed must be a number, got '9'",
        ),
        ({"cells": [{"row": 0, "column": 0, "state": "done", "printed": True}]}, "printed must be a number, got True"),
        ({"cells": [{"row": 0, "column": 0, "state": "done", "runs": ["/etc"]}]}, "is not a path relative"),
        ({"cells": [{"row": 0, "column": 0, "state": "done", "runs": ["a" * 30_000]}]}, "is not a path relative"),
        ({"cells": [{"row": 0, "column": 0, "state": "done", "of": [[0, 0]]}]}, "which is a mean itself"),
        ({"cells": [{"row": 0, "column": 0, "state": "done", "of": [[1, 0]]}]}, "which does not exist"),
    ],
)
def test_a_table_file_that_is_wrong_is_refused_in_a_line(write_table: Write, change: dict[str, Any], said: str):
    with pytest.raises(DataError, match=said) as caught:
        read_table(write_table([[], []], **change))
    assert "\n" not in str(caught.value) and "table.json" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 100_000, "\udcff", '"\\ud800"'], ids=range(8)
)
def test_a_file_that_is_no_json_is_refused_in_a_line(tmp_path: Path, text: str):
    path = tmp_path / "table.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_runs_without_a_table_make_one(write_run: Write):
    runs = [write_run("a0", GOOD), write_run("a1", BAD, seed=1), write_run("g", BAD, plugin="gmf", model={"text": "x"})]
    shelf = Shelf(runs)
    made = of_runs(list(shelf.records.values()))
    assert made is not None and [column.name for column in made.table.columns] == ["F1", "P", "R"]
    found = fill(made.table, shelf, Library(), TESTED)
    assert [row.name for row in made.table.rows] == ["bert", "gmf"]
    assert made.about == {"corpus": ["corp", "corp"], "protocol": ["all posts", "all posts"]}
    assert made.facts["seeds"] == ["0, 1", "0"] and made.facts["date"][0] == made.facts["date"][1]
    assert found.figures[0, 0].n == 2 and found.figures[1, 0].n == 1
    # P and R are not tested, so they do not weaken the tests of F1
    assert [found.figures[0, column].test is not None for column in range(3)] == [True, False, False]
    assert of_runs([]) is None


def test_ablations_are_those_nearest_to_the_full_method_and_tested_against_it(write_run: Write):
    full = {"text": "x", "lr": 1, "image": True}
    runs = [
        write_run("full", GOOD, model=full),
        write_run("swept", GOLD, model=full | {"lr": 7, "delta": 3}),
        write_run("no_image", BAD, ablation="no_image", model=full | {"image": False}),
    ]
    shelf = Shelf(runs)
    [table] = ablations(shelf.records.values())
    assert [row.name for row in table.rows] == ["full", "no_image"] and table.title == "bert on corp (test)"
    assert [[path.name for path in cell.runs] for cell in table.cells] == [["full"], ["no_image"]]
    test = fill(table, shelf, Library()).figures[1, 0].test
    assert test is not None and test.mark == "worse"


def test_a_cell_that_is_not_whole_shows_what_is_there_and_says_so(write_run: Write, write_table: Write):
    run = write_run("a", GOOD)
    cell = {"row": 0, "column": 0, "printed": 90.0, "runs": [relative(run)]}
    missing = filled(write_table([[]], cells=[cell | {"state": "missing"}])).figures[0, 0]
    assert (missing.mean, missing.state, missing.why) == (
        100.0,
        "missing",
        "the figure is of the 1 runs that are there",
    )
    assert not missing.comparable and missing.reasons == ["runs: not all of them are there"]
    printed = filled(write_table([[]], cells=[cell | {"state": "printed_only", "why": "no such type"}])).figures[0, 0]
    assert (printed.mean, printed.state, printed.why) == (None, "printed_only", "no such type")


@pytest.mark.parametrize(("states", "state"), [(("missing", "done"), "missing"), (("failed", "missing"), "failed")])
def test_a_mean_of_cells_that_are_not_whole_is_not_whole_either(
    write_run: Write, write_table: Write, states: tuple[str, str], state: str
):
    run = write_run("a", GOOD)
    columns = [{"name": name, "corpus": "corp"} for name in ("a", "b", "mean")]
    cells: list[dict[str, Any]] = [
        {"row": 0, "column": place, "state": each, "runs": [relative(run)]} for place, each in enumerate(states)
    ]
    cells.append({"row": 0, "column": 2, "state": state, "of": [[0, 0], [0, 1]], "printed": 50.0})
    found = filled(write_table([[]], columns=columns, cells=cells)).figures[0, 2]
    assert (found.mean, found.state) == (100.0, state) and not found.comparable
    assert found.why == f"{2 - states.count('done')} of the 2 cells that it is the mean of lack runs"
