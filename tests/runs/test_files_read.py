"""The corpus and the files that a run reads: a run is of what they held when it began."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import DataError, UsageError
from mnerkit.runs import files_read
from mnerkit.runs.run_folder import RunFolder
from mnerkit.towers.text.vocabulary import VocabularyReader

SMALL = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--name", "a", "--runs_dir"]
NOT = "is not what it was when this run began; put it back, or give --overwrite or another --name\n"


def score_file(path: Path, score: float) -> None:
    path.write_text("".join(json.dumps({"id": f"{each}", "scores": [score]}) + "\n" for each in range(6)))


@pytest.fixture
def relevance(tmp_path: Path) -> Path:
    """Scores of the pictures of the six posts of `corpus`."""
    (tmp_path / "corpus").mkdir()
    for split, names in (("train", "0123"), ("dev", "4"), ("test", "5")):
        rows: list[dict[str, Any]] = [
            {"id": name, "text": ["Ann", "sings"], "label": ["B-PER", "O"], "images": [f"{name}.jpg"]} for name in names
        ]
        (tmp_path / "corpus" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "relevance.jsonl"
    score_file(path, 0.5)
    return path


def test_a_run_is_not_taken_for_one_with_other_scores_in_a_file_of_one_name(
    relevance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = relevance.parent / "runs"
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", str(relevance.parent / "corpus")]
    fit += ["--data.relevance", str(relevance), *SMALL, str(runs)]
    run = RunFolder(runs / "bilstm" / "corpus" / "a")
    assert main(fit) == 0
    assert main([*fit, "--test"]) == 0
    (note,) = json.loads((run.path / "env.json").read_text())["files"]
    assert (note["option"], note["file"]) == ("data.relevance", str(relevance))
    before = run.metrics()
    refused = f"mnerkit: {run.path}: {relevance} (--data.relevance) {NOT}"

    score_file(relevance, 0.9)
    capsys.readouterr()
    for more in ([], ["--test"]):  # finished
        assert main([*fit, *more]) == 2
        assert capsys.readouterr().err == refused

    # a score with it says so, and stands beside the run's own
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    after = run.metrics()
    (key,) = (each for each in after.keys() - before.keys() if each.endswith(":protocol"))
    key = key.removesuffix(":protocol")
    assert key.startswith("test@corpus-") and after["test"] == before["test"]
    said = f"mnerkit: {relevance} (--data.relevance) is not what it was when the run was trained; scores as {key}\n"
    assert said in capsys.readouterr().err
    assert main(["test", "--ckpt_path", str(run.best), "--data.relevance", "null"]) == 0
    assert "when the run was trained" not in capsys.readouterr().err  # another file was asked for

    run.metrics_file.unlink()  # not finished
    assert main(fit) == 2
    assert capsys.readouterr().err.endswith(refused)
    score_file(relevance, 0.5)
    assert main(fit) == 0
    again = run.metrics()
    del before["truncation"]["test"]  # it was not scored again
    assert {**again, "seconds": 0} == {**{key: before[key] for key in again}, "seconds": 0, "looks_at_test": 0}


def test_a_run_of_an_older_version_is_taken_as_it_is(relevance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = relevance.parent / "runs"
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", str(relevance.parent / "corpus")]
    fit += ["--data.relevance", str(relevance), *SMALL, str(runs)]
    run = RunFolder(runs / "bilstm" / "corpus" / "a")
    assert main(fit) == 0
    env = json.loads((run.path / "env.json").read_text())
    del env["files"]
    (run.path / "env.json").write_text(json.dumps(env))
    score_file(relevance, 0.9)
    assert main(fit) == 0 and "already finished" in capsys.readouterr().out
    run.metrics_file.unlink()
    assert main(fit) == 0
    score_file(relevance, 0.8)
    assert main(fit) == 2  # noted since it went on
    relevance.unlink()
    assert main(fit) == 0  # nothing else is there


def test_captions_that_no_option_names_are_noted_where_the_method_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twitter2015").mkdir()
    (tmp_path / "captions").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "twitter2015" / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\nsings\tO\n")
    captions = tmp_path / "captions" / "twitter2015.txt"
    captions.write_text("".join(f"{split}.jpg :a cat\n" for split in ("train", "valid", "test")))
    of_corpus = ["--data.corpus", "twitter2015", "--data.root", str(tmp_path), *SMALL, str(tmp_path / "runs")]
    for plugin in ("captions", "bilstm"):
        assert main(["fit", "--plugin", plugin, *of_corpus]) == 0
    run = RunFolder(tmp_path / "runs" / "captions" / "twitter2015" / "a")
    captions.rename(tmp_path / "away.txt")
    capsys.readouterr()
    assert main(["fit", "--plugin", "captions", *of_corpus]) == 2
    assert capsys.readouterr().err.endswith(f"{captions} (--data.captions) {NOT}")
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    assert f"{captions} (--data.captions) is not what it was when the run was trained" in capsys.readouterr().err
    assert "test" not in run.metrics() and any(key.startswith("test@twitter2015-") for key in run.metrics())
    (tmp_path / "away.txt").rename(captions)
    assert main(["test", "--ckpt_path", str(run.best)]) == 0 and "test" in run.metrics()
    captions.write_text(captions.read_text().replace("cat", "dog"))
    capsys.readouterr()
    assert main(["fit", "--plugin", "bilstm", *of_corpus]) == 0
    assert main(["fit", "--plugin", "captions", *of_corpus]) == 2
    assert capsys.readouterr().err.endswith(f"{captions} (--data.captions) {NOT}")
    run.metrics_file.unlink()
    assert main(["fit", "--plugin", "captions", *of_corpus]) == 2
    assert capsys.readouterr().err.endswith(f"{captions} (--data.captions) {NOT}")


@pytest.fixture
def tweets(tmp_path: Path) -> list[str]:
    """The command of a run on a corpus of one post a split, below `tmp_path`."""
    (tmp_path / "twitter2015").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "twitter2015" / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\nsings\tO\n")
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", "twitter2015", "--data.root", str(tmp_path)]
    return [*fit, *SMALL, str(tmp_path / "runs")]


def relabel(file: Path, to: str = "LOC") -> None:
    file.write_text(file.read_text().replace("PER" if to == "LOC" else "LOC", to))


def test_a_run_is_not_taken_for_finished_once_its_corpus_has_changed(
    tweets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "runs" / "bilstm" / "twitter2015" / "a")
    train, test = (tmp_path / "twitter2015" / f"{split}.txt" for split in ("train", "test"))
    assert main(tweets) == 0
    env = json.loads((run.path / "env.json").read_text())
    assert env["corpus"] == load_corpus("twitter2015", tmp_path).digests and len(env["corpus"]) == 3

    def refused(*more: str) -> str:
        capsys.readouterr()
        assert main([*tweets, *more]) == 2
        return capsys.readouterr().err

    relabel(test)  # of which the run has no score
    assert main(tweets) == 0 and "already finished" in capsys.readouterr().out
    assert refused("--test") == f"mnerkit: {run.path}: {test} (--data.corpus) {NOT}"
    relabel(test, "PER")
    assert main([*tweets, "--test"]) == 0
    relabel(test)
    assert refused() == f"mnerkit: {run.path}: {test} (--data.corpus) {NOT}"
    # what is scored now stands beside what was scored before
    before = run.metrics()["test"]
    assert main(["test", "--ckpt_path", str(run.best)]) == 0
    assert f"{test} (--data.corpus) is not what it was when the run was trained" in capsys.readouterr().err
    assert run.metrics()["test"] == before and any(key.startswith("test@twitter2015-") for key in run.metrics())
    relabel(test, "PER")

    text = train.read_text()
    train.write_text(text + "\n\n")  # the same posts
    assert main(tweets) == 0
    relabel(train)
    assert refused() == f"mnerkit: {run.path}: {train} (--data.corpus) {NOT}"
    assert main([*tweets, "--overwrite"]) == 0 == main(tweets)

    (tmp_path / "twitter2015").rename(tmp_path / "away")  # nothing to train on, and nothing is said to have changed
    capsys.readouterr()
    assert main(tweets) == 0 and "already finished" in capsys.readouterr().out


def test_a_run_is_not_continued_once_its_corpus_has_changed(
    tweets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would choose its best epoch across two dev sets."""
    run = RunFolder(tmp_path / "runs" / "bilstm" / "twitter2015" / "a")
    valid, test = (tmp_path / "twitter2015" / f"{split}.txt" for split in ("valid", "test"))
    assert main([*tweets, "--keep_last"]) == 0
    run.metrics_file.unlink()
    relabel(valid)
    capsys.readouterr()
    assert main(tweets) == 2
    assert capsys.readouterr().err.endswith(f"mnerkit: {run.path}: {valid} (--data.corpus) {NOT}")
    assert run.last.is_file() and not run.finished
    relabel(valid, "PER")
    relabel(test)  # nothing has read it yet
    assert main(tweets) == 0 and "continuing" in capsys.readouterr().out

    env = json.loads((run.path / "env.json").read_text())
    del env["corpus"]  # of an older version
    (run.path / "env.json").write_text(json.dumps(env))
    relabel(valid)
    assert main(tweets) == 0 and "already finished" in capsys.readouterr().out


