"""Posts that are longer than the text tower reads: counted in fit and scoring, and read in windows."""

from __future__ import annotations

import json
import random
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import byte_pieces

from mnerkit.cli import main
from mnerkit.data.batches.collate import nearest_windows
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.truncation import losses, sentence, truncation
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.methods import checkpoint
from mnerkit.methods.predictor import Predictor
from mnerkit.report.folders import read
from mnerkit.report.page.page import signature
from mnerkit.runs.config.configuration import resolve
from mnerkit.runs.identity import digest_of
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
    for split, numbers, before in (
        ("train", range(80), None),
        ("dev", range(80, 92), 3),
        ("test", range(92, 104), 140),
    ):
        rows = [json.dumps(line(number, number % 40 if before is None else before)) + "\n" for number in numbers]
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


def roberta_folder(folder: Path, positions: int) -> Path:
    """A small RoBERTa with random weights, whose positions begin after its padding's number."""
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    vocabulary, merges = byte_pieces(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    RobertaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 1}
    sizes |= {"vocab_size": len(vocabulary), "max_position_embeddings": positions, "pad_token_id": 1}
    config = RobertaConfig(**{**sizes, "type_vocab_size": 1})  # type: ignore[arg-type]
    RobertaModel(config).save_pretrained(folder)
    return folder


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
    assert said[0].endswith("(--model.max_tokens sets the limit; --model.long_posts windows scores whole posts)")
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
    for split, option in (("train", True), ("dev", False)):  # windows help neither in training nor without the option
        assert sentence({split: counts.record()}, option).endswith("(--model.max_tokens sets the limit)")


