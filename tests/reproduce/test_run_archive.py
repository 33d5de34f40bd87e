"""Finished runs in a file: what comes back from it, what is done anew, and what the file does not hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.cli import main, reproduce
from mnerkit.data.corpus.post import Post
from mnerkit.reproduce import run_archive
from mnerkit.reproduce.executors.tasks import Outcome, Task, perform
from mnerkit.reproduce.run_archive import joined, parted, unpack
from mnerkit.runs import identity
from mnerkit.runs.run_folder import RunFolder
from tests.reproduce.small import MINI, TABLE, Pretend

BOTH = ["bilstm-twitter2015-s0", "bilstm-twitter2017-s0"]


class Here:
    """An executor that does runs in this process."""

    jobs = 1

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        yield from map(perform, tasks)


@pytest.fixture
def sweep(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mnerkit reproduce paper/table1 --keep DIR` of two short runs on tweets of a folder's own."""
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
        argv = ["reproduce", "paper/table1", "--experiments", str(folder), "--keep", str(tmp_path / "kept")]
        return main([*argv, "--root", str(tmp_path / root), "--out", str(tmp_path / out), *words])

    return go


def kept(tmp_path: Path) -> dict[str, str]:
    """All files of the folder of kept runs."""
    folder = tmp_path / "kept"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.*"))}


def runs(tmp_path: Path) -> list[str]:
    """Kept runs, without their digests."""
    return [path.name.rpartition("-")[0] for path in sorted((tmp_path / "kept").glob("*.json"))]


def content(tmp_path: Path, out: str) -> dict[str, bytes]:
    """What a report reads of the runs of a sweep."""
    files = ("metrics.json", "predictions.test.jsonl", "curve/metrics.csv")
    runs = sorted((tmp_path / out / "runs").glob("*/*/*"))
    return {f"{run.name} {name}": (run / name).read_bytes() for run in runs for name in files}


def test_what_is_kept_is_not_run_again_anywhere(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    assert sweep(Here()) == 0
    before = kept(tmp_path)
    assert runs(tmp_path) == BOTH and len(list((tmp_path / "kept" / "asked").iterdir())) == 1  # asked alike
    assert not [word for word in ("secretly", "Ada", str(tmp_path)) if word in "".join(before.values())]
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
    assert kept(tmp_path) == before


def test_runs_that_were_finished_before_join_the_others(sweep: Any, tmp_path: Path) -> None:
    assert sweep(Pretend()) == 0
    before = kept(tmp_path)
    shutil.rmtree(tmp_path / "kept")
    never = Pretend()
    assert sweep(never) == 0
    assert never.done == [] and kept(tmp_path) == before and runs(tmp_path) == BOTH


def test_a_run_whose_pictures_have_changed_is_done_again(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    assert sweep(Here()) == 0
    (run,) = (tmp_path / "out" / "runs").glob("*/twitter2015*/*")
    digests = {"train": "0" * 64}  # of a method that looked at some
    environment = json.loads((run / "env.json").read_text())
    (run / "env.json").write_text(json.dumps({**environment, "pictures": digests}))
    (file,) = (tmp_path / "kept").glob("*-twitter2015-*.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "env": {**content["env"], "pictures": digests}}))
    never = Pretend()
    capsys.readouterr()
    assert sweep(never, "--dry-run") == 0
    assert "1 runs are complete, 1 are left" in capsys.readouterr().out
    assert sweep(Here()) == 0
    assert "0 runs are complete" not in capsys.readouterr().out
    for path in (run / "env.json", file):
        assert str(digests) not in str(json.loads(path.read_text()))
    assert sweep(never) == 0 and never.done == []


def test_a_run_of_an_older_behaviour_is_done_again_and_makes_room(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(Here()) == 0
    before = kept(tmp_path)
    monkeypatch.setattr(identity, "BEHAVIOUR", identity.BEHAVIOUR + 1)
    assert sweep(Here(), out="newer") == 0
    after = kept(tmp_path)
    assert runs(tmp_path) == BOTH
    assert [name for name in before if name in after] == [name for name in before if name.startswith("asked/")]


def test_what_only_older_runs_were_asked_goes_with_them(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AskedLess(Here):
        def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
            for outcome in super().run(tasks):
                (file,) = (tmp_path / "newer" / "runs").glob(f"*/*/{outcome.name}/predictions.test.jsonl")
                file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
                yield outcome

    assert sweep(Here()) == 0
    before = sorted((tmp_path / "kept" / "asked").iterdir())
    monkeypatch.setattr(identity, "BEHAVIOUR", identity.BEHAVIOUR + 1)
    assert sweep(AskedLess(), out="newer") == 0
    after = sorted((tmp_path / "kept" / "asked").iterdir())
    assert runs(tmp_path) == BOTH and len(before) == len(after) == 1 and before != after


@pytest.mark.parametrize("what", ["data", "weights"])
def test_runs_of_other_data_or_weights_that_are_called_alike_stay(
    sweep: Any, folder: Path, tmp_path: Path, what: str
) -> None:
    profile, table = folder / "profiles" / "mini.yaml", folder / "paper" / "table1.yaml"
    profile.write_text(profile.read_text().replace("bert: {}", "bert: {options: {model.text: <tower>}}"))
    table.write_text(table.read_text().replace("plugin: bilstm, ablation: softmax", "plugin: bert"))
    shutil.copytree(tmp_path / "root", tmp_path / "elsewhere")
    for name in ("a", "b"):
        (tmp_path / name / "bert").mkdir(parents=True)
        (tmp_path / name / "bert" / "weights").write_text("other" if (name, what) == ("b", "weights") else "weights")
    if what == "data":
        for split in (tmp_path / "elsewhere").glob("*/test.txt"):
            split.write_text(split.read_text().replace("left", "right"))
    assert sweep(Pretend(), "--tower", str(tmp_path / "a" / "bert")) == 0
    before, other = kept(tmp_path), Pretend()
    assert sweep(other, "--tower", str(tmp_path / "b" / "bert"), out="other", root="elsewhere") == 0
    assert len(other.done) == len(before) == 2 and len(kept(tmp_path)) == 4
    assert {name: kept(tmp_path)[name] for name in before} == before


@pytest.mark.parametrize("late", [False, True])
def test_a_run_whose_posts_another_sweep_took_away_is_done_again(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    assert sweep(Pretend()) == 0
    for path in (tmp_path / "kept").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"asked": "gone", "said": ""}))
    if late:  # they go when this one has begun
        monkeypatch.setattr(run_archive.RunArchive, "holds", lambda self: set(self.rows))
    again = Pretend()
    assert sweep(again, out="other") == 0
    assert len(again.done) == 2 and "gone" not in "".join(kept(tmp_path).values())


def test_a_run_that_makes_room_while_the_folder_is_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, *kind: Any) -> Any:
        if path.name.startswith("older"):
            path.unlink()
        return json.loads(path.read_text()) if path.exists() else real(path, *kind)

    real = run_archive.read_format
    for name in ("older", "newer"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"format": "mnerkit-kept", "version": 1, "digest": name}))
    monkeypatch.setattr(run_archive, "read_format", read)
    assert set(run_archive.RunArchive.read(tmp_path, {}).rows) == {"newer"}


