"""Rehearsals: each distinct run once, nothing outside of their folder, and what is projected from them."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mnerkit.cli import main, reproduce
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import Stopped, UsageError
from mnerkit.reproduce.executors.tasks import Outcome, Task, perform
from mnerkit.reproduce.rehearsal import sample_corpus, stand_in_towers
from mnerkit.reproduce.rehearsal.projection import cache_seconds, project
from mnerkit.reproduce.rehearsal.tower_times import Timing, TowerTime
from mnerkit.towers.by_name import text_tower, vision_tower
from mnerkit.towers.saved_state import tower_from_state, tower_state
from tests.reproduce.small import MINI, built


class InProcess:
    """An executor that does the tasks in this process, and can be stopped after some."""

    jobs = 1

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.done: list[str] = []

    def run(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        for task in tasks:
            if self.stop_after == len(self.done):
                raise Stopped(15)
            self.done.append(task.name)
            yield perform(task)


@pytest.fixture
def rehearse(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mnerkit reproduce --rehearse` on the small experiments."""

    def go(executor: InProcess, *words: str) -> int:
        monkeypatch.setattr(reproduce, "_executor", lambda *_: executor)
        return main(["reproduce", "--experiments", str(folder), "--out", str(tmp_path / "out"), "--rehearse", *words])

    return go


