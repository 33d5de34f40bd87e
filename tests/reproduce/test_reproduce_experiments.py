"""Experiment files: those of the papers are read and complete, and what is wrong in one is said in a line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mnerkit import registry
from mnerkit.errors import DataError, UsageError
from mnerkit.reproduce.experiments import experiment_files
from mnerkit.reproduce.experiments.experiment import Experiment, Sweep, column_name
from tests.reproduce.small import EXPERIMENTS, SWEEP, TABLE

WANTED = {
    "mousing": "table2 table3 sweep_v sweep_delta sweep_l sweep_gamma sweep_lambda adjacency cases",
    "mgips_cl": "table2 table3 sweep_k sweep_interweave low_resource tsne cases",
    "gmf": "table2 table3 table4 curves counts cases",
    "gei": "table1 attention cases",
    "gifr": "table2 table3 table4 relevance_cases relevance_histogram",
}
# tables of data statistics are not reproduced
SLIP = "errata: [{row: UMT, location: Table 1 UMT"
TABLES = ("Table 2", "Table 3", "Table 4")


@pytest.fixture(scope="module")
def known() -> dict[str, Experiment]:
    return experiment_files.load_all(EXPERIMENTS)


def test_every_table_and_figure_of_the_papers_has_its_file(known: dict[str, Experiment]) -> None:
    assert set(known) == {f"{paper}/{name}" for paper, names in WANTED.items() for name in names.split()}
    assert all(experiment.title and experiment.note for experiment in known.values())


@pytest.mark.parametrize("paper", WANTED)
def test_every_printed_figure_is_in_its_table(known: dict[str, Experiment], paper: str) -> None:
    """Each figure of the CSV files stands in some cell, as it was printed."""
    for experiment in (each for each in known.values() if each.paper == paper and each.printed is not None):
        assert experiment.printed is not None
        columns = {metric.printed for metric in experiment.metrics} - {None}
        with experiment.printed.path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        expected = sorted(line[column] for line in lines for column in columns if column and line[column])
        if experiment.name == "mousing/table2":
            assert len(lines) == 15 * 2 * 7
        found = [
            experiment.figure(row, group, metric)
            for row in experiment.rows
            for group in experiment.groups
            for metric in experiment.metrics
        ]
        assert sorted(each.raw for each in found if each.raw is not None) == expected, experiment.name
        assert all(each.value is None or 0 <= each.value <= 100 for each in found)


def test_errata_of_the_tables_are_marked(known: dict[str, Experiment]) -> None:
    said = {}
    for experiment in known.values():
        for row in experiment.rows:
            for group in experiment.groups:
                for metric in experiment.metrics:
                    figure = experiment.figure(row, group, metric)
                    if figure.erratum:
                        said[experiment.name, row.name, column_name(group, metric)] = figure.erratum
    assert said["mousing/table2", "MOUSING (as printed)", "Twitter-2015 Avg F1"].startswith(
        "printed 31.22, likely 32.22"
    )
    assert said["gmf/table3", "BERT-CRF", "Twitter-2017 PER"].startswith("printed 70.25, likely 90.25")
    assert "77.46" in said["gifr/table2", "GIFR", "MNER-MI P"]
    assert len([key for key in said if key[:2] == ("gmf/table3", "UMGF")]) == 4
    full, no_mics = (said["mousing/table3", row, "Avg F1"] for row in ("MOUSING (full)", "w/o MICS"))
    assert full.startswith("printed 33.18, likely unknown") and "; also printed F1 is not the harmonic mean" in full
    assert no_mics.startswith("printed F1 is not the harmonic mean") and "; also printed w/o MICS" in no_mics
    umt = [key[2] for key in said if key[:2] == ("mgips_cl/table2", "UMT")]
    assert said["gmf/table4", "w/o VCG", "Twitter-2015 F1"] == (
        "printed w/o VCG loses 0.74 F1 on Twitter-2015, likely 0.73: Table 4 prints 75.81 and 75.08"
    )
    for table in ("gmf/table2", "mgips_cl/table2"):
        assert said[table, "MAF", "Twitter-2015 F1"].startswith("printed 73.42, likely 73.44")
    assert umt == [f"Twitter-{year} {name}" for year in (2015, 2017) for name in ("P", "R", "F1")]  # not F1 of types


def test_every_erratum_of_a_table_stands_at_some_figure(known: dict[str, Experiment]) -> None:
    with (EXPERIMENTS / "errata.csv").open(encoding="utf-8", newline="") as stream:
        wanted = {line["as_printed"] for line in csv.DictReader(stream) if line["location"][:7] in TABLES}
    marked = {each.text for experiment in known.values() for each in experiment.errata}
    assert len(wanted) == 11
    assert [each for each in wanted if not any(text.startswith(f"printed {each},") for text in marked)] == []


def test_ours_is_compared_with_what_a_misprint_should_have_been(known: dict[str, Experiment]) -> None:
    found = {
        (name, erratum.row, erratum.column): erratum.corrected
        for name, experiment in known.items()
        for erratum in experiment.errata
        if erratum.corrected is not None
    }
    assert len(found) == 11
    assert found["mousing/table2", "MOUSING (as printed)", "Twitter-2015 Avg F1"] == 32.22
    assert found["gifr/table2", "GIFR", "MNER-MI P"] == 77.46  # not printed at all
    assert [found["gmf/table3", "UMGF", f"Twitter-2017 {kind}"] for kind in ("PER", "LOC", "ORG", "MISC")] == [
        *(91.92, 85.22, 83.13, 69.83)
    ]


@pytest.mark.parametrize("paper", WANTED)
def test_a_row_that_is_not_run_says_why(known: dict[str, Experiment], paper: str) -> None:
    rows = [row for each in known.values() if each.paper == paper for row in each.rows if row.plugin is None]
    assert bool(rows) == (paper != "mousing")  # whose methods are all there
    assert all(row.missing and len(row.missing) > 15 for row in rows)


def test_few_methods_of_the_tables_are_lacking(known: dict[str, Experiment]) -> None:
    """Of the 42 names that were once printed only; the cases of GIFR's Table 4 lack pictures and not a method."""
    lacking = {(row.name, row.missing) for each in known.values() for row in each.rows if row.missing}
    names = {name for name, why in lacking if "not public" not in why}
    assert len(names) == 14, sorted(names)
    systems = {plugin.upper().replace("_", "-") for plugin in registry.plugins()} | {"UMT-BERT-CRF", "VISUALPT-MOE-MI"}
    assert {name for name in names if name.upper() in systems} == set()


