"""Benchmarks made of cells: what is run again, and that every system's command is one of mnerkit's."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mnerkit.atomic_files import write_json, write_lines, write_text
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.reproduce.experiments import experiment_files, profiles
from mnerkit.reproduce.grid import Builder
from mnerkit.reproduce.training import text_of
from mnerkit.runs import identity
from mnerkit.runs.config.configuration import filled
from mnerkit.runs.run_folder import as_written
from tests.reproduce.small import EXPERIMENTS, alive, within

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("bench_quality", "cells", "bench_methods", "bench_fewshot"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("bench_methods")
    # no weights are read
    for each in (module, sys.modules["cells"]):
        monkeypatch.setattr(each, "minilm", lambda: Path("minilm"))
    return module


def row(methods: Any, system: str, seed: int, counts: list[list[int]], digest: str = "d") -> dict[str, Any]:
    gold, said, right = (sum(each) for each in zip(*counts, strict=True))
    f1 = 200 * right / (gold + said)
    found = {"f1": f1, "f1_strict": f1, "type/PER/f1": f1}
    cell = {"system": system, "seed": seed, "digest": digest, "seconds": 1.0, "seconds_cpu": 1.0}
    return {**cell, "dev": found, "test": found, "counts": sys.modules["cells"].packed(counts)}


def test_every_system_of_bench_methods_is_a_command_that_resolves(methods: Any) -> None:
    bench = methods.Bench("twitter2017", "data", "runs")
    for cell in methods.all_cells(list(methods.SYSTEMS), [1]):
        config = bench.config(cell)
        assert config["seed"] == 1
        assert (config["model"]["tower_lr"], config["model"]["head_lr"]) == (1e-4, 2e-3)
        assert config["trainer"]["max_epochs"] == 5
        assert config["model"].get("vision", "captions") == "captions"
        assert config["data"]["limit"] is None
    tried = methods.Bench("twitter2017", "data", "runs", 1, 32).config(methods.Cell("gei", 0))
    assert (tried["trainer"]["max_epochs"], tried["data"]["limit"]) == (1, 32)


def test_a_digest_is_of_what_decides_figures_and_not_of_where_things_lie(methods: Any) -> None:
    def digest(system: str = "bert", seed: int = 0, root: str = "data", runs: str = "runs", **more: Any) -> str:
        return methods.Bench("probe", root, runs, **more).digest(methods.Cell(system, seed))

    assert digest() == digest(root="elsewhere", runs="there")
    others = [digest(), digest("gei"), digest(seed=1), digest(epochs=1), digest(limit=8)]
    assert len(set(others)) == len(others)


def test_a_trained_tower_is_told_by_its_training(methods: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fewshot = importlib.import_module("bench_fewshot")
    monkeypatch.setattr(fewshot, "minilm", lambda: Path("minilm"))
    cell = fewshot.Cell("nearest", "Per+Loc", 0, "total")

    def digest(kind: str = "trained", runs: str = "runs") -> str:
        return fewshot.Bench("probe", "data", runs, kind).digest(cell)

    assert digest() == digest(runs=str(tmp_path)) != digest("frozen")
    before = digest()
    monkeypatch.setitem(fewshot.TRAINING, "--trainer.max_epochs", "3")
    assert digest() != before


def test_a_tower_and_the_systems_on_it_learn_from_different_halves(
    methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewshot = importlib.import_module("bench_fewshot")
    monkeypatch.setattr(fewshot, "minilm", lambda: Path("minilm"))
    trained, frozen = (fewshot.Bench("probe", "data", "runs", kind, 60) for kind in ("trained", "frozen"))
    tower = configuration_of(trained.training("Per+Loc")).content["data"]
    assert (tower["train_on"], tower["dis_fraction"], tower["limit"]) == ("d_dis", 0.5, 60)
    for system in fewshot.SYSTEMS:
        cell = fewshot.Cell(system, "Per+Loc", 0, "total")
        data = trained.config(cell)["data"]
        assert (data["train_on"], data["dis_fraction"], data["dis_seed"]) == ("d_model", 0.5, tower["dis_seed"])
        assert frozen.config(cell)["data"]["train_on"] == "all_train"
        assert re.fullmatch(r"[a-z0-9-]+-Per\+Loc-total-s0", cell.name)


def test_counts_come_back_as_they_were_packed(methods: Any) -> None:
    counts = [[2, 1, 1], [0, 0, 0], [13, 12, 11]]
    cells = sys.modules["cells"]
    assert cells.unpacked(cells.packed(counts)) == counts
    assert cells.side_by_side("a and b", cells.packed([[2, 1, 0]]), cells.packed([[2, 3, 2]])) == [[2, 1, 0, 3, 2]]
    with pytest.raises(SystemExit, match="a and b"):
        cells.side_by_side("a and b", cells.packed([[2, 1, 0]]), cells.packed([[1, 1, 0]]))
    with pytest.raises(SystemExit, match="a and b"):
        cells.side_by_side("a and b", cells.packed([[2, 1, 0]]), cells.packed([[2, 1, 0], [2, 1, 0]]))
    assert cells.over_seeds("a", [[[2, 1, 0, 3, 2], [1, 1, 1, 0, 0]], [[2, 2, 2, 2, 1], [1, 0, 0, 1, 1]]]) == [
        [4, 3, 2, 5, 3],
        [2, 1, 1, 1, 1],
    ]
    with pytest.raises(SystemExit, match="the seeds of a"):
        cells.over_seeds("a", [[[2, 1, 0, 3, 2]], [[1, 1, 0, 3, 1]]])


class InProcess:
    def Pool(self, processes: int) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def imap_unordered(self, function: Any, tasks: list[Any]) -> Any:
        return map(function, tasks)


def test_a_cell_is_run_again_only_when_its_digest_changed(
    methods: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, ran = sys.modules["cells"], []

    def run(task: tuple[Any, Any, str]) -> dict[str, Any]:
        _, cell, digest = task
        ran.append(cell.system)
        made = row(methods, cell.system, cell.seed, [[1, 1, 1]], digest)
        return {**made, "error": "no memory"} if cell.system == "gmf" else made

    monkeypatch.setattr(cells, "run", run)
    monkeypatch.setattr(cells.multiprocessing, "get_context", lambda kind: InProcess())
    monkeypatch.setattr(methods.Bench, "digest", lambda self, cell: "new")
    path = tmp_path / "rows.jsonl"
    write_lines(
        path,
        [row(methods, "bert", 0, [[1, 0, 0]], "new"), row(methods, "gei", 0, [[1, 0, 0]], "old")],
    )
    bench = methods.Bench("twitter2017", "data", "runs")
    wanted = methods.all_cells(["bert", "gmf", "gei", "gifr"], [0])
    done = cells.sweep(bench, wanted, path, 1)
    assert ran == ["gmf", "gei", "gifr"]
    assert {cell.system for cell in done} == {"bert", "gei", "gifr"}
    rows = {each["system"]: each for each in cells.read_rows(path)}
    assert {name: each["test"]["f1"] for name, each in rows.items()} == {"bert": 0.0, "gei": 100.0, "gifr": 100.0}
    cells.sweep(bench, wanted, path, 1)
    assert ran == ["gmf", "gei", "gifr", "gmf"]


@pytest.mark.parametrize("other", [None, "gmf"])
def test_rows_of_other_sources_are_taken_over_when_some_of_them_find_the_same(
    methods: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    cells, ran = sys.modules["cells"], []

    def run(task: tuple[Any, Any, str]) -> dict[str, Any]:
        _, cell, digest = task
        ran.append(cell.system)
        counts = [[1, 1, 0 if cell.system == other else 1]]
        return {**row(methods, cell.system, cell.seed, counts, digest), "seconds": 7.0, "seconds_train": 5.0}

    monkeypatch.setattr(cells, "run", run)
    monkeypatch.setattr(cells.multiprocessing, "get_context", lambda kind: InProcess())
    monkeypatch.setattr(methods.Bench, "digest", lambda self, cell: "new")
    path = tmp_path / "rows.jsonl"
    before = [row(methods, system, seed, [[1, 1, 1]], "old") for system in ("gmf", "gei") for seed in (0, 1, 2)]
    before.append(row(methods, "bert", 0, [[1, 1, 1]], "new"))
    write_lines(path, before)
    bench = methods.Bench("twitter2017", "data", "runs")
    cells.recheck(bench, path, 2, 1)
    assert sorted(ran) == ["gei", "gmf"]  # one of each system before a second one of any
    after = list(cells.read_rows(path))
    # of a system that found other figures nothing is taken over
    assert after == [
        each if each["digest"] == "new" or each["system"] == other else {**each, "digest": "new", "measured": "old"}
        for each in before
    ]
    cells.recheck(bench, path, 2, 1)
    assert len(ran) == (4 if other else 2)  # a current row is not run


@pytest.mark.parametrize(
    ("said", "raised", "error"),
    [
        ("a warning\nmnerkit: no corpus x.\nGive --data.root.\n", None, "mnerkit: no corpus x. Give --data.root."),
        ("epoch 1\nsegmentation fault\n", None, "segmentation fault"),
        ("", None, "exit code 2"),
        ("", RuntimeError("out of memory,\n tried 2 GiB"), "RuntimeError: out of memory, tried 2 GiB"),
    ],
)
def test_a_failed_cell_keeps_what_it_complained_of_and_stops_no_other(
    methods: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, raised: Exception | None, error: str
) -> None:
    def failing(argv: list[str]) -> int:
        print(said, end="", file=sys.stderr)
        if raised is not None:
            raise raised
        return 2

    monkeypatch.setattr("mnerkit.cli.main", failing)
    bench, cell = methods.Bench("twitter2017", "data", str(tmp_path)), methods.Cell("gei", 1)
    found = sys.modules["cells"].run((bench, cell, "d"))
    assert found.pop("seconds") >= 0 and found.pop("seconds_cpu") >= 0
    assert found == {"system": "gei", "seed": 1, "digest": "d", "error": error}


def test_the_report_sets_each_method_against_bert_by_seed_and_together(methods: Any) -> None:
    few, more = [[2, 2, 1], [1, 1, 1]], [[2, 2, 2], [1, 1, 1]]
    rows = [row(methods, "bert", 0, few), row(methods, "bert", 1, few)]
    rows += [row(methods, "gei", 0, more), row(methods, "gei", 1, few), row(methods, "gifr", 1, more)]
    said = methods.report({methods.Cell.of(each): each for each in rows}, list(methods.SYSTEMS), [0, 1])
    lines = [line for line in said.split("\n") if " - bert, " in line]
    assert [line.partition(" F1")[0] for line in lines] == [
        "gei@captions - bert, seed 0: +33.33",
        "gei@captions - bert, seed 1: +0.00",
        "gei@captions - bert, seeds 0 1 together: +16.67",
        "gifr@captions - bert, seed 1: +33.33",
    ]
    gei, claims = (line.split() for line in said.split("\n") if line.startswith("gei@captions  "))
    assert gei[1:4] == ["83.33", "100.00", "66.67"]
    # one claim was tested, and of a method with one seed none
    assert " ".join(claims[1:]).startswith("not run no: +16.67 +- ") and claims[-3:-1] == ["not", "run"]
    assert any(line.split() == ["gifr@captions", *["not", "run"] * 3] for line in said.split("\n"))


def of_profile(row: str, group: str, root: Path) -> dict[str, Any]:
    """The configuration of a row of an experiment on a corpus, as profile tweets would run it."""
    name, _, wanted = row.partition(": ")
    experiment = experiment_files.load(EXPERIMENTS / f"{name}.yaml", EXPERIMENTS)
    (chosen,) = [each for each in experiment.rows if each.name == wanted]
    (column,) = [each for each in experiment.groups if each.name == group]
    builder = Builder(profiles.load("tweets", EXPERIMENTS), root=str(root), tower="minilm")
    options = builder.overrides(experiment, chosen, column, {})
    words = [word for key, value in options.items() for word in (f"--{key}", text_of(value))]
    return configuration_of(["fit", "--plugin", chosen.plugin or "", *words]).content


def same_settings(one: dict[str, Any], other: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Equal settings, apart from some of the data, and from the profile's six pieces of a word."""
    mine, yours = (identity.canonical({**each, "seed": 0}) for each in (one, other))
    assert (mine["model"].pop("word_pieces"), yours["model"].pop("word_pieces", None)) == (6, None)
    assert mine["model"] == yours["model"] and mine["trainer"] == yours["trainer"]
    left = [{key: value for key, value in each["data"].items() if key not in but} for each in (mine, yours)]
    assert left[0] == left[1]