def test_a_rehearsal_does_what_is_distinct_goes_on_where_it_was_stopped_and_leaves_runs_alone(
    rehearse: Any, folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three points of a sweep and a baseline, with two seeds; one fails, and is tried again the next time."""
    table = folder / "paper" / "table1.yaml"
    table.write_text(table.read_text().replace("BERT, plugin: bert, ablation: softmax}", "BERT, plugin: bilstm}"))
    finished = tmp_path / "out" / "runs" / "bert" / "probe-default" / "0123456789abcdef"
    finished.mkdir(parents=True)
    (finished / "metrics.json").write_text("{}")
    assert rehearse(InProcess(stop_after=1), "--seeds", "0", "1") == 143
    assert "1 of 4 are rehearsed; the same command goes on" in capsys.readouterr().err

    monkeypatch.setattr("mnerkit_plugins.bilstm.model.BilstmEncoder.forward", lambda *_: 1 / 0, raising=True)
    executor = InProcess()
    assert rehearse(executor, "--seeds", "0", "1") == 1
    assert len(executor.done) == 3
    printed = capsys.readouterr().out
    assert "4 runs are distinct apart from their seeds; 1 are rehearsed already" in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.startswith(("paper/", "all"))}
    assert {name: cells[:3] for name, cells in rows.items()} == {
        "paper/table1": ["4", "2", "1"],
        "paper/sweep": ["6", "3", "0"],
        "all": ["8", "4", "1"],
    }
    assert all(float(hours) >= 0 and float(memory) >= 0 for *_, hours, memory in rows.values())
    assert "1 of the distinct runs are not in the figures" in printed and "division by zero" in printed
    command = next(line for line in printed.splitlines() if line.startswith("  mnerkit fit --config "))
    assert Path(command.split()[3]).is_file()

    monkeypatch.undo()
    executor = InProcess()
    assert rehearse(executor, "--seeds", "0", "1") == 0
    assert len(executor.done) == 1
    printed = capsys.readouterr().out
    assert "projected, not measured, on a processor" in printed and "not in the figures" not in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rehearsal", "runs"]
    assert [path for path in (tmp_path / "out" / "runs").rglob("*") if path.is_file()] == [finished / "metrics.json"]
    assert (finished / "metrics.json").read_text() == "{}"


def test_a_run_that_reads_the_file_of_another_is_rehearsed_after_it(
    rehearse: Any, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    plugins = "relevance: {}\n  gifr: {first: {plugin: relevance, file: relevance.jsonl, option: data.relevance}}"
    mini = MINI.replace("bilstm: {}", plugins).replace("data.variant: default", "data.variant: multi")
    (folder / "profiles" / "mini.yaml").write_text(mini)
    table = folder / "paper" / "table1.yaml"
    text = table.read_text().replace("BERT-CRF, plugin: bert}", "BERT-CRF, plugin: gifr}")
    table.write_text(text.replace("  - {name: BERT, plugin: bert, ablation: softmax}\n", ""))
    (folder / "paper" / "sweep.yaml").unlink()
    executor, left = InProcess(), tmp_path / "out" / "rehearsal" / "shrunk" / "left"
    (left / "old").mkdir(parents=True)
    (left / "old" / "relevance.jsonl").touch()
    assert rehearse(executor, "shrunk", "--overwrite") == 0, capsys.readouterr().out
    (file,) = left.glob("*/relevance.jsonl")
    grid = built(folder, "paper/table1", out=tmp_path / "out")
    before = {run.unseeded for run in grid.wanted if run.plugin == "relevance"}
    assert {file.parent.name} == before
    after = {run.unseeded for run in grid.wanted if run.first is not None}
    order = [name in before for name in executor.done if name in before | after]
    assert order == [True, False]


def test_what_frozen_towers_read_for_their_cache_is_counted_apart(rehearse: Any, folder: Path, tmp_path: Path) -> None:
    """The pictures of all posts are read once, for the cache; the next rehearsal finds them there."""
    gei = "gei: {options: {model.vision: resnet18, model.freeze_vision: true}}"
    (folder / "profiles" / "mini.yaml").write_text(MINI.replace("bert: {}", gei))
    sweep = folder / "paper" / "sweep.yaml"
    sweep.write_text(sweep.read_text().replace("plugin: bert", "plugin: gei").replace("0.1, 0.2, 0.3, 0.4", "0.2"))
    (folder / "paper" / "table1.yaml").unlink()
    assert rehearse(InProcess(), "shrunk") == 0
    records = (tmp_path / "out" / "rehearsal" / "shrunk" / "records").glob("*.json")
    reads = [json.loads(file.read_text())["measured"]["reads"]["vision"] for file in records]
    second, first = sorted(reads, key=lambda phases: "all" in phases)
    assert second == {}, "all is cached"
    assert all(number[:2] == [0.0, 0.0] for number in first.values()) and first["all"][2] >= 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fulll"], "--rehearse 'fulll': shrunk or full. Did you mean 'full'?"),
        (["paper/table1"], "shrunk or full. Patterns stand before it: mnerkit reproduce gmf --rehearse"),
        (["shrunk", "--dry-run"], "--rehearse makes no results, so --dry-run has no effect"),
        (["shrunk", "--keep", "kept"], "so --keep has no effect"),
        (["shrunk", "--logger", "wandb"], "so --logger has no effect"),
        (["full", "--root", "nowhere"], "--root nowhere: there is no such folder"),
    ],
)
def test_what_does_not_fit_a_rehearsal_is_one_clear_line(
    rehearse: Any, tmp_path: Path, capsys: Any, words: list[str], message: str
) -> None:
    assert rehearse(InProcess(), *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_a_folder_is_one_clear_line(rehearse: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rehearsal").touch()
    assert rehearse(InProcess()) == 2
    assert f"--out {tmp_path}/out: {tmp_path}/out/rehearsal is a file; give a folder" in capsys.readouterr().err


def record(**changes: Any) -> dict[str, Any]:
    """A record of batches of 2 where the run has 8, with a frozen tower of pictures that is cached."""
    measured = {
        "steps": [9.0, 1.0],
        "predicted": 2.0,
        "items": 4,
        "posts": 12,
        "reads": {
            "text": {"step": [0, 10, 0], "score": [40, 0, 0], "all": [50, 20, 0]},
            "vision": {"step": [0, 0, 2], "score": [0, 0, 4], "all": [0, 0, 12]},
        },
        "kept": 1000,
        "peak": None,
        "batch": 2,
    }
    counts = {"train_posts": 80, "dev_posts": 20, "test_posts": 20, "steps": 10, "dev": 20, "test": 20}
    made = {
        "plugin": "umt",
        "corpus": "twitter2017",
        "size": "shrunk",
        "towers": {"text": "bert-base-cased", "vision": "resnet50"},
        "parameters": [500, 100],
        "whole_batch": 8,
        "epochs": 3,
        "counts": counts,
        "seconds": 15.0,
        "measured": {**measured, **changes.pop("measured", {})},
    }
    return made | changes


TIMES = {
    ("text", "bert-base-cased", "shrunk"): TowerTime(0.01, 0.02, 30),
    ("text", "bert-base-cased", "full"): TowerTime(0.1, 0.3, 300),
    ("vision", "resnet50", "shrunk"): TowerTime(0.1, 0.2, 5),
    ("vision", "resnet50", "full"): TowerTime(2.0, 4.0, 50),
}


def test_a_projection_scales_steps_to_the_batch_and_towers_to_their_size() -> None:
    projected = project(record(), TIMES)
    step = (1.0 - 10 * 0.02 - 2 * 0.1) * 4 + 10 * 0.3 * 4
    post = (2.0 - 40 * 0.01 - 4 * 0.1) / 4 + 10 * 0.1
    start = 15 - 10 - 2 * 2
    assert projected.seconds == pytest.approx(start + 3 * 10 * step + (20 * 4 + 20) * post)
    assert projected.bytes == 4 * 500 + 12 * 100 + (1000 - 10 * 30) * 4 + 10 * 300 * 4


def test_whole_towers_and_batches_are_measured_not_projected() -> None:
    full = record(size="full", measured={"batch": 8, "peak": 12345, "steps": [9.0, 8.0], "predicted": 20.0})
    projected = project(full, TIMES)
    step, post = 8 - 2 * 2.0, (20 - 4 * 2.0) / 4  # pictures are read once, before
    assert projected.seconds == pytest.approx(3 * 10 * step + 100 * post)
    assert projected.bytes == 12345
    # a batch that was made smaller does not show the memory of the whole one
    assert project(record(size="full", measured={"peak": 12345}), TIMES).bytes != 12345


def test_caches_are_filled_once_for_all_runs_of_a_plugin() -> None:
    other = record(plugin="gei", measured={"posts": 6})
    cached = record(measured={"reads": {"text": {"step": [0, 10, 0]}, "vision": {"step": [0, 0, 0]}}})
    once = 12 / 12 * 120 * 2.0
    assert cache_seconds([record(), cached, record()], TIMES) == pytest.approx(once)
    assert cache_seconds([record(), other], TIMES) == pytest.approx(once + 2 * once)


def test_stand_ins_have_the_architecture_of_their_towers(tmp_path: Path) -> None:
    """An eighth of the widths, weights in files, and a tokenizer that reads the corpus."""
    texts = ["RT Barack Obama in Paris", "Obama in London"] * 3
    spec = stand_in_towers.stand_in("bert-base-cased", "shrunk", tmp_path, texts)
    text: Any = text_tower(spec, facts=CorpusFacts(()))
    assert text.width == 768 // 8 and text.loaded
    assert text.config.num_hidden_layers == 12 and text.config.max_position_embeddings == 512
    assert stand_in_towers.stand_in("bert-base-cased", "shrunk", tmp_path, []) == spec
    spec = stand_in_towers.stand_in("resnet18", "shrunk", tmp_path, texts)
    assert spec == f"resnet18/8:{tmp_path}/resnet18-8.pth"
    picture = vision_tower(spec, freeze=True)
    assert picture.width == 512 // 8 and picture.loaded
    again = tower_from_state(tower_state(picture), None)
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(again.eval()(pixels).pooled, picture.eval()(pixels).pooled)
    for name in ("tiny", "captions", "bilstm"):
        assert stand_in_towers.stand_in(name, "full", tmp_path, texts) == name
    with pytest.raises(UsageError, match="tower bert-huge: its architecture is not known without a download"):
        stand_in_towers.stand_in("bert-huge", "shrunk", tmp_path, texts)


def test_a_tower_is_timed_once_whole_and_shrunk(tmp_path: Path) -> None:
    times = []
    for size in ("shrunk", "full"):
        timing = Timing("vision", "resnet18", size, tmp_path)
        assert timing.time() is None
        timing.do()
        times.append(timing.time() or TowerTime())
    shrunk, full = times
    assert 0 < shrunk.forward < full.forward and shrunk.forward < shrunk.training and 0 < shrunk.kept < full.kept


def test_a_sample_has_posts_of_each_type_with_pictures_boxes_and_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, folder = tmp_path / "root", tmp_path / "sample"
    (root / "twitter2017").mkdir(parents=True)
    kinds = ["PER"] * 30 + ["LOC", "ORG", "MISC"]
    for split in ("train", "dev", "test"):
        rows = [
            {"id": f"{split}{n}", "text": ["Word", str(n)], "label": [f"B-{kind}", "O"], "images": [f"{split}{n}.jpg"]}
            for n, kind in enumerate(kinds)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "twitter2017" / f"{split}.jsonl").write_text(lines)
    monkeypatch.setattr(sample_corpus, "POSTS", 5)
    sample_corpus.write("twitter2017", str(root), folder)
    corpus = load_corpus("twitter2017", root=str(folder))
    for sampled in corpus.splits.values():
        assert len(sampled) == 5 and {tag for post in sampled for tag in post.tags or ()} >= {
            f"B-{kind}" for kind in kinds
        }
        assert all((folder / "twitter2017_images" / ref.name).is_file() for post in sampled for ref in post.images)
    assert len((folder / "boxes" / "twitter2017.jsonl").read_text().splitlines()) == 1 + 15
    assert len(sample_corpus.words_of(folder)) == len(kinds)