def test_a_run_whose_file_another_one_reads_is_not_kept(sweep: Any, folder: Path, tmp_path: Path) -> None:
    first = "bilstm: {first: {plugin: bert, file: relevance.jsonl, option: data.relevance}}\n  bert: {}"
    path = folder / "profiles" / "mini.yaml"
    path.write_text(path.read_text().replace("bilstm: {}", first).replace("  bert: {}\n  bilstm", "  bilstm"))
    done = Pretend()
    assert sweep(done) == 0
    assert len(done.done) == 4 and runs(tmp_path) == BOTH


def test_a_run_that_is_kept_without_the_file_that_another_one_reads_is_done_again(
    sweep: Any, folder: Path, tmp_path: Path
) -> None:
    first = "bilstm: {first: {plugin: bert, file: relevance.jsonl, option: data.relevance}}"
    profile, table = folder / "profiles" / "mini.yaml", folder / "paper" / "table1.yaml"
    profile.write_text(profile.read_text().replace("bilstm: {}", first))
    readers = table.read_text()
    table.write_text(readers.replace("plugin: bilstm, ablation: softmax", "plugin: bert"))
    assert sweep(Pretend()) == 0  # here nobody reads any file
    assert runs(tmp_path) == [name.replace("bilstm", "bert") for name in BOTH]
    table.write_text(readers)
    again, never = Pretend(), Pretend()
    assert sweep(again, out="other") == 0
    assert len(again.done) == 4 and len(list((tmp_path / "other").glob("runs/bert/*/*/relevance.jsonl"))) == 2
    assert sweep(never, out="third") == 0  # all is kept, and nobody reads any file
    assert never.done == [] and not list((tmp_path / "third").rglob("relevance.jsonl"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "run.json is damaged: Expecting property name"),
        ("{}", "run.json is no kept run"),
        ('{"format": "mnerkit-kept", "version": 9, "digest": "a"}', "run.json is of version 9"),
        (None, "kept is a file; give a folder"),
    ],
)
def test_a_damaged_folder_is_one_line_before_any_run(
    sweep: Any, tmp_path: Path, capsys: Any, text: str | None, said: str
) -> None:
    if text is None:
        (tmp_path / "kept").write_text("a file")
    else:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "run.json").write_text(text)
    never = Pretend()
    assert sweep(never) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and never.done == []


def test_damaged_predictions_are_told_and_no_half_run_is_left(sweep: Any, tmp_path: Path, capsys: Any) -> None:
    assert sweep(Here()) == 0
    for path in (tmp_path / "kept" / "asked").iterdir():
        path.write_text("!")
    assert sweep(Pretend(), out="other") == 1
    told = capsys.readouterr().err
    assert ".json is damaged: " in told and told.count("\n") == 1
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
def test_predictions_come_back_as_they_were(drawn: list[Any]) -> None:
    posts, rows = {}, []
    for number, (mine, draw) in enumerate(drawn):
        start = draw.draw(st.integers(0, len(mine) - 1))
        end = draw.draw(st.integers(start + 1, len(mine)))
        first = len(" ".join([*mine[:start], ""])) if start else 0
        text = " ".join(mine[start:end])
        spot = {"start": start, "end": end, "char_start": first, "char_end": first + len(text), "text": text}
        tags = draw.draw(st.lists(st.sampled_from(["B-LOC", "B-ORG"]), min_size=len(mine), max_size=len(mine)))
        posts[f"p{number}"] = Post(f"p{number}", tuple(mine), tuple(tags))
        gold = [[place, place + 1, tag[2:]] for place, tag in enumerate(tags)]
        row = {"id": f"p{number}", "words": mine, "entities": [{"type": "PER", **spot}], "gold": gold}
        episode = {"episode": 3, "types": ["LOC", "PER"], "support": ["p9", "p8"], "ignored": [1]}
        in_play = {"gold": [each for each in gold if each[2] == "LOC"]}
        rows.append(row | in_play | episode if draw.draw(st.booleans()) else row)
    asked, said = parted(rows)
    assert joined(asked, said, posts) == rows
    assert [list(row) for row in joined(asked, said, posts)] == [list(row) for row in rows]  # in their order, too
    kept = json.dumps([unpack(asked), unpack(said)])
    assert "text" not in kept and "ORG" not in kept
