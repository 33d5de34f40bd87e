"""Sweeps: what is skipped, continued, isolated, refused, and written down."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main, reproduce
from mnerkit.errors import UsageError
from mnerkit.report.tables.table_file import read_table
from mnerkit.reproduce import cells as grid_cells
from mnerkit.reproduce.executors.tasks import Outcome, Task, complaint
from mnerkit.reproduce.sweep import Clock, duration_text, sweep_lock
from mnerkit.runs.run_folder import LOCK, RunFolder
from tests.reproduce.small import Pretend


@pytest.fixture
def sweep(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mnerkit reproduce` with an executor that trains nothing."""

    def go(executor: Pretend, *words: str) -> int:
        monkeypatch.setattr(reproduce, "_executor", lambda *_: executor)
        return main(["reproduce", "--experiments", str(folder), "--out", str(tmp_path / "out"), *words])

    return go


def table(tmp_path: Path, name: str = "paper/table1") -> dict[str, Any]:
    return json.loads((tmp_path / "out" / name / "table.json").read_text())


def test_runs_are_done_once_whatever_experiment_asks(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    first, second, third = Pretend(), Pretend(), Pretend()
    assert sweep(first, "paper/table1") == 0
    assert len(first.done) == 2
    assert sweep(second) == 0  # the sweep's middle is the table's BERT-CRF
    assert len(second.done) == 2
    assert not set(first.done) & set(second.done)
    capsys.readouterr()
    assert sweep(third) == 0
    assert third.done == []
    said = capsys.readouterr().out
    assert "4 runs are complete, 0 are left" in said
    assert sweep(third, "paper/table1", "--overwrite") == 0
    assert len(third.done) == 2


def test_the_table_holds_printed_figures_beside_the_folders_of_ours(sweep: Any, tmp_path: Path) -> None:
    assert sweep(Pretend(), "--seeds", "0", "1") == 0
    found = table(tmp_path)
    assert (found["format"], found["version"], found["experiment"]) == ("mnerkit-table", 1, "paper/table1")
    cells = {(cell["row"], cell["column"]): cell for cell in found["cells"]}
    assert len(cells) == 3 * 6 == len(found["cells"])
    cell = cells[0, 1]
    assert (cell["printed"], cell["printed_raw"], cell["state"]) == (2.5, "2.5", "done")
    for place in cell["runs"]:
        run = RunFolder((tmp_path / "out" / "paper" / "table1" / place).resolve())
        assert run.metrics()["test"]["f1"] == 50.0
    assert len(set(cell["runs"])) == 2
    assert (cells[1, 5]["of"], cells[1, 5]["value"], cells[1, 4]["value"]) == ([[1, 1], [1, 3]], 50.0, 25.0)
    assert (cells[2, 0]["state"], cells[2, 0]["why"], cells[2, 0]["runs"]) == ("printed_only", "UMT is not here", [])
    swept = table(tmp_path, "paper/sweep")
    assert swept["sweep"] == {"option": "model.dropout", "values": [0.0, 0.2, 0.4]}
    assert [column["name"] for column in swept["columns"]] == ["dropout = 0.0", "dropout = 0.2", "dropout = 0.4"]
    assert swept["rows"][0]["name"] == "BERT-CRF, T15"


def test_a_misprint_reaches_the_report_with_what_it_should_have_been(sweep: Any, folder: Path, tmp_path: Path) -> None:
    path = folder / "paper" / "table1.yaml"
    slip = "errata: [{row: UMT, column: T15 P, location: Table 1 UMT, corrected: 32}]\n"
    path.write_text(path.read_text() + slip)
    assert sweep(Pretend(), "paper/table1") == 0
    read = read_table(tmp_path / "out" / "paper" / "table1" / "table.json")
    (cell,) = [each for each in read.cells if each.erratum]
    assert (cell.row, cell.column, cell.printed, cell.corrected) == (2, 0, 21.0, 32.0)


def test_one_that_fails_is_told_and_the_rest_goes_on(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    assert sweep(Pretend(failing=["softmax"])) == 1
    said = capsys.readouterr()
    assert "failed: mnerkit: no memory" in said.out
    assert "1 of 4 runs failed" in said.out
    cells = {(cell["row"], cell["column"]): cell for cell in table(tmp_path)["cells"]}
    assert (cells[0, 0]["state"], cells[0, 0]["why"]) == ("failed", "mnerkit: no memory")
    assert (cells[0, 5]["state"], cells[1, 0]["state"]) == ("failed", "done")
    again = Pretend()
    assert sweep(again) == 0
    assert len(again.done) == 1


def test_one_of_which_nothing_is_heard_has_failed(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    class Silent(Pretend):
        def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
            yield from itertools.islice(super().run(tasks), 1)

    assert sweep(Silent(), "paper/table1") == 1
    said = capsys.readouterr().out
    assert "failed: nobody reported what became of it" in said and "1 of 2 runs failed" in said
    assert {cell["state"] for cell in table(tmp_path)["cells"]} == {"done", "failed", "printed_only"}


def test_one_whose_process_dies_after_its_figures_are_there_is_done(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    class Dying(Pretend):
        def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
            return (dataclasses.replace(outcome, error="it died") for outcome in super().run(tasks))

    assert sweep(Dying(), "paper/table1") == 0
    assert capsys.readouterr().out.count(": test F1 50.0, then it died (") == 2
    assert {cell["state"] for cell in table(tmp_path)["cells"]} == {"done", "printed_only"}
    # those that are done again may have died before they left anything
    assert sweep(Dying(), "paper/table1", "--overwrite") == 1


@pytest.mark.parametrize("after", range(5))
def test_a_sweep_that_is_stopped_anywhere_goes_on_and_repeats_nothing(sweep: Any, tmp_path: Path, after: int) -> None:
    stopped, rest = Pretend(stop_after=after), Pretend()
    assert sweep(stopped) == (130 if after < 4 else 0)
    states = {cell["state"] for cell in table(tmp_path)["cells"] if cell["row"] < 2}
    assert states == ({"done"} if after == 4 else {"missing"} if after == 0 else states)
    assert sweep(rest) == 0
    assert len(stopped.done) == after
    assert sorted({*stopped.done, *rest.done}) == sorted([*stopped.done, *rest.done])
    assert len(stopped.done) + len(rest.done) == 4
    assert {cell["state"] for cell in table(tmp_path)["cells"]} == {"done", "printed_only"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"dev": {"f1": 1.0}}', "metrics.json has no protocol"),
        (
            '{"protocol": {"corpus": "probe"}, "dev": 5, "test": 5}',
            "metrics.json is damaged: its 'test' holds no scores",
        ),
    ],
)
def test_a_damaged_or_half_written_run_is_done_again(
    sweep: Any, tmp_path: Path, capsys: Any, content: str, said: str
) -> None:
    sweep(Pretend(), "paper/table1")
    damaged = sorted((tmp_path / "out" / "runs").glob("*/*/*/metrics.json"))
    damaged[0].write_text("{")
    damaged[1].write_text(content)
    again = Pretend()
    capsys.readouterr()
    assert sweep(again, "paper/table1") == 0
    assert len(again.done) == 2
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith("; it is done again")]
    assert sum(f"{damaged[0]} is damaged: " in line for line in told) == 1
    assert sum(said in line for line in told) == 1 and len(told) == 2


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "env.json"])
def test_a_run_that_can_t_be_read_for_the_moment_fails_in_a_line_and_is_not_lost(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str
) -> None:
    sweep(Pretend(), "paper/table1")
    run = sorted((tmp_path / "out" / "runs").glob("*/*/*"))[0]
    (run / "env.json").write_text("{}")
    before = {path: path.read_bytes() for path in run.iterdir()}
    read = Path.open

    def refused(path: Path, *given: Any, **named: Any) -> Any:
        if path == run / name:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, *given, **named)

    capsys.readouterr()
    never, rest, again = Pretend(), Pretend(), Pretend()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused)
        assert sweep(never, "paper/table1") == 1
    said = f": {run / name} can't be read: Stale file handle; --overwrite does it again"
    assert [said in line for line in capsys.readouterr().out.splitlines()].count(True) == 2
    assert never.done == [] and {path: path.read_bytes() for path in run.iterdir()} == before
    assert sweep(rest, "paper/table1") == 0 and rest.done == []  # nothing was remembered of it
    grid_cells._read_once.cache_clear()
    count = itertools.count()

    def refused_once(path: Path, *given: Any, **named: Any) -> Any:
        # by the first two that look, and not by the one who decides
        if path == run / name and next(count) < 2:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused_once)
        assert sweep(again, "paper/table1") == 0
    assert again.done == [] and {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_folder_that_the_system_refuses_fails_in_a_line(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sweep(Pretend(), "paper/table1")
    run = sorted((tmp_path / "out" / "runs").glob("*/*/*"))[0]
    look = RunFolder.finished.fget
    assert look is not None

    def refused(folder: RunFolder) -> bool:
        if folder.path == run:
            raise OSError(errno.ESTALE, "Stale file handle")
        return look(folder)

    capsys.readouterr()
    monkeypatch.setattr(RunFolder, "finished", property(refused))
    never = Pretend()
    assert sweep(never, "paper/table1") == 1 and never.done == []
    assert f"run {run} can't be read: Stale file handle; --overwrite does it again" in capsys.readouterr().out


def test_the_page_keeps_the_tables_of_earlier_sweeps_into_the_folder(sweep: Any, tmp_path: Path) -> None:
    assert sweep(Pretend(), "paper/table1") == 0
    assert sweep(Pretend(), "paper/sweep") == 0
    tables = tmp_path / "out" / "report" / "tables" / "paper"
    assert {path.stem for path in tables.glob("*.csv")} == {"table1", "sweep"}
    assert "50" in (tables / "table1.csv").read_text()


def test_what_a_kill_leaves_in_a_finished_run_goes_with_the_next_sweep(sweep: Any, tmp_path: Path) -> None:
    """What it would be continued from, and its lock, where the kill came between its last file and its end."""
    sweep(Pretend(), "paper/table1")
    run, other = (RunFolder(path) for path in sorted((tmp_path / "out" / "runs").glob("*/*/*"))[:2])
    run.last.write_bytes(b"thrice the weights")
    for folder in (run, other):
        (folder.path / LOCK).write_text("process 1 on elsewhere\n")
    assert sweep(Pretend(), "paper/table1") == 0
    for folder in (run, other):
        assert folder.finished and not folder.last.exists() and not (folder.path / LOCK).exists()


@pytest.mark.parametrize("name", ["config.yaml", "env.json"])
def test_a_run_that_no_report_can_read_is_done_again(sweep: Any, tmp_path: Path, name: str) -> None:
    sweep(Pretend(), "paper/table1")
    run = sorted((tmp_path / "out" / "runs").glob("*/*/*"))[0]
    (run / name).write_text("{")
    again = Pretend()
    assert sweep(again, "paper/table1") == 0
    assert again.done == [run.name]


def test_a_run_without_the_file_that_another_one_reads_is_done_again(
    sweep: Any, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    first = "bilstm: {first: {plugin: bert, file: relevance.jsonl, option: data.relevance}}"
    profile, experiment = folder / "profiles" / "mini.yaml", folder / "paper" / "table1.yaml"
    profile.write_text(profile.read_text().replace("bilstm: {}", first))
    rows = experiment.read_text().replace("plugin: bert, ablation: softmax", "missing: left out of this test")
    experiment.write_text(rows.replace("plugin: bert}", "plugin: bilstm}"))
    out = tmp_path / "out"

    class Forgetful(Pretend):
        def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
            for outcome in super().run(tasks):
                lose("relevance.jsonl", "*")
                yield outcome

    def lose(name: str, plugin: str) -> None:
        for path in out.glob(f"runs/{plugin}/*/*/{name}"):
            path.unlink()

    assert sweep(Pretend(), "paper/table1") == 0
    needed, reader = (next(out.glob(f"runs/{plugin}/*/*")).name for plugin in ("bert", "bilstm"))
    lose("relevance.jsonl", "bert")
    never, again, forgetful = Pretend(), Pretend(), Forgetful()
    assert sweep(never, "paper/table1") == 0 and never.done == []  # the one that reads it is complete
    lose("metrics.json", "bilstm")
    assert sweep(again, "paper/table1") == 0 and again.done == [needed, reader]
    lose("relevance.jsonl", "bert")
    lose("metrics.json", "bilstm")
    capsys.readouterr()
    assert sweep(forgetful, "paper/table1") == 1 and forgetful.done == [needed]
    assert "failed: the run that it needs failed: it left no relevance.jsonl" in capsys.readouterr().out


def test_a_run_of_another_version_fails_in_a_line_and_is_not_lost(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    sweep(Pretend(), "paper/table1")
    run = sorted((tmp_path / "out" / "runs").glob("*/*/*"))[0]
    (run / "env.json").write_text('{"mnerkit": "99.1.0"}')
    before = {path: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()
    never = Pretend()
    assert sweep(never, "paper/table1") == 1
    said = f": run {run} was written by mnerkit 99.1.0; this is 0.1.0; --overwrite does it again"
    assert [said in line for line in capsys.readouterr().out.splitlines()].count(True) == 2  # when, and at the end
    assert never.done == [] and {path: path.read_bytes() for path in run.iterdir()} == before
    assert "failed" in {cell["state"] for cell in table(tmp_path)["cells"]}
    again = Pretend()
    assert sweep(again, "paper/table1", "--overwrite") == 0
    assert len(again.done) == 2


def test_what_is_no_report_or_no_folder_is_told_before_the_runs(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "out" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    never = Pretend()
    assert sweep(never) == 2
    assert capsys.readouterr().err == f"mnerkit: {page} is there and is no report's; give another --out\n"
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    assert sweep(never) == 2
    assert capsys.readouterr().err == f"mnerkit: --out {tmp_path / 'out'} is a file; give a folder\n"
    assert never.done == []


def test_dry_run_lists_runs_and_commands_and_writes_nothing(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    sweep(Pretend(), "paper/table1")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    never = Pretend()
    assert sweep(never, "--dry-run", "--jobs", "2") == 0
    said = capsys.readouterr().out
    assert never.done == []
    assert sorted(tmp_path.rglob("*")) == before
    assert "4 runs fill 11 cells of 2 experiments, each at most one step" in said
    assert "2 runs are complete, 2 are left: about 2 s with 2 processes" in said
    states = [line.split()[3] for line in said.splitlines() if line.split()[1:2] == ["bert"]]
    assert sorted(states) == ["complete", "complete", "new", "new"]
    assert max(map(len, said.splitlines())) <= 100
    assert sweep(never, "--commands") == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 2 and never.done == [] and sorted(tmp_path.rglob("*")) == before
    assert all(line.startswith("mnerkit fit --plugin bert ") and "--model.dropout" in line for line in commands)


def test_a_second_sweep_in_one_folder_is_refused_in_a_line(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out").mkdir()
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mnerkit.reproduce.sweep import sweep_lock\n"
        "with sweep_lock(Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        never = Pretend()
        assert sweep(never) == 2
        said = capsys.readouterr().err
        assert f"another sweep is writing there (process {other.pid}" in said
        assert said.count("\n") == 1
        assert never.done == []
    finally:
        other.kill()
        other.wait()
    assert sweep(Pretend()) == 0  # the lock went with the process


def test_alone_lets_other_mistakes_through(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"), sweep_lock(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--executor", "rya"], "no executor 'rya': local, ray. Did you mean 'ray'?"),
        (["--ray-address", "auto"], "--ray-address is an option of --executor ray"),
        (["--root", "/nowhere/at/all"], "there is no such folder"),
        (["--job", "2"], "no option '--job' of mnerkit reproduce. Did you mean '--jobs'"),
        (["--jobs", "0"], "whole number above 0"),
        (["--seeds", "-1"], "--seeds"),
        (["nothing/here"], "no experiment matches 'nothing/here'"),
        (["--profile", "tweet"], "no profile 'tweet'"),
        (
            ["--root", "."],
            "--root has no effect: in profile mini no run of these experiments has a corpus below it; leave",
        ),
        (
            ["--tower", "roberta-large"],
            "--tower has no effect: in profile mini no run of these experiments leaves that tower",
        ),
        (["--vision", "resnet50"], "--vision has no effect"),
    ],
)
def test_a_wrong_option_is_one_clear_line(sweep: Any, capsys: Any, words: list[str], said: str) -> None:
    assert sweep(Pretend(), *words) == 2
    assert said in capsys.readouterr().err


def test_a_root_without_the_corpora_is_one_line(sweep: Any, folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = folder / "profiles" / "mini.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("corpora:")] + text[text.index("options:") :])
    assert sweep(Pretend(), "--root", str(tmp_path)) == 1
    assert "no annotation files of twitter2015" in capsys.readouterr().err
    table1 = folder / "paper" / "table1.yaml"
    table1.write_text(table1.read_text().replace("corpus: twitter2015", "corpus: twiter2015"))
    assert sweep(Pretend(), "paper/table1", "--root", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"mnerkit: {table1}: BERT, T15: no corpus 'twiter2015'") and said.count("\n") == 1


def test_estimates_come_from_what_runs_took() -> None:
    class Run:
        def __init__(self, plugin: str) -> None:
            self.plugin = plugin

    runs: Any = [Run("bert"), Run("gei")]
    assert Clock().left(runs) is None
    assert Clock(guess=10, jobs=2).left(runs) == 10
    clock = Clock(guess=10, jobs=1)
    clock.note("bert", 2)
    clock.note("bert", 4)
    assert clock.left(runs) == 6  # gei as long as runs are on average
    clock.note("gei", 30)
    assert clock.left(runs) == 33
    assert (duration_text(30), duration_text(600), duration_text(7200)) == ("about 30 s", "about 10 min", "about 2.0 h")


def test_a_complaint_is_what_mnerkit_said_or_the_last_line() -> None:
    assert complaint("noise\nmnerkit: no boxes.\nGive some.\n") == "mnerkit: no boxes. Give some."
    crash = "Traceback (most recent call last):\n  File ...\nValueError: x\n"
    assert complaint(crash) == "ValueError: x"
    assert complaint(f"mnerkit: no best.ckpt; the run begins anew\nEpoch 0\n{crash}") == "ValueError: x"
    assert complaint("mnerkit: " + "long " * 1000).startswith("mnerkit: long long")
    assert len(complaint("mnerkit: " + "long " * 1000)) == len(complaint("x" * 9999)) == 504
