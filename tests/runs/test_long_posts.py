"""Posts that are longer than the text tower reads: counted in fit and scoring."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli import main
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.truncation import losses, sentence, truncation
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.report.folders import read
from mnerkit.report.page.page import signature
from mnerkit.towers.text.tiny import tiny_reader

FILLER = ["rain", "the", "sun", "over", "old", "stones", "with", "a", "slow", "train", "and", "tea", "for", "us"]
PEOPLE, PLACES = ["Ann", "Bob", "Eve", "Max"], ["Paris", "Rome", "Oslo", "Bonn"]


def line(number: int, before: int) -> dict[str, Any]:
    """A post with a person and a place after so many other words."""
    draw = random.Random(number)
    words = [draw.choice(FILLER) for _ in range(before)] + ["we", "met", draw.choice(PEOPLE), "near"]
    words += [draw.choice(PLACES), "!"]
    tags = ["O"] * (len(words) - 4) + ["B-PER", "O", "B-LOC", "O"]
    return {"id": str(number), "words": words, "tags": tags}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short posts to learn from, and a test split with 140 words before the names."""
    folder = tmp_path_factory.mktemp("corpus") / "long"
    folder.mkdir()
    for split, numbers, before in (("train", range(60), 3), ("dev", range(60, 72), 3), ("test", range(72, 84), 140)):
        rows = [json.dumps(line(number, before)) + "\n" for number in numbers]
        (folder / f"{split}.jsonl").write_text("".join(rows))
    return folder


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of bert with a tower that reads 128 pieces."""
    runs = tmp_path_factory.mktemp("runs")
    argv = ["fit", "--plugin", "bert", "--model.text", "tiny-bert", "--data.corpus", str(corpus), "--runs_dir"]
    argv += [str(runs), "--name", "one", "--trainer.max_epochs", "8", "--trainer.enable_progress_bar", "false"]
    assert main([*argv, "--model.lr", "3e-3", "--data.batch_size", "8", "--test"]) == 0
    return runs / "bert" / corpus.name / "one"


def metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def test_fit_counts_what_each_split_loses(run: Path) -> None:
    counts = metrics(run)["truncation"]
    assert list(counts) == ["train", "dev", "test"]
    assert not losses(counts["train"]) and not losses(counts["dev"])
    test = counts["test"]
    assert (test["posts"], test["long_posts"], test["limit"]) == (12, 12, 128)
    assert (test["entities"], test["entities_lost"], test["entities_cut"]) == (24, 24, 0)
    assert test["words_unread"] == 12 * (146 - 126)
    assert metrics(run)["test"]["f1"] == 0  # nothing is read, so nothing is found


def test_score_says_in_one_line_what_is_lost_and_keeps_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = metrics(run)
    del record["truncation"]
    (run / "metrics.json").write_text(json.dumps(record))
    assert main(["test", "--ckpt_path", str(run), "--trainer.enable_progress_bar", "false"]) == 0
    said = [each for each in capsys.readouterr().out.splitlines() if each.startswith("longer than 128 pieces: ")]
    assert len(said) == 1 and "test 12 of 12 posts, 240 words unread, 24 of 24 entities lost" in said[0]
    assert metrics(run)["truncation"]["test"]["words_unread"] == 240


def test_the_signature_of_a_report_names_the_loss(run: Path) -> None:
    record = read(run)
    assert "24 of 24 entities lost" in dict(signature(record))["length"]
    record.metrics["truncation"]["test"] = {"long_posts": "many", "windows": [], "posts": None}  # from elsewhere
    assert "length" not in dict(signature(record))


def test_counts_are_exact_with_captions_and_without() -> None:
    reader = tiny_reader(CorpusFacts((), ()), 8, 24)  # [CLS] six [SEP]
    # the words of an unknown vocabulary are cut into pieces: count with the batch's own map
    words, tags = ("a", "b", "c", "d", "e", "f", "g"), ("O", "O", "O", "O", "B-X", "I-X", "I-X")
    picture = ImageRef("1.jpg", caption="a b")
    post = Post("1", words, tags, (picture,))
    read_words = int(reader.collate([words]).read_mask.sum())
    counts = truncation([post, Post("2", words[:2], None, (picture,))], Needs(reader, frozenset({"second"})))
    assert (counts.posts, counts.long_posts, counts.words_unread) == (2, 1, len(words) - read_words)
    assert (counts.entities, counts.entities_lost, counts.entities_cut) == (1, 0, 1)
    assert counts.captions_cut == 1
    assert truncation([post], Needs(reader), types={"Y"}).entities == 0
    assert "1 of 2 posts, " in losses(counts.record()) and "0 of 1 entities lost and 1 in part" in sentence(
        {"dev": counts.record()}
    )
    assert not sentence({"dev": truncation([Post("2", words[:2])], Needs(reader)).record()})
