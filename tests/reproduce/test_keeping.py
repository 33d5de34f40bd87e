"""Finished runs in a file: what comes back from it, what is done anew, and what the file does not hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.cli import main, performing, reproduce
from mnerkit.reproduce import identity
from mnerkit.reproduce.answers_kept import joined, parted, unpack
from mnerkit.reproduce.executors import Outcome, Task
from mnerkit.reproduce.keeping import Kept
from mnerkit.runs import RunFolder
from tests.reproduce.small import MINI, TABLE, Pretend


class Here:
    """An executor that does runs in this process."""

    jobs = 1

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        return map(performing.perform, tasks)


@pytest.fixture
def sweep(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mnerkit reproduce paper/table1 --keep kept.jsonl` of two short runs on tweets of a folder's own."""
    for name in ("twitter2015", "twitter2017"):
        corpus = tmp_path / "root" / name
        corpus.mkdir(parents=True)
        for split in ("train", "valid", "test"):
            posts = [f"IMGID:{split}{n}\nsecretly\tO\nAda\tB-PER\nleft\tO\n" for n in range(6)]
            (corpus / f"{split}.txt").write_text("\n".join(posts))
    rows = TABLE.replace("plugin: bert, ablation: softmax", "plugin: bilstm, ablation: softmax")
    (folder / "paper" / "table1.yaml").write_text(rows.replace("plugin: bert}", "missing: left out of this test}"))
    mini = MINI[: MINI.index("corpora:")] + MINI[MINI.index("options:") :]
    (folder / "profiles" / "mini.yaml").write_text(mini)

    def go(executor: Any, *words: str, out: str = "out", root: str = "root") -> int:
        monkeypatch.setattr(reproduce, "_executor", lambda *_: executor)
        argv = ["reproduce", "paper/table1", "--experiments", str(folder), "--keep", str(tmp_path / "kept.jsonl")]
        return main([*argv, "--root", str(tmp_path / root), "--out", str(tmp_path / out), *words])

    return go


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]


def content(tmp_path: Path, out: str) -> dict[str, bytes]:
    """What a report reads of the runs of a sweep."""
    files = ("metrics.json", "predictions.test.jsonl", "curve/metrics.csv")
    runs = sorted((tmp_path / out / "runs").glob("*/*/*"))
    return {f"{run.name} {name}": (run / name).read_bytes() for run in runs for name in files}


