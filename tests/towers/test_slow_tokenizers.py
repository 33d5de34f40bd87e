"""Tokenizers written in Python are read word by word, as the fast ones are."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import bert_pieces, word_end_pieces
from transformers import BertTokenizer, BertTokenizerLegacy, BertweetTokenizer, PhobertTokenizer, RobertaConfig

from mnerkit.errors import TowerError
from mnerkit.towers.text.slow_tokenizer import SlowTokenizer, packed
from mnerkit.towers.text.text_reader import PieceReader, reader_from_state


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> tuple[PieceReader, PieceReader]:
    """BERT's tokenizer, fast and slow, with one vocabulary."""
    vocabulary = tmp_path_factory.mktemp("bert") / "vocab.txt"
    vocabulary.write_text("\n".join(bert_pieces()) + "\n")
    fast = BertTokenizer(vocab={piece: number for number, piece in enumerate(bert_pieces())})
    return PieceReader.of(fast, 16), PieceReader.of(BertTokenizerLegacy(str(vocabulary)), 16)


WORDS = st.lists(
    st.one_of(st.text("abcdurnt#@.[]\u00a0\u200b\u4e2d\u00e9", max_size=6), st.sampled_from(["[SEP]", "durant", "The"]))
)


@settings(deadline=None)
@given(words=WORDS, second=WORDS)
def test_a_slow_tokenizer_gives_the_batches_of_the_fast_one(
    readers: tuple[PieceReader, PieceReader], words: list[str], second: list[str]
) -> None:
    fast, slow = (reader.collate([words, ["a"]], [second, []]) for reader in readers)
    assert slow.words == fast.words
    for name in ("input_ids", "attn_mask", "type_ids", "piece_word", "first_piece", "word_mask"):
        assert torch.equal(getattr(slow, name), getattr(fast, name)), name


@pytest.mark.parametrize("kind", [PhobertTokenizer, BertweetTokenizer])
def test_byte_pairs_that_mark_the_end_of_a_word_are_read(kind: Any, tmp_path: Path) -> None:
    vocabulary, merges = word_end_pieces()
    (tmp_path / "vocab.txt").write_text(vocabulary)
    (tmp_path / "bpe.codes").write_text(merges)
    reader = PieceReader.of(kind(str(tmp_path / "vocab.txt"), str(tmp_path / "bpe.codes")), 16)
    known = {line.split()[0]: number for number, line in enumerate(vocabulary.splitlines(), 4)}
    batch = reader.collate([["the", "cat", "thea", "\u200b", "</s>"]])
    ids = batch.input_ids[0].tolist()
    assert ids[:6] == [0, known["the"], known["c@@"], known["at"], known["the@@"], known["a"]] and ids[-1] == 2
    assert batch.first_piece[0, :4].tolist() == [1, 2, 4, 6]
    assert ids[6] == 3 and 2 not in ids[1:-1]  # a word without pieces, and one that looks like a special piece
    assert batch.piece_word[0].tolist()[:7] == [-1, 0, 1, 1, 2, 2, 3]
    for again in (reader_from_state(reader.state()), pickle.loads(pickle.dumps(reader))):
        assert torch.equal(
            again.collate([["the", "cat", "on"]]).input_ids, reader.collate([["the", "cat", "on"]]).input_ids
        )


def test_a_tower_of_a_folder_with_a_slow_tokenizer_reads_words(tmp_path: Path) -> None:
    from mnerkit.data.corpus.post import CorpusFacts
    from mnerkit.towers.by_name import text_reader

    vocabulary, merges = word_end_pieces()
    (tmp_path / "vocab.txt").write_text(vocabulary)
    (tmp_path / "bpe.codes").write_text(merges)
    RobertaConfig(vocab_size=64, tokenizer_class="PhobertTokenizer").save_pretrained(tmp_path)
    reader = text_reader(f"random:{tmp_path}", CorpusFacts(()), 16)
    assert reader.length(["the", "cat"]) == 5


def test_a_damaged_text_of_a_slow_tokenizer_is_refused(
    tmp_path: Path, readers: tuple[PieceReader, PieceReader]
) -> None:
    source = json.loads(readers[1].state()["tokenizer"])
    for change, said in (
        ({"slow": "AutoModel"}, "no tokenizer AutoModel"),
        ({"slow": "PhobertTokenizer"}, "not a PhobertTokenizer"),
        ({"files": {"../x": ""}}, "not a tokenizer of Python"),
        ({"files": []}, "not a tokenizer of Python"),
    ):
        with pytest.raises(TowerError, match=said):
            SlowTokenizer.from_str(json.dumps(source | change))


def test_a_tokenizer_that_is_not_as_it_was_when_saved_and_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(bert_pieces()) + "\n")
    tokenizer = BertTokenizerLegacy(str(tmp_path / "vocab.txt"))
    tokenizer.vocab["kevin"], tokenizer.vocab["a"] = tokenizer.vocab["a"], tokenizer.vocab["kevin"]
    tokenizer.vocab_file = str(tmp_path / "vocab.txt")
    with pytest.raises(TowerError, match="cuts words otherwise"):
        packed(tokenizer)
