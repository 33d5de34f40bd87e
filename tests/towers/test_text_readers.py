"""Words become pieces or numbers, and nothing is lost on the way."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import byte_pieces
from transformers import BertTokenizer, CLIPTokenizer, RobertaTokenizer

from mnerkit.errors import CheckpointError, TowerError
from mnerkit.towers.text.text_reader import PieceReader, VocabularyReader, reader_from_state, split_text
from mnerkit.towers.text.vocabulary import MAX_CHARS, SHAPES, shape_of

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, object]:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *".?#@[]"]
    pieces += ["##" + letter for letter in "abcdefghijklmnopqrstuvwxyz"] + ["the", "cat", "dur", "##ant", "kevin"]
    byte, clip = byte_pieces(ROBERTA), byte_pieces(["<|startoftext|>", "<|endoftext|>"], "</w>")
    return {
        "bert": BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}),
        "roberta": RobertaTokenizer(vocab=byte[0], merges=byte[1], add_prefix_space=True),
        "clip": CLIPTokenizer(vocab=clip[0], merges=clip[1]),
    }


KINDS = ["bert", "roberta", "clip"]


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("#@'.:/ht ps5,)हि\u0301")), max_size=60))
def test_every_visible_character_lands_in_exactly_one_word(text: str) -> None:
    words, offsets = split_text(text)
    covered = [place for start, end in offsets for place in range(start, end)]
    assert covered == [place for place, letter in enumerate(text) if not letter.isspace()]
    assert words == tuple(text[start:end] for start, end in offsets)
    assert all(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#NBA: Trump's 9.30 fans…", "# NBA : Trump ' s 9.30 fans …"),
        ("RT @J_B1: https://t.co/AbC-1 :)", "RT @ J_B1 : https://t.co/AbC-1 :)"),
        ("500,000 left-back 2, x:)", "500,000 left - back 2 , x : )"),
        ("हिन्दी 😂😂 e\u0301te", "हिन्दी 😂 😂 e\u0301te"),
    ],
)
def test_raw_tweets_are_cut_like_the_corpus(text: str, words: str) -> None:
    assert split_text(text)[0] == tuple(words.split())


def test_splitting_a_tweet_of_the_corpus_gives_its_words_back(real_data: Path) -> None:
    blocks = (real_data / "twitter2017" / "test.txt").read_text(encoding="utf-8").split("IMGID:")[1:]
    rows = [[line.split("\t")[0] for line in block.splitlines()[1:] if line.strip()] for block in blocks]
    rows = [[word for word in row if word.strip()] for row in rows]
    same = sum(list(split_text(" ".join(row))[0]) == row for row in rows)
    assert same / len(rows) > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_equal_the_librarys_own(tokenizers, kind: str) -> None:
    rows = [["Kevin", "Durant", "sat"], ["the", "cat", ".", "#", "dog"], ["Oakland"]]
    batch = PieceReader.of(tokenizers[kind]).collate(rows)
    for row, words in enumerate(rows):
        theirs = tokenizers[kind](words, is_split_into_words=True)
        mask = batch.attn_mask[row]
        assert batch.input_ids[row][mask].tolist() == theirs["input_ids"]
        word_of = [-1 if word is None else word for word in theirs.word_ids()]
        assert batch.piece_word[row][mask].tolist() == word_of
        assert batch.first_piece[row, : len(words)].tolist() == [word_of.index(word) for word in range(len(words))]


@pytest.mark.parametrize("kind", KINDS)
def test_second_segment_equals_the_librarys_own_pair(tokenizers, kind: str) -> None:
    batch = PieceReader.of(tokenizers[kind]).collate([["the", "cat"], ["dog"]], [["a", "photo"], []])
    theirs = tokenizers[kind](["the", "cat"], ["a", "photo"], is_split_into_words=True)
    mask = batch.attn_mask[0]
    assert batch.input_ids[0][mask].tolist() == theirs["input_ids"]
    assert (
        batch.input_ids[1][batch.attn_mask[1]].tolist() == tokenizers[kind](["dog"], is_split_into_words=True).input_ids
    )
    owners = theirs.sequence_ids()
    starts = owners.index(1)
    assert batch.type_ids[0][mask].tolist() == [int(place >= starts) for place in range(len(owners))]
    assert (batch.piece_word[0][batch.type_ids[0] == 1] == -1).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_of_a_word_the_first_pieces_are_read(tokenizers, kind: str, data) -> None:
    word = st.one_of(st.text(min_size=1, max_size=9), st.sampled_from(["\u200b", "http://t.co/Xy7bQ9"]))
    rows = data.draw(st.lists(st.lists(word, max_size=4), min_size=1, max_size=3))
    most = data.draw(st.integers(1, 4))
    whole = PieceReader.of(tokenizers[kind]).collate(rows, [row[::-1] for row in rows])
    reader = PieceReader.of(tokenizers[kind], word_pieces=most)
    for each in (reader, pickle.loads(pickle.dumps(reader))):
        cut = each.collate(rows, [row[::-1] for row in rows])
        for row, words in enumerate(rows):
            for number in range(len(words)):
                read = [batch.input_ids[row][batch.piece_word[row] == number].tolist() for batch in (whole, cut)]
                assert read[1] == read[0][:most]
                assert cut.piece_word[row, cut.first_piece[row, number]] == number
            assert each.length(words) == len(each.collate([words]).input_ids[0])
            assert cut.type_ids[row].sum() <= whole.type_ids[row].sum()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_every_word_within_the_limit_has_its_pieces(tokenizers, kind: str, data) -> None:
    reader = PieceReader.of(tokenizers[kind], max_tokens=12)
    word = st.one_of(st.text(min_size=1, max_size=6), st.sampled_from(["\xa0", "\u200b", "[SEP]", "<|endoftext|>"]))
    rows = data.draw(st.lists(st.lists(word, max_size=9), min_size=1, max_size=4))
    second = [["photo", "of"]] * len(rows)
    batch = reader.collate(rows, second)
    assert batch.input_ids.shape[1] <= 12
    assert batch.word_mask.sum(1).tolist() == [len(row) for row in rows]
    for row, words in enumerate(rows):
        firsts = batch.first_piece[row, : len(words)]
        seen = int((firsts >= 0).sum())
        assert (firsts[:seen] >= 0).all(), "words are cut off at the end only"
        assert batch.piece_word[row][firsts[:seen]].tolist() == list(range(seen))
        assert not (set(reader.end_ids) & set(batch.input_ids[row][batch.piece_word[row] >= 0].tolist()))
        assert reader.length(words) == int(reader.collate([words]).attn_mask.sum())
        alone = reader.collate([words]).first_piece[0, : len(words)]
        assert ((alone >= 0) == (firsts >= 0)).all(), "a second segment never costs the tweet a word"


def test_a_word_without_pieces_is_the_unknown_piece(tokenizers) -> None:
    for kind, unknown in (("bert", "[UNK]"), ("clip", "?</w>")):
        batch = PieceReader.of(tokenizers[kind]).collate([["cat", "\xa0", "dog"]])
        at = int(batch.first_piece[0, 1])
        assert int(batch.input_ids[0, at]) == tokenizers[kind].convert_tokens_to_ids(unknown)
        assert batch.first_piece[0].min() >= 0


def test_words_beyond_the_limit_are_marked_unread(tokenizers) -> None:
    batch = PieceReader.of(tokenizers["bert"], max_tokens=8).collate([["the"] * 10, ["cat"]])
    assert batch.first_piece[0].tolist() == [1, 2, 3, 4, 5, 6, -1, -1, -1, -1]
    assert batch.word_mask[0].all() and batch.read_mask[0].sum() == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_is_rebuilt_from_plain_data(tokenizers, kind: str) -> None:
    reader = PieceReader.of(tokenizers[kind], max_tokens=20, second_words=2)
    rows, second = [["Kevin", "\xa0", "[SEP]"], ["<|endoftext|>"]], [["a", "b", "c"], ["d"]]
    for other in (reader_from_state(reader.state()), pickle.loads(pickle.dumps(reader))):
        for name in ("input_ids", "attn_mask", "type_ids", "piece_word", "first_piece"):
            assert torch.equal(getattr(reader.collate(rows, second), name), getattr(other.collate(rows, second), name))


def test_a_byte_level_tokenizer_reads_words_with_their_blank(tokenizers) -> None:
    bare = RobertaTokenizer(vocab=tokenizers["roberta"].get_vocab(), merges=byte_pieces(ROBERTA)[1])
    with_blank = PieceReader.of(tokenizers["roberta"]).collate([["the", "cat"]])
    assert torch.equal(PieceReader.of(bare).collate([["the", "cat"]]).input_ids, with_blank.input_ids)


def test_a_broken_tokenizer_is_one_line() -> None:
    for text in ("no json", "{}", "[1]"):
        with pytest.raises(TowerError, match=r"tokenizer\.json"):
            PieceReader(text, None)
    with pytest.raises(CheckpointError, match="unknown reader 'x'"):
        reader_from_state({"kind": "x"})


def test_vocabulary_reader_numbers_words_shapes_and_characters() -> None:
    reader = VocabularyReader(("the", "kevin", "größe"))
    batch = reader.collate([["The", "Kevin", "xyz"], ["a" * 99], []])
    assert batch.word_ids.tolist() == [[2, 3, 1], [1, 0, 0], [0, 0, 0]]
    assert batch.word_mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert batch.chars.shape == (3, 3, MAX_CHARS) and (batch.chars[0, 0, :3] > 1).all()
    assert batch.chars.max() < reader.n_chars and batch.word_ids.max() < reader.n_words
    again = reader_from_state(reader.state())
    assert torch.equal(again.collate([["Größe"]]).chars, reader.collate([["Größe"]]).chars)
    assert reader.length(["a", "b"]) == 2


@pytest.mark.parametrize(
    ("word", "shape"),
    [
        ("https://t.co/x", "url"),
        ("#nba", "tag"),
        ("@kd", "mention"),
        ("2017", "digits"),
        ("U20", "letters and digits"),
        ("NBA", "capitals"),
        ("I", "capitalised"),
        ("Kevin", "capitalised"),
        ("iPhone", "mixed"),
        ("cat", "small"),
        ("#", "other"),
        ("😂", "other"),
    ],
)
def test_shapes_tell_how_a_word_is_written(word: str, shape: str) -> None:
    assert SHAPES[shape_of(word)] == shape
