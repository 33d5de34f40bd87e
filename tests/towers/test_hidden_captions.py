"""Plugin captions: a caption that is hidden is as if it was not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.towers import text_tower
from mnerkit_plugins.captions.model import CaptionsEncoder
from mnerkit_plugins.captions.options import CaptionsOptions

Folder = Callable[[str], str]
POSTS = [
    Post("a", ("look", "at", "Ann"), images=(ImageRef("a.jpg", caption="a red house by the sea"),)),
    Post("b", ("Ann",), images=(ImageRef("b.jpg", caption="a dog"),)),
]


def made(folder: str, caption_dropout: float) -> tuple[CaptionsEncoder, Batch, Batch]:
    """An encoder whose tower drops nothing, and the posts with captions and without."""
    tower = text_tower(folder, facts=CorpusFacts((), words=("look", "at", "Ann", "a", "dog")), second_words=24)
    encoder = CaptionsEncoder(tower, CaptionsOptions(dropout=0.0, caption_dropout=caption_dropout)).train()
    tower.eval()
    both, alone = (
        Collator(Needs(tower.reader, frozenset(views)), None, TagSet(()))(POSTS) for views in (("second",), ())
    )
    return encoder, both, alone


def test_hidden_captions_change_nothing(folder_of: Folder) -> None:
    encoder, both, alone = made(folder_of("bert"), caption_dropout=1 - 1e-9)
    torch.testing.assert_close(encoder(both).states, encoder(alone).states)
    encoder.eval()  # at evaluation every caption is read
    assert not torch.allclose(encoder(both).states, encoder(alone).states, atol=1e-3)
    seen, _, _ = made(folder_of("bert"), caption_dropout=0.0)
    assert not torch.allclose(seen(both).states, seen(alone).states, atol=1e-3)


def test_about_the_asked_share_is_hidden_and_the_rest_is_read_whole(folder_of: Folder) -> None:
    encoder, both, alone = made(folder_of("bert"), caption_dropout=0.25)
    whole = encoder.eval()(both).states[0]
    encoder.train()
    encoder.tower.eval()
    hidden = 0
    for seed in range(200):
        torch.manual_seed(seed)
        states = encoder(both).states[0]
        for row in range(2):
            read = torch.allclose(states[row], whole[row], atol=1e-5)
            assert read or torch.allclose(states[row], encoder.eval()(alone).states[0][row], atol=1e-5)
            encoder.train()
            encoder.tower.eval()
            hidden += not read
    assert 0.17 < hidden / 400 < 0.33


@pytest.mark.parametrize("name", ["tiny", "bilstm"])
def test_captions_hide_from_towers_of_whole_words(name: str) -> None:
    encoder, both, alone = made(name, caption_dropout=1 - 1e-9)
    torch.testing.assert_close(encoder(both).states, encoder(alone).states)
    encoder.eval()
    assert not torch.allclose(encoder(both).states, encoder(alone).states, atol=1e-3)
