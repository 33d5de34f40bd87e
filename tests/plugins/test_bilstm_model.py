"""The encoders of the text baselines: `bert`, `bilstm` and `captions`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import UsageError
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.interface import Encoder, TextTower
from mnerkit_plugins.bert.model import BertEncoder
from mnerkit_plugins.bert.options import BertOptions
from mnerkit_plugins.bilstm.model import BilstmEncoder
from mnerkit_plugins.bilstm.options import BilstmOptions
from mnerkit_plugins.captions.model import CaptionsEncoder
from mnerkit_plugins.captions.options import CaptionsOptions

FACTS = CorpusFacts(("PER",), ("the", "cat", "sat", "mat", "dog"))
ROWS = [("the", "cat", "sat"), ("Kevin", "dog", "mat", "#", "nba"), ("dog",)]


def tower(spec: str = "bilstm", **options: object) -> TextTower:
    return text_tower(spec, facts=FACTS, **options)


def batch_of(encoder: Encoder, rows: list[tuple[str, ...]], second: list[tuple[str, ...]] | None = None) -> Batch:
    text = encoder.tower.reader.collate(rows, second)
    posts = [Post(str(number), row) for number, row in enumerate(rows)]
    return Batch(posts, text, TagSet(("PER",)), query=torch.ones(len(rows), dtype=torch.bool))


ENCODERS = {
    "bert": lambda: BertEncoder(tower("tiny"), BertOptions()),
    "bert with bilstm": lambda: BertEncoder(tower("tiny"), BertOptions(bilstm_after_encoder=True)),
    "bilstm": lambda: BilstmEncoder(tower(chars="none"), BilstmOptions()),
    "cnn-bilstm": lambda: BilstmEncoder(tower(chars="cnn"), BilstmOptions()),
    "hbilstm": lambda: BilstmEncoder(tower(chars="lstm"), BilstmOptions()),
    "captions": lambda: CaptionsEncoder(tower("tiny"), CaptionsOptions()),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_word_state_does_not_depend_on_padding_or_batch_mates(name: str) -> None:
    encoder = ENCODERS[name]().eval()
    second = [("a", "cat"), ("dog",), ()] if name == "captions" else None
    together = encoder(batch_of(encoder, ROWS, second)).states
    assert together.shape == (1, 3, 5, encoder.width)
    for row, words in enumerate(ROWS):
        alone = encoder(batch_of(encoder, [words], second and [second[row]])).states
        torch.testing.assert_close(alone[0, 0], together[0, row, : len(words)], atol=1e-6, rtol=1e-5)
        assert (together[0, row, len(words) :] == 0).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    encoder(batch_of(encoder, ROWS)).states.pow(2).sum().backward()
    assert not [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout_acts_in_training_only(name: str) -> None:
    encoder = ENCODERS[name]()
    batch = batch_of(encoder, ROWS)
    assert not torch.equal(encoder(batch).states, encoder(batch).states)
    encoder.eval()
    assert torch.equal(encoder(batch).states, encoder(batch).states)


def test_the_caption_changes_the_words_of_its_own_post_alone() -> None:
    encoder = CaptionsEncoder(tower("tiny"), CaptionsOptions()).eval()
    plain = encoder(batch_of(encoder, ROWS, [(), (), ()])).states[0]
    seen = encoder(batch_of(encoder, ROWS, [("mat",), (), ()])).states[0]
    assert (seen[0, :3] - plain[0, :3]).abs().amax(-1).gt(1e-6).all()
    torch.testing.assert_close(seen[1:], plain[1:])


@pytest.mark.parametrize("options", [{"width": 7}, {"chars": "lstm", "char_width": 7}])
def test_odd_widths_of_two_directions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="width 7: one half is of each direction; give an even number"):
        BilstmOptions(**options)
    assert BilstmOptions(char_width=7).char_width == 7  # of the CNN


def test_a_causal_tower_is_refused_for_captions() -> None:
    causal = tower("tiny")
    causal.causal = True
    with pytest.raises(UsageError, match="is causal"):
        CaptionsEncoder(causal, CaptionsOptions())