@pytest.mark.parametrize(
    ("system", "row"),
    [
        ("MOUSING (as printed)", "mousing/table2: MOUSING (as printed)"),
        ("MOUSING (ours)", "mousing/table2: MOUSING (ours)"),
        ("ProtoHVPNet@captions", "mousing/table2: ProtoHVPNet"),
        ("ProtoUMGF@captions", "mousing/table2: ProtoUMGF"),
        ("UMT@captions", "mousing/table2: UMT"),
        ("MOUSING", "mousing/table3: MOUSING (full)"),
        ("w/o Image", "mousing/table3: w/o Image"),
        ("w/o Intervention", "mousing/table3: w/o Intervention"),
        ("w/o Multi-view", "mousing/table3: w/o Multi-view"),
        ("w/o MCIS", "mousing/table3: w/o MICS"),
        ("prototype", "mousing/table2: ProtoBERT"),
        ("nearest", "mousing/table2: NNshot"),
        ("struct", "mousing/table2: Structshot"),
        ("finetune", "mousing/table2: BERT"),
    ],
)
def test_profile_tweets_has_the_settings_of_bench_fewshot(methods: Any, tmp_path: Path, system: str, row: str) -> None:
    fewshot = importlib.import_module("bench_fewshot")
    cell = fewshot.Cell(system, "Per+Loc", 0, "total")
    theirs = fewshot.Bench("twitter2017", str(tmp_path), "runs", "frozen").config(cell)
    # types in their two spellings; what only methods that learn from episodes read
    but = ("train_types", "test_types", "episodes_per_epoch")
    same_settings(of_profile(row, "Twitter-2017 Per+Loc", tmp_path), theirs, but)


