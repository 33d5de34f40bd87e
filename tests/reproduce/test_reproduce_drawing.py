"""Figures after a sweep: each once, of runs that are complete, and one that fails stops nothing."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main, reproduce
from mnerkit.reproduce.executors.tasks import Outcome, Task
from mnerkit.runs import figure_file
from tests.reproduce.small import TABLE, Pretend


class Draws(Pretend):
    """Does runs in no time, and notes the figures that it is asked for; of some kinds it fails."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        super().__init__()
        self.unable = failing
        self.drawn: list[tuple[str, Path]] = []

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        yield from super().run([task for task in tasks if task.command[0] == "fit"])
        for task in tasks:
            verb, kind, run, *rest = task.command
            if verb != "draw":
                continue
            assert rest == ["--split", "test", "--overwrite"] and (Path(run) / "metrics.json").is_file()
            self.drawn.append((kind, Path(run)))
            if kind in self.unable:
                yield Outcome(task.name, 0.1, "mnerkit: nothing to draw")
                continue
            content: dict[str, Any] = {"about": "", "types": [], "points": [], "posts_read": 0}
            figure_file.write(Path(run), kind, "test", content if kind == "tsne" else {"about": "", "posts": []})
            yield Outcome(task.name, 0.1)


@pytest.fixture
def sweep(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mnerkit reproduce paper/table1`, which draws three kinds, with an executor that trains nothing."""
    (folder / "paper" / "table1.yaml").write_text(TABLE + "draw: [table, tsne, attention, cases]\n")

    def go(executor: Pretend, *words: str) -> int:
        monkeypatch.setattr(reproduce, "_executor", lambda *_: executor)
        out = str(tmp_path / "out")
        return main(["reproduce", "paper/table1", "--experiments", str(folder), "--out", out, *words])

    return go


def test_each_run_of_the_first_seed_is_drawn_once(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    first, second = Draws(), Draws()
    assert sweep(first, "--seeds", "0", "1") == 0
    said = capsys.readouterr().out
    # two rows, whose two corpora are one in this profile, two kinds that take a network
    assert len(first.done) == 4 and len(first.drawn) == len(set(first.drawn)) == 4
    assert {kind for kind, _ in first.drawn} == {"tsne", "attention"}
    assert "figure 4/4 " in said and ": drawn" in said
    table = json.loads((tmp_path / "out" / "paper" / "table1" / "table.json").read_text())
    folders = {
        (tmp_path / "out" / "paper" / "table1" / cell["runs"][0]).resolve() for cell in table["cells"] if cell["runs"]
    }
    assert {run.resolve() for _, run in first.drawn} == folders
    assert sweep(second, "--seeds", "0", "1") == 0
    assert second.done == [] and second.drawn == []
    damaged = figure_file.file_of(first.drawn[0][1], first.drawn[0][0], "test")
    damaged.write_text("{")
    assert sweep(third := Draws(), "--seeds", "0", "1") == 0
    assert third.drawn == first.drawn[:1] and figure_file.read(damaged)["kind"] == first.drawn[0][0]


def test_a_figure_that_fails_is_told_and_tried_again(sweep: Any, capsys: Any) -> None:
    assert sweep(Draws(failing=["tsne"])) == 0
    said = capsys.readouterr().out
    assert said.count("failed: mnerkit: nothing to draw") == 2 and said.count(": drawn") == 2
    again = Draws()
    assert sweep(again) == 0
    assert [kind for kind, _ in again.drawn] == ["tsne", "tsne"]


def test_runs_that_failed_are_not_drawn(sweep: Any) -> None:
    executor = Draws()
    executor.failing = ["softmax"]
    assert sweep(executor) == 1
    assert len(executor.drawn) == 2


def test_a_figure_that_does_not_exist_is_refused_with_the_nearest(sweep: Any, folder: Path, capsys: Any) -> None:
    (folder / "paper" / "table1.yaml").write_text(TABLE + "draw: [atention]\n")
    assert sweep(Draws()) == 1
    assert "no figure to draw 'atention'. Did you mean 'attention'?" in capsys.readouterr().err