def assembly_of(root: Path, **options: Any) -> Any:
    """What stands in for an assembly of a method that looks at objects."""
    needs = Needs(VocabularyReader([]), frozenset({"objects"}), picture=PictureFormat(8))
    data = MnerData(corpus="twitter2015", root=str(root), **options)
    data.connect(needs)
    data.posts("dev")
    config = {"data": {"corpus": "twitter2015", "root": str(root), **options}}
    return SimpleNamespace(config=config, data=data, method=SimpleNamespace(needs=lambda: needs))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A root with `twitter2015`, its pictures, and dicts for crops; no crops yet."""
    for folder in ("twitter2015", "twitter2015_images", "boxes"):
        (tmp_path / folder).mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "twitter2015" / f"{split}.txt").write_text(f"IMGID:{split}\nAda\tB-PER\nsings\tO\n")
        Image.new("RGB", (8, 8)).save(tmp_path / "twitter2015_images" / f"{split}.jpg")
        torch.save(
            {f"{split}.jpg": [f"{split}.png"]}, tmp_path / f"twitter2015_{split.replace('valid', 'val')}_dict.pth"
        )
    return tmp_path


def begun(folder: Path, notes: list[files_read.Note]) -> RunFolder:
    folder.mkdir(exist_ok=True)
    (folder / "env.json").write_text(json.dumps({"files": [each._asdict() for each in notes]}))
    return RunFolder(folder)


def test_boxes_and_crops_that_are_found_without_an_option_come_and_go(pictures: Path) -> None:
    bare = assembly_of(pictures)
    none = begun(pictures / "none", files_read.files_of(bare))
    assert files_read.files_of(bare) == [] == files_read.changed(none, bare, bare.config, "dev")[0]

    crops = pictures / "twitter2015_aux_images" / "crops"
    crops.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(crops / "valid.png")
    cropped = assembly_of(pictures)
    (note,) = files_read.files_of(cropped)
    assert note.option == "data.boxes" and note.content.startswith("crops ")
    assert files_read.changed(none, cropped, bare.config, "dev")[0] == [note]
    without = {"data": {**bare.config["data"], "boxes": "none"}}
    assert files_read.changed(none, cropped, without, "dev")[0] == []  # asked for
    with_crops = begun(pictures / "crops", [note])

    boxes = pictures / "boxes" / "twitter2015.jsonl"
    boxes.write_text('{"image": "valid.jpg", "objects": [{"box": [1, 1, 5, 5]}]}\n')
    boxed = assembly_of(pictures)
    (note,) = files_read.files_of(boxed)
    assert note[:2] == ("data.boxes", str(boxes)) and note.content.startswith("file ")
    for run in (none, with_crops):
        assert files_read.changed(run, boxed, bare.config, "dev")[0] == [note]
        with pytest.raises(UsageError, match="is not what it was when this run began"):
            files_read.check_resumed(run, [note], boxed.data.content, {})
    (gone,) = files_read.changed(begun(pictures / "boxed", [note]), bare, bare.config, "dev")[0]
    assert gone == note._replace(content="none")


def test_of_a_folder_counts_what_is_read_and_nothing_that_lies_below(pictures: Path) -> None:
    (pictures / "crops").mkdir()
    Image.new("RGB", (4, 4)).save(pictures / "crops" / "valid.png")
    before = files_read.files_of(assembly_of(pictures, boxes=str(pictures)))
    run = begun(pictures / "runs", before)  # below the folder itself
    assembly = assembly_of(pictures, boxes=str(pictures))
    after = files_read.files_of(assembly)
    assert before == after and [note.option for note in after] == ["data.boxes"]
    files_read.check_resumed(run, after, assembly.data.content, {})
    torch.save({"valid.jpg": []}, pictures / "twitter2015_val_dict.pth")
    with pytest.raises(UsageError, match="is not what it was when this run began"):
        other = files_read.files_of(assembly_of(pictures, boxes=str(pictures)))
        files_read.check_resumed(run, other, assembly.data.content, {})


def test_word_vectors_are_noted_and_a_file_that_can_not_be_read_is_told(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = pictures / "glove.txt"
    vectors.write_text("ada 1 2\n")
    assembly = assembly_of(pictures)
    assembly.config["model"] = {"vectors": str(vectors), "text": str(pictures)}
    (note,) = files_read.files_of(assembly)
    assert note[:2] == ("model.vectors", str(vectors))
    scored, _ = files_read.changed(begun(pictures / "run", []), assembly, assembly.config, "dev")
    assert scored == []  # no say in scores

    def failing(name: str) -> str:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(files_read, "content_now", failing)
    with pytest.raises(DataError, match=r"--model.vectors .*glove.txt can't be read: Permission denied"):
        files_read.files_of(assembly)