@pytest.mark.parametrize(("limit", "unread"), [(None, 240), (64, 12 * (146 - 62)), (512, 240)])
def test_stats_says_before_training_what_a_tower_does_not_read(
    corpus: Path, limit: int | None, unread: int, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["data", "stats", str(corpus), "--tower", "tiny-bert", *(["--max_tokens", str(limit)] if limit else [])]
    assert main([*argv, "--json"]) == 0
    splits = json.loads(capsys.readouterr().out)["splits"]
    assert splits["test"]["truncation"]["words_unread"] == unread
    assert splits["train"]["truncation"]["words_unread"] == 0
    assert main(argv) == 0
    assert ("entities lost" in capsys.readouterr().out) is True


def test_stats_of_a_folder_counts_with_its_tokenizer_and_its_positions(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = roberta_folder(tmp_path / "roberta", positions=66)
    assert main(["data", "stats", str(corpus), "--tower", str(folder), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["splits"]["test"]["truncation"]
    assert counts["limit"] == 64 and counts["long_posts"] == 12 and counts["entities_lost"] == 24


def test_scores_that_windows_do_not_change_are_of_the_same_run() -> None:
    def digest(**options: Any) -> str:
        return digest_of(resolve("bert", values={"model": options}).content)

    assert digest() == digest(long_posts="cut") == digest(long_posts="auto") != digest(long_posts="windows")


def test_stats_without_a_tower_counts_no_pieces(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(corpus), "--max_tokens", "64"]) == 2
    assert "--max_tokens needs --tower" in capsys.readouterr().err
    assert main(["data", "stats", str(corpus), "--tower", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["truncation"]["long_posts"] == 0


def tagged(run: Path, folder: Path, posts: list[dict[str, Any]], *argv: str) -> list[list[str]]:
    """Texts of the entities that `predict` finds in each post."""
    source, target = folder / "posts.jsonl", folder / "tagged.jsonl"
    source.write_text("".join(json.dumps(post) + "\n" for post in posts))
    command = ["predict", "--ckpt_path", str(run), "--input", str(source), "--output", str(target), "--overwrite"]
    assert main([*command, *argv]) == 0
    return [[entity["text"] for entity in json.loads(row)["entities"]] for row in target.read_text().splitlines()]


def test_predict_reads_long_posts_in_windows_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    posts = [line(number, before) for number, before in enumerate((140, 3, 400, 0))]
    names = [[post["words"][-4], post["words"][-2]] for post in posts]
    assert tagged(run, tmp_path, posts) == names
    assert "longer than 128 pieces: 2 of 4 posts read in windows" in capsys.readouterr().err
    assert tagged(run, tmp_path, posts, "--model.long_posts", "cut") == [[], names[1], [], names[3]]
    said = capsys.readouterr().err
    assert "2 of 4 posts, 300 words unread, 4 of 8 entities lost (--model.long_posts auto" in said
    link = "https://example.org/aZ9kQ2mX7pL4wR8tB3nV6cY1dF5gH0jK2aZ9kQ2mX7pL"
    links = [*(f"{link}{number}" for number in range(40)), *posts[0]["words"][-6:]]
    assert tagged(run, tmp_path, [{"id": "u", "words": links}]) == [names[0]]
    enormous = ["x" * 5000, *posts[0]["words"][-6:]]  # more pieces than the tower reads at once
    assert tagged(run, tmp_path, [{"id": "e", "words": enormous}]) == [names[0]]


def test_windows_in_scoring_find_what_is_lost_otherwise(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["test", "--ckpt_path", str(run), "--trainer.enable_progress_bar", "false"]
    assert main([*argv, "--model.long_posts", "windows"]) == 0
    assert "test 12 of 12 posts read in windows" in capsys.readouterr().out
    (key,) = (key for key in metrics(run) if key.startswith("test@") and ":" not in key)
    assert metrics(run)[key]["f1"] > 90 and metrics(run)["test"]["f1"] == 0
    assert metrics(run)["truncation"][key]["words_unread"] == 0


READERS = {limit: tiny_reader(CorpusFacts((), ()), limit, 24) for limit in (8, 16, 128)}


@given(
    limit=st.sampled_from([*READERS]),
    lengths=st.lists(st.sampled_from((1, 1, 1, 2, 5, 40, 300)), max_size=120),
    caption=st.integers(0, 9),
)
def test_windows_cover_every_word_and_fit_and_each_is_read_where_it_is_farthest_from_an_edge(
    limit: int, lengths: list[int], caption: int
) -> None:
    reader, words, second = READERS[limit], ["a" * length for length in lengths], ["b"] * caption
    spans = reader.windows(words, second)
    assert (len(spans) == 1) == (reader.words_read(words) == len(words))
    assert spans[0][0] == 0 and spans[-1][1] == len(words)
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start < next_start <= end < next_end
    for start, end in spans:
        batch, plain = reader.collate([words[start:end]], [second]), reader.collate([words[start:end]])
        assert batch.read_mask.sum() == end - start
        assert batch.type_ids is not None and plain.attn_mask is not None
        full = end == start + 1 and int(plain.attn_mask.sum()) + 2 > limit  # a word that leaves no room for a caption
        assert len(spans) == 1 or not caption or full or batch.type_ids.any()
    distances = [[min(word - start, end - 1 - word) for start, end in spans] for word in range(len(words))]
    assert nearest_windows(spans, len(words)).tolist() == [each.index(max(each)) for each in distances]
    assert all(max(each) >= 0 for each in distances)


@pytest.mark.parametrize("limit", [8, 16, 128])
def test_windows_overlap_by_a_quarter(limit: int) -> None:
    room = limit - 2
    spans = READERS[limit].windows(["a"] * 400)
    assert all(end - next_start == room // 4 for (_, end), (next_start, _) in pairwise(spans[:-1]))
    assert {end - start for start, end in spans} == {room}
    assert READERS[limit].windows(["a"] * room) == [(0, room)]
    assert nearest_windows([(0, 8), (6, 14)], 14).tolist() == [0] * 7 + [1] * 7


def test_windows_of_a_post_of_a_megabyte_take_no_more_memory_than_its_words() -> None:
    spans = [(start, start + 8) for start in range(0, 300_000, 6)]
    tracemalloc.start()
    nearest = nearest_windows(spans, spans[-1][1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20 and nearest[:8].tolist() == [0] * 7 + [1] and nearest[-1] == len(spans) - 1


def test_a_word_of_a_short_post_is_read_as_before_beside_a_long_one(run: Path) -> None:
    method = checkpoint.load(run)
    predictor = Predictor(method)
    short, long = Post("1", tuple(line(1, 3)["words"])), Post("2", tuple(line(2, 300)["words"]))
    with torch.inference_mode():
        both = method.encoder(predictor.collator([long, short]))
        alone = method.encoder(predictor.collator([short]))
        batch = predictor.collator([short, short])
    assert batch.windows is None and batch.text.input_ids is not None
    assert both.states.shape[2] == 306
    torch.testing.assert_close(both.states[:, 1, :9], alone.states[:, 0], rtol=1e-4, atol=1e-5)
    assert not both.states[:, 1, 9:].any()


def test_a_post_whose_last_word_is_cut_is_read_alike_beside_a_long_one_and_alone(run: Path) -> None:
    method = checkpoint.load(run)
    predictor = Predictor(method)
    cut = Post("1", (*["a"] * 120, "a" * 50))
    with torch.inference_mode():
        both = method.encoder(predictor.collator([Post("2", ("a",) * 300), cut])).states[:, 1, :121]
        alone = method.encoder(predictor.collator([cut])).states[:, 0]
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)