@pytest.mark.parametrize(
    ("system", "row"),
    [
        ("bert", "gmf/table3: BERT-CRF"),
        ("captions", "gei/table1: Captions"),
        ("hvpnet", "mgips_cl/table2: HVPNet"),
        ("gmf", "gmf/table4: GMF"),
        ("mgips_cl", "mgips_cl/table3: MGIPS-CL"),
        ("gei", "gei/table1: GEI"),
    ],
)
def test_profile_tweets_has_the_settings_of_bench_methods(methods: Any, tmp_path: Path, system: str, row: str) -> None:
    theirs = methods.Bench("twitter2017", str(tmp_path), "runs").config(methods.Cell(system, 0))
    ours = of_profile(row, "Twitter-2017", tmp_path)
    assert (ours["trainer"].pop("max_epochs"), theirs["trainer"].pop("max_epochs")) == (2, 5)  # 90 minutes in all
    assert (ours["data"].pop("batch_size"), theirs["data"].pop("batch_size")) == (32, 16)
    if system == "gei":  # predicted spans in the last epoch
        assert (ours["model"].pop("ss_end"), theirs["model"].pop("ss_end")) == (2, 4)
    if system == "captions":  # that of bench_quality; bench_methods leaves the default
        assert (ours["model"].pop("agreement"), theirs["model"].pop("agreement")) == (1.0, 0.0)
    same_settings(ours, theirs)


