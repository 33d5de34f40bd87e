"""Texts in scripts without blanks are cut as the training corpus was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnerkit
from mnerkit.cli import main
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tweet_tokenizer import has_characters, split_text

TEXT = "王小明在北京看NBA！"
WORDS = ("王", "小", "明", "在", "北", "京", "看", "NBA", "！")


@given(st.text(st.sampled_from("王明カ\u3099ab1 _.#\ufe00，\U00020000"), max_size=12))
def test_each_character_is_a_word_and_none_is_lost(text: str) -> None:
    words, offsets = split_text(text, characters=True)
    assert [text[start:end] for start, end in offsets] == list(words)
    assert "".join(words) == "".join(text.split())
    assert all(sum(letter in "王明カ\U00020000" for letter in word) < 2 for word in words)
    plain = "".join(letter for letter in text if letter not in "王明カ\u3099\ufe00\U00020000")
    assert split_text(plain, characters=True) == split_text(plain)


def test_a_corpus_is_cut_into_characters_if_its_words_are() -> None:
    assert split_text(TEXT, characters=True)[0] == WORDS and split_text(TEXT)[0] == ("王小明在北京看NBA", "！")
    assert has_characters(WORDS) and has_characters((*map(chr, range(0x4E00, 0x4F00)), "小明"))
    assert not has_characters(("王", "小明")) and not has_characters(("NBA",)) and not has_characters(())
    facts = CorpusFacts.of(("PER",), [Post("1", WORDS)])
    assert facts.characters and CorpusFacts.from_state(facts.state()) == facts
    assert CorpusFacts.of((), [Post("1", ("a",))]).state() == {"types": [], "words": []}


def test_a_text_to_predict_is_cut_as_the_training_posts_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{word} {'B-PER' if word == '王' else 'O'}\n" for word in WORDS)
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{lines}\n{lines}")
    run = mnerkit.fit(
        "bilstm",
        data={"corpus": str(tmp_path)},
        trainer={"max_epochs": 1, "accelerator": "cpu"},
        runs_dir=tmp_path / "runs",
        report=lambda _: None,
    )
    tagger = mnerkit.load(run)
    assert tagger.characters
    folder = tagger.save_pretrained(tmp_path / "saved")
    for each in (tagger, mnerkit.load(folder)):
        (row,) = each.predict([{"text": TEXT}])
        assert row["words"] == list(WORDS)
    source, out = tmp_path / "in.jsonl", tmp_path / "out.conll"
    source.write_text(json.dumps({"text": TEXT}) + "\n")
    capsys.readouterr()
    assert main(["predict", str(run.path), "--input", str(source), "--output", str(out)]) == 0
    assert "without blanks" not in capsys.readouterr().err
    assert [line.split("\t")[0] for line in out.read_text().splitlines() if "\t" in line] == list(WORDS)
    assert main(["predict", str(run.path), "--text", TEXT, "--output_format", "jsonl"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["words"] == list(WORDS) and "without blanks" not in printed.err