def test_printed_figures_are_those_of_the_papers(real_data: Path) -> None:
    """The CSV files here are those that were read off the papers, where these lie beside the tweets."""
    spec = real_data.parent / "spec" / "results"
    if not spec.is_dir():
        pytest.skip(f"no {spec}")
    ours = sorted(EXPERIMENTS.glob("*/table*.csv"))
    assert len(ours) == 11
    for path in ours:
        assert path.read_text() == (spec / f"{path.parent.name}_{path.name}").read_text(), path
    assert (EXPERIMENTS / "errata.csv").read_text().startswith((spec / "errata.csv").read_text())


def test_shares_become_percentages_and_keep_their_text(known: dict[str, Experiment]) -> None:
    table = known["gmf/table4"]
    figure = table.figure(table.rows[0], table.groups[0], table.metrics[2])
    assert (figure.value, figure.raw) == (75.81, "0.7581")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: a table", "titel: a table", r"no key 'titel'\. Did you mean 'title'"),
        ("plugin: bert}", "plugin: bret}", r"rows\[1\] \(BERT-CRF\): plugin: no plugin 'bret'\. Did you mean 'bert'"),
        ("ablation: softmax", "ablation: sofmax", r"no ablation 'sofmax'\. Did you mean 'softmax'"),
        ("printed: F1", "printed: F2", r"no column 'F2'\. Did you mean 'F1'"),
        ("name: UMT,", "name: UTM,", r"no method 'UTM'\. Did you mean 'UMT'"),
        ("mean: [T15, T17]", "mean: [T15, T71]", r"no group 'T71'\. Did you mean 'T17'"),
        ("what: table", "what: tabel", r"what must be one of .*'tabel'\. Did you mean 'table'"),
        ("seeds: [0, 1]", "seeds: 3", r"seeds must be a list, got 3"),
        ("seeds: [0, 1]", "seeds: [0, one]", r"seeds\[1\] must be a whole number, got 'one'"),
        ("missing: UMT is not here", "ablation: x", r"either a plugin or the reason"),
        ("dataset: b}", "dataset: c}", r"0 lines of 'BERT' with dataset c"),
        ("note: of a test", "note: [of", r"table1\.yaml:\d+: "),
        ("note: of a test\n", "note: of a test\nerrata: [{row: UMT, location: Table 9}]\n", r"no 'Table 9' of paper"),
        ("note: of a test\n", f"note: of a test\n{SLIP}, column: T15 P, corrected: 33}}]\n", r"33 is not .*: 32$"),
        ("note: of a test\n", f"note: of a test\n{SLIP}, corrected: 32}}]\n", r"belongs to a column"),
        ("note: of a test\n", "note: of a test\noptions: {lr: 1}\n", r"model\.lr, data\.k_shot.*'lr'"),
        ("plugin: bert}", "plugin: bert, pictures: true}", r"'only' or 'pictures: true' and 'why' belong together"),
        ("plugin: bert}", "plugin: bert, why: it is late}", r"'only' or 'pictures: true' and 'why' belong together"),
        ("name: BERT-CRF,", "name: BERT,", r"two rows are called 'BERT'"),
        ("table1.csv", "table9.csv", r"table9\.csv: No such file"),
        ("note: of a test\n", "note: of a test\ndiffers: [corpus: tweets]\n", r"differs\[0\] must be a text, got \{"),
        (
            "plugin: bert}",
            "plugin: bert, only: [mimi], why: x}",
            r"rows\[1\] \(BERT-CRF\): no profile 'mimi'\. Did you mean 'mini'",
        ),
    ],
)
def test_a_mistake_in_a_file_is_said_in_one_line(folder: Path, old: str, new: str, said: str) -> None:
    assert old in TABLE
    path = folder / "paper" / "table1.yaml"
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(DataError, match=said) as caught:
        experiment_files.load(path, folder)
    assert "\n" not in str(caught.value)
    assert "table" in str(caught.value)