def test_what_is_kept_is_not_run_again_anywhere(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    assert sweep(Here()) == 0
    file = (tmp_path / "kept.jsonl").read_text()
    kinds = ["format" if "format" in line else "said" if "said" in line else "asked" for line in lines(tmp_path)]
    assert kinds == ["format", "asked", "said", "said"]  # the two were asked alike
    assert not [word for word in ("secretly", "Ada", str(tmp_path)) if word in file]
    shutil.copytree(tmp_path / "root", tmp_path / "elsewhere")
    capsys.readouterr()
    never = Pretend()
    assert sweep(never, "--dry-run", out="other", root="elsewhere") == 0
    assert "2 runs are complete, 0 are left" in capsys.readouterr().out
    assert not (tmp_path / "other").exists()
    assert sweep(never, out="other", root="elsewhere") == 0
    assert never.done == []
    assert "2 of the complete runs are restored" in capsys.readouterr().out
    assert content(tmp_path, "other") == content(tmp_path, "out") and len(content(tmp_path, "out")) == 6
    for name in ("paper/table1/table.json", "report/tables/paper/table1.md", "report/tables/paper/table1.csv"):
        mine, yours = ((tmp_path / out / name).read_text().replace(f"/{out}/", "/") for out in ("out", "other"))
        assert mine == yours, name
    (run, *_) = (tmp_path / "other" / "runs").glob("*/*/*")
    assert RunFolder(run).config()["data"]["root"] == str(tmp_path / "elsewhere")
    assert (tmp_path / "kept.jsonl").read_text() == file


def test_runs_that_were_finished_before_join_the_file(sweep: Any, tmp_path: Path) -> None:
    assert sweep(Pretend()) == 0
    file = (tmp_path / "kept.jsonl").read_text()
    (tmp_path / "kept.jsonl").unlink()
    never = Pretend()
    assert sweep(never) == 0
    assert never.done == [] and (tmp_path / "kept.jsonl").read_text() == file


def test_what_another_sweep_keeps_in_the_meantime_stays(tmp_path: Path) -> None:
    one, other = (Kept.read(tmp_path / "kept.jsonl", {}) for _ in range(2))
    one.rows["a"] = {"run": "bert probe s0", "digest": "a"}
    other.rows["b"] = {"run": "bert probe s1", "digest": "b"}
    one.write()
    other.write()
    one.write()
    assert sorted(Kept.read(tmp_path / "kept.jsonl", {}).rows) == ["a", "b"]


def test_a_run_of_older_sources_is_done_again_and_makes_room(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(Pretend()) == 0
    before = {line["digest"]: line["run"] for line in lines(tmp_path) if "digest" in line}
    monkeypatch.setattr(identity, "_sources", lambda plugin, head: "newer")
    assert sweep(Pretend(), out="newer") == 0
    after = {line["digest"]: line["run"] for line in lines(tmp_path) if "digest" in line}
    assert not before.keys() & after.keys()
    assert sorted(before.values()) == sorted(after.values()) == ["bilstm twitter2015 s0", "bilstm twitter2017 s0"]


def test_a_run_whose_file_another_one_reads_is_not_kept(sweep: Any, folder: Path, tmp_path: Path) -> None:
    first = "bilstm: {first: {plugin: bert, file: relevance.jsonl, option: data.relevance}}\n  bert: {}"
    path = folder / "profiles" / "mini.yaml"
    path.write_text(path.read_text().replace("bilstm: {}", first).replace("  bert: {}\n  bilstm", "  bilstm"))
    done = Pretend()
    assert sweep(done) == 0
    assert len(done.done) == 4
    assert [line["run"].split()[0] for line in lines(tmp_path) if "digest" in line] == ["bilstm", "bilstm"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("{}\n", "is no file of kept runs"),
        ('{"format": "mnerkit-kept", "version": 9}\n', "is of version 9"),
        ('{"format": "mnerkit-kept", "version": 1}\n[]\n', "kept.jsonl:2: no line of a kept run"),
    ],
)
def test_a_damaged_file_is_one_line_before_any_run(
    sweep: Any, tmp_path: Path, capsys: Any, text: str, said: str
) -> None:
    (tmp_path / "kept.jsonl").write_text(text)
    never = Pretend()
    assert sweep(never) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and never.done == []
    assert (tmp_path / "kept.jsonl").read_text() == text


def test_a_damaged_line_is_told_and_no_half_run_is_left(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    assert sweep(Here()) == 0
    file = tmp_path / "kept.jsonl"
    file.write_text(file.read_text().replace('"said": "', '"said": "!'))
    assert sweep(Pretend(), out="other") == 1
    told = capsys.readouterr().err
    assert "the line of run" in told and told.count("\n") == 1
    assert not list((tmp_path / "other").rglob("metrics.json"))


def test_the_figures_of_a_run_without_weights_are_told_and_not_tried(sweep: Any, folder: Path, capsys: Any) -> None:
    path = folder / "paper" / "table1.yaml"
    path.write_text(path.read_text() + "draw: [table, attention]\n")
    assert sweep(Pretend()) == 0
    capsys.readouterr()
    assert sweep(Pretend(), out="other") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("figure ")]
    assert len(told) == 2 and all("kept without weights" in line for line in told)


WORD = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.lists(WORD, min_size=1, max_size=6), st.data()), max_size=4))
def test_predictions_come_back_as_they_were(posts: list[Any]) -> None:
    words = {f"p{number}": each for number, (each, _) in enumerate(posts)}
    rows = []
    for (name, mine), (_, draw) in zip(words.items(), posts, strict=True):
        start = draw.draw(st.integers(0, len(mine) - 1))
        end = draw.draw(st.integers(start + 1, len(mine)))
        first = len(" ".join([*mine[:start], ""])) if start else 0
        text = " ".join(mine[start:end])
        spot = {"start": start, "end": end, "char_start": first, "char_end": first + len(text), "text": text}
        row = {"id": name, "words": mine, "entities": [{"type": "PER", **spot}], "gold": [[0, 1, "LOC"]]}
        episode = {"episode": 3, "types": ["LOC", "PER"], "support": ["p9", "p8"], "ignored": [1]}
        rows.append(row | (episode if draw.draw(st.booleans()) else {}))
    asked, said = parted(rows)
    assert joined(asked, said, words) == rows
    assert [list(row) for row in joined(asked, said, words)] == [list(row) for row in rows]  # in their order, too
    assert "text" not in json.dumps([unpack(asked), unpack(said)])