# ---------------------------------------------------------------- results of an earlier identity


@pytest.fixture
def carry_over(methods: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delitem(sys.modules, "carry_over", raising=False)
    return importlib.import_module("carry_over")


def test_kept_runs_get_today_s_digest_where_they_read_what_is_here(carry_over: Any, tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("ada 1 2\n")
    short = {"plugin": "bilstm", "seed": 3, "model": {"vectors": "<root>/vectors.txt", "head": {"name": "softmax"}}}
    (tmp_path / "bare.yaml").write_text("defaults: false\n")
    words = ["fit", "--plugin", "bilstm", "--seed", "3", "--config", str(tmp_path / "bare.yaml")]
    words += ["--model.vectors", str(tmp_path / "vectors.txt"), "--model.head", "softmax"]
    config = configuration_of(words).content
    kept = tmp_path / "kept"
    for name, reads in (("old", identity.reads_of(config)), ("other", "of other data")):
        content = {"format": "mnerkit-kept", "version": 1, "digest": name, "reads": reads, "config": short}
        write_json(kept / f"bilstm-probe-s3-{name}.json", {**content, "said": "kept as it is"})
    (carried, left) = carry_over.carry_kept(kept, {"<root>": str(tmp_path)})
    assert (carried, left) == (1, ["bilstm-probe-s3-other.json: of other data or weights than those that are here"])
    digest = identity.digest_of(config)
    assert {path.name for path in kept.iterdir()} == {f"bilstm-probe-s3-{name}.json" for name in (digest, "other")}
    found = json.loads((kept / f"bilstm-probe-s3-{digest}.json").read_text())
    assert (found["digest"], found["said"]) == (digest, "kept as it is")
    assert found["config"]["model"]["vectors"] == "<root>/vectors.txt"
    assert found["config"]["model"]["head"] == config["model"]["head"]
    assert carry_over.carry_kept(kept, {"<root>": str(tmp_path)})[0] == 1  # once more changes nothing
    assert json.loads((kept / f"bilstm-probe-s3-{digest}.json").read_text()) == found


def test_rows_of_cells_are_carried_over_where_they_were_up_to_date_and_are_configured_as_before(
    carry_over: Any, methods: Any, tmp_path: Path
) -> None:
    bench = methods.Bench("probe", "data", "runs")
    path = tmp_path / "rows.jsonl"
    before = [row(methods, system, 0, [[1, 1, 1]], f"{system} old") for system in ("bert", "gei", "gmf", "gifr")]
    before[0]["measured"] = "older"
    write_lines(path, before)
    noted = {
        cell.name: {"digest": f"{cell.system} old", "typed": carry_over.trained_by(bench, cell, dict)}
        for cell in methods.all_cells(["bert", "gei", "gmf"], [0])
    }
    noted["gei-s0"]["digest"] = "another"
    noted["gmf-s0"]["typed"][0]["model"]["tau"] = 0.5
    assert carry_over.carry_cells(bench, path, noted) == (1, 2, 1)
    after = list(sys.modules["cells"].read_rows(path))
    assert after[1:] == before[1:]
    assert after[0] == {**before[0], "digest": bench.digest(methods.Cell("bert", 0)), "measured": "older"}


def test_kept_runs_on_tweets_hold_every_option_s_value() -> None:
    """So that a default that changes does not change what they were; nor does an option that came later."""
    files = sorted((BENCHMARKS / "results" / "tweets").glob("*.json"))
    contents = [json.loads(path.read_text("utf-8")) for path in files]
    assert len(files) == 146
    assert all(path.stem.endswith(f"-{each['digest']}") for path, each in zip(files, contents, strict=True))
    for content in contents:
        assert identity.without_later(as_written(filled(content["config"]))) == content["config"]


# ---------------------------------------------------------------- a sweep that is killed


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_sweep_kills")


def swept(out: Path, name: str, f1: float = 50.0, runs: tuple[str, ...] = ("a", "b")) -> Path:
    """A sweep that came to its end, as far as is looked at."""
    for run in runs:
        place = out / "runs" / "bilstm" / "probe-default" / run
        place.mkdir(parents=True)
        for file in ("config.yaml", "env.json", "predictions.dev.jsonl", "predictions.test.jsonl", "best.ckpt"):
            (place / file).write_text(file)
        write_json(place / "metrics.json", {"test": {"f1": f1}, "seconds": {"train": len(out.name)}})
    write_json(out / name / "table.json", {"cells": [{"state": "done", "runs": [run]} for run in runs]})
    for suffix in ("md", "tex"):
        write_text(out / "report" / "tables" / f"{name}.{suffix}", f"{f1:.1f}")
    return out


def test_what_a_kill_did_to_a_sweep_is_found(kills: Any, tmp_path: Path) -> None:
    whole = swept(tmp_path / "whole", kills.NAME)
    same = swept(tmp_path / "same", kills.NAME)
    before = kills.states(same)
    assert all(each.figures for each in before.values()) and len(before) == 2
    assert kills.faults(before, same, whole) == []
    run = same / "runs" / "bilstm" / "probe-default" / "a"
    (run / "metrics.json").write_bytes((run / "metrics.json").read_bytes() + b"\n")
    (run / ".lock").touch()
    assert kills.faults(before, same, whole) == [
        "bilstm/probe-default/a: complete before the kill, and touched after it",
        "runs/bilstm/probe-default/a/.lock: left behind",
    ]
    cut = {name: kills.State(None, {}) for name in before}  # begun, and not complete when it was killed
    assert kills.faults(cut, same, whole) == ["runs/bilstm/probe-default/a/.lock: left behind"]
    other = kills.faults({}, swept(tmp_path / "other", kills.NAME, 40.0), whole)
    assert [each.rpartition(": ")[2] for each in other] == ["other figures"] * 2 + [
        "not that of the undisturbed sweep"
    ] * 2
    double = kills.faults({}, swept(tmp_path / "double", kills.NAME, runs=("a", "b", "c")), whole)
    assert double[0] == "bilstm/probe-default/c: one too many" and double[1].startswith("table.json: ")
    lost = kills.faults({}, swept(tmp_path / "lost", kills.NAME, runs=("a",)), whole)
    assert lost[0] == "bilstm/probe-default/b: lost"


def test_a_sweep_ends_with_all_its_processes(kills: Any, tmp_path: Path) -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"
    with kills.begun([sys.executable, "-c", code], tmp_path / "log") as process:
        within(60, lambda: "up" in (tmp_path / "log").read_text())
    assert not alive(process.pid)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# ---------------------------------------------------------------- commands that are cut off


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The bench of a command that leaves one file."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    bench = importlib.import_module("bench_kills")
    places = bench.Places(tmp_path / "disk", tmp_path / "beside", tmp_path / "inputs")
    for folder in (places.disk, places.beside):
        folder.mkdir()
    log = tmp_path / "log"
    log.write_text("")
    (places.disk / "boxes.jsonl").write_text("whole")
    made = bench.Bench("objects", places, log, False, {})
    made.whole = {"result": made.command.result(places), "seconds": 1.0, "peak": 5}
    return made


def test_what_a_fault_did_to_a_command_is_found(cut_off: Any) -> None:
    bench = importlib.import_module("bench_kills")
    done = bench.Trial(0, 1.0)
    assert cut_off.wrong_result(done, {}) == []
    (cut_off.places.disk / "boxes.jsonl").write_text("half")
    (cut_off.places.disk / ".boxes.jsonl.part").touch()
    assert cut_off.wrong_result(done, {}) == ["another bytes", "another files", "left behind: .boxes.jsonl.part"]
    (cut_off.places.disk / "boxes.jsonl").unlink()
    cut_off.log.write_text("Traceback (most recent call last)")
    assert [each.partition(":")[0] for each in cut_off.wrong_result(bench.Trial(1, 1.0), {})] == [
        *("again", "again", "no result")
    ]


def test_a_command_must_end_as_its_fault_asks(cut_off: Any) -> None:
    line = "mnerkit: stopped"
    for fault, code in (("kill", -9), ("term", 143), ("interrupt", 130), ("full", 1), ("read-only", 1)):
        assert cut_off.wrong_end(fault, code, line) == []
        assert cut_off.wrong_end(fault, 0, line) == [f"exit code 0, not {code}"]
    assert cut_off.wrong_end("full", 1, "") == ["no line that says why"]
    crash = "Traceback (most recent call last)\nOSError: full"
    assert cut_off.wrong_end("kill", -9, crash) == ["a traceback: OSError: full"]