def test_a_sweep_has_no_means_since_its_lines_are_rows_in_groups(folder: Path) -> None:
    path = folder / "paper" / "sweep.yaml"
    group = "  - {name: T15, corpus: twitter2015}\n"
    assert group in SWEEP
    path.write_text(SWEEP.replace(group, f"{group}  - {{name: Mean, mean: [T15]}}\n"))
    with pytest.raises(DataError, match="groups of a sweep are corpora, not means"):
        experiment_files.load(path, folder)


@pytest.mark.parametrize("values", ["[[1, 2], [1, 2]]", "[0.2, 0.2]", "[]"])
def test_values_of_a_sweep_are_some_and_different(folder: Path, values: str) -> None:
    path = folder / "paper" / "sweep.yaml"
    path.write_text(SWEEP.replace("[0.0, 0.1, 0.2, 0.3, 0.4]", values))
    with pytest.raises(DataError, match="values must be some, and different"):
        experiment_files.load(path, folder)
    path.write_text(SWEEP.replace("[0.0, 0.1, 0.2, 0.3, 0.4], best: 0.2", "[[8], [8, 9]]"))
    sweep = experiment_files.load(path, folder).sweep
    assert sweep is not None and sweep.values == ([8], [8, 9])


def test_a_sweep_has_no_baseline_since_its_lines_are_rows_in_groups(folder: Path) -> None:
    path = folder / "paper" / "sweep.yaml"
    name = experiment_files.load(path, folder).rows[0].name
    path.write_text(f"{SWEEP.rstrip()}\nbaseline: {name}\n")
    with pytest.raises(DataError, match="baseline: a sweep has none"):
        experiment_files.load(path, folder)


def test_patterns_name_experiments(known: dict[str, Experiment]) -> None:
    names = [each.name for each in experiment_files.matching(["gmf/table*", "mousing/table2"], known)]
    assert names == ["gmf/table2", "gmf/table3", "gmf/table4", "mousing/table2"]
    assert {each.paper for each in experiment_files.matching(["gei"], known)} == {"gei"}
    assert len(experiment_files.matching([], known)) == len(known)
    with pytest.raises(UsageError, match=r"no experiment matches 'mousng'.*Did you mean 'mousing'"):
        experiment_files.matching(["mousng"], known)


def test_few_points_of_a_sweep_are_its_ends_and_the_best() -> None:
    values = tuple(range(1, 11))
    assert Sweep(option="model.x", values=values, best=6).points(3) == (1, 6, 10)
    assert Sweep(option="model.x", values=values, best=1).points(3) == (1, 5, 10)
    assert Sweep(option="model.x", values=values, best=None).points(3) == (1, 5, 10)
    assert Sweep(option="model.x", values=values, best=10).points(2) == (1, 10)
    assert Sweep(option="model.x", values=values, best=6).points(None) == values
    assert Sweep(option="model.x", values=(1, 2), best=1).points(3) == (1, 2)


def test_no_experiments_at_all_say_where_to_find_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--experiments DIR"):
        experiment_files.load_all(tmp_path)
