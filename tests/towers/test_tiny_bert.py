"""The small BERT: pieces of words and shapes, a tower like any other, and soon of one mind with the small CNN."""

from __future__ import annotations

import pytest
import torch

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import UsageError
from mnerkit.towers import text_tower
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.saved_state import tower_from_state, tower_state
from mnerkit.towers.text.piece_tower import PieceTower
from mnerkit.towers.text.text_reader import reader_from_state
from mnerkit.towers.text.tiny import OFFSETS, TinyBert, rotation, waves
from mnerkit.towers.text.vocabulary import SHAPES, shape_of
from mnerkit.towers.tiny_pretraining import pretrain
from mnerkit.towers.vision.tiny_cnn import TinyVision

POSTS = generate("default", "train", 32)
FACTS = CorpusFacts.of(types_of("default"), POSTS)
ROWS = [["look", "at", "the", "Red", "Blorpin"], ["RT", "@someone", ":", "http://t.co/a1", "#Fun", "iPhone", "2nd"]]


def _tower(**options) -> PieceTower:
    torch.manual_seed(0)
    tower = text_tower("tiny-bert", facts=FACTS, **options)
    assert isinstance(tower, PieceTower)
    return tower.eval()


def _pieces(word: str) -> list[str]:
    tower = _tower()
    names = {number: piece for piece, number in tower.reader._tokenizer.get_vocab().items()}
    ids = tower.reader.collate([[word]]).input_ids
    assert ids is not None
    return [names[number] for number in ids[0].tolist()][1:-1]


def test_a_known_word_is_one_piece_and_its_capitals_are_another():
    assert _pieces("the") == ["the"] and _pieces("blorpin") == ["[UNK]"]
    the = {word: _pieces(word) for word in ("The", "THE", "tHe")}
    assert all(len(pieces) == 2 and pieces[1] == "the" for pieces in the.values())
    assert len({pieces[0] for pieces in the.values()}) == 3
    assert _pieces("Blorpin") == [the["The"][0], "[UNK]"]


def test_words_of_one_shape_share_its_piece_and_those_of_another_have_none_of_it():
    """The pieces tell apart what `shape_of` tells apart, but for digits with and without letters."""
    words = ["http://t.co/x", "@me", "#tag", "7", "7pm", "NATO", "Ann", "A", "iPad", "new", "...", "É", "U.S."]
    for one in words:
        for other in words:
            kinds = {SHAPES[shape_of(word)].replace("letters and digits", "digits") for word in (one, other)}
            heads = {pieces[0] if (pieces := _pieces(word))[0] not in ("[UNK]", word) else "" for word in (one, other)}
            assert (len(kinds - {"small", "other"}) > 1) <= (len(heads) > 1), (one, other)


def test_text_that_looks_like_a_special_piece_is_a_word():
    assert _pieces("[CLS]")[-1] == "[UNK]" and _pieces("\xa0") == ["[UNK]"]


def test_a_post_is_read_alike_alone_and_among_longer_ones():
    tower = _tower()
    together = tower(tower.reader.collate(ROWS)).words
    for number, row in enumerate(ROWS):
        alone = tower(tower.reader.collate([row])).words[0]
        torch.testing.assert_close(together[number, : len(row)], alone, atol=1e-5, rtol=1e-4)


def test_it_is_rebuilt_from_plain_data_and_takes_a_prefix_then_too():
    tower = _tower(width=32, layers=2, heads=2, word_pool="mean")
    again = tower_from_state(tower_state(tower))
    again.load_state_dict(tower.state_dict())
    text = reader_from_state(tower.reader.state()).collate(ROWS)
    pairs = tuple(torch.randn(2, 3, 32) for _ in range(4))
    prefix = Prefix(pairs[:2], pairs[2:], torch.ones(2, 3, dtype=torch.bool))
    assert isinstance(again, TinyBert)
    assert torch.equal(again.eval()(text, prefix=prefix).words, tower(text, prefix=prefix).words)


def test_its_options_make_its_like_and_rebuild_it_at_its_size():
    tower = _tower(width=32, layers=2, heads=2, word_pool="mean")
    like = _tower(**tower.options)
    again = tower_from_state(tower_state(tower))
    for other in (like, again):
        assert other.architecture() == tower.architecture()
        assert other.options == tower.options


def test_in_training_some_known_words_are_read_as_unknown_and_shapes_never():
    tower = _tower().train()
    assert isinstance(tower, TinyBert)
    tower.forget = 1.0
    seen = []
    tower.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    text = tower.reader.collate([["the", "The"]])
    tower(text)
    assert text.input_ids is not None and text.input_ids[0, 1] != tower.unknown
    first, shape, second = seen[0][0, 1:4].tolist()
    assert first == second == tower.unknown and shape == text.input_ids[0, 2]


def test_the_first_layer_starts_by_looking_at_the_words_beside():
    tower = _tower()
    tower.model.set_attn_implementation("eager")
    text = tower.reader.collate([["the"] * 12])
    seen = tower.model(text.input_ids, attention_mask=text.attn_mask, output_attentions=True).attentions[0][0]
    for head, offset in enumerate(OFFSETS):
        places = torch.arange(3, 10)
        assert torch.equal(seen[head, places].argmax(-1), places + offset)


def test_a_turn_takes_the_waves_of_a_place_to_those_of_another():
    places = torch.tensor([0.0, 3.0, 41.0])
    torch.testing.assert_close(waves(places, 16) @ rotation(-2, 16).T, waves(places - 2, 16), atol=1e-5, rtol=1e-4)


def test_an_option_that_it_does_not_have_is_refused():
    with pytest.raises(UsageError, match="no option 'widht'"):
        _tower(widht=3)
    with pytest.raises(UsageError, match="pos_interp"):
        _tower(pos_interp=True)


def test_it_learns_with_the_small_cnn_what_words_and_pictures_share():
    text, vision, losses = _tower(layers=1), freeze(TinyVision()), []
    pretrain(text, vision, POSTS, epochs=6, batch_size=16, progress=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.9 * losses[0]
    assert vision.frozen and not text.frozen and all(each.requires_grad for each in text.parameters())
