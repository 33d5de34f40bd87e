"""Plugin captions in two views: the text alone is drawn to what is read with the caption, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import UsageError
from mnerkit.methods.heads import load_head_class
from mnerkit_plugins.captions.tagger import CaptionsTagger

TAGS = TagSet(("PER", "LOC"))
CAPTIONED = Post("a", ("look", "at", "Ann"), ("O", "O", "B-PER"), (ImageRef("a.jpg", caption="a house by the sea"),))
BARE = Post("b", ("Ann", "in", "Rome", "and", "Bonn"), ("B-PER", "O", "B-LOC", "O", "B-LOC"))
WORDS = ("look", "at", "ann", "in", "rome", "and", "bonn", "a", "house", "by", "the", "sea")


def tagger(head: str = "crf", **options: object) -> CaptionsTagger:
    """A tagger over a tiny tower; dropout only where it is asked for."""
    torch.manual_seed(0)
    made = CaptionsTagger(head=load_head_class(head)(), **{"dropout": 0.0, **options})  # type: ignore[arg-type]
    made.build(CorpusFacts(TAGS.types, WORDS))
    if not options.get("dropout"):
        made.encoder.tower.dropout.p = made.encoder.tower.forget = 0.0
    return made


def batch_of(made: CaptionsTagger, *posts: Post) -> Batch:
    return Collator(made.needs(), None, TAGS)(list(posts))


def without(post: Post) -> Post:
    return Post(post.id, post.words, post.tags)


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_both_views_are_trained_as_two_batches_would_be(head: str) -> None:
    made = tagger(head, agreement=1.0)
    plain = tagger(head)
    plain.load_state_dict(made.state_dict())
    losses = made.losses(batch_of(made, CAPTIONED, BARE))
    with_caption = plain.losses(batch_of(plain, CAPTIONED, BARE))["head"]
    text_alone = plain.losses(batch_of(plain, without(CAPTIONED), BARE))["head"]
    torch.testing.assert_close(losses["head"], with_caption + text_alone)
    assert losses["agreement"] > 1e-5


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_the_teacher_gets_no_gradient(head: str) -> None:
    made = tagger(head, agreement=1.0)
    batch = batch_of(made, CAPTIONED, BARE)
    encoded = made.encoder(batch)
    encoded.states.retain_grad()
    made.losses_of(encoded, batch)["agreement"].backward()
    gradient = encoded.states.grad
    assert gradient is not None
    assert not gradient[0].any()  # read with the caption
    assert gradient[1, 0].any()  # the text alone


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_a_post_without_a_caption_adds_no_agreement_whatever_dropout_does(head: str) -> None:
    made = tagger(head, agreement=1.0, dropout=0.5)
    both, alone = (batch_of(made, *posts) for posts in ((CAPTIONED, BARE), (without(CAPTIONED), BARE)))
    encoded = made.encoder(both)
    encoded.states.retain_grad()
    made.losses_of(encoded, both)["agreement"].backward()
    assert encoded.states.grad is not None
    assert encoded.states.grad[1, 0].any()
    assert not encoded.states.grad[:, 1].any()
    losses = made.losses(alone)
    assert losses["agreement"] == 0
    assert losses["agreement"].requires_grad  # every rank of several has the same graph


def test_weight_zero_is_the_plugin_without_the_option() -> None:
    losses = []
    for options in ({}, {"agreement": 0.0}):
        made = tagger(dropout=0.3, **options)
        batch = batch_of(made, CAPTIONED, BARE)
        torch.manual_seed(7)
        found = made.losses(batch)
        assert list(found) == ["head"]
        assert made.encoder(batch).states.shape[0] == 1
        losses.append(found["head"])
    assert torch.equal(*losses)


def test_the_weight_reaches_the_sum_of_the_losses() -> None:
    assert tagger(agreement=0.7).loss_weights() == {"agreement": 0.7}


@pytest.mark.parametrize("posts", [(CAPTIONED, BARE), (BARE,)])
def test_what_is_read_after_training(posts: tuple[Post, ...]) -> None:
    made = tagger(agreement=1.0).eval()
    batch, alone = batch_of(made, *posts), batch_of(made, *(without(post) for post in posts))
    caption, text, both = (
        tagger(agreement=1.0, read=read).eval().encoder(batch).states for read in ("caption", "text", "both")
    )
    plain = tagger().eval()
    assert torch.equal(caption, plain.encoder(batch).states)
    torch.testing.assert_close(text, plain.encoder(alone).states)
    assert torch.equal(both, torch.cat((caption, text)))


def test_a_head_without_a_distribution_over_tags_is_refused() -> None:
    with pytest.raises(UsageError, match="crf or softmax, not nearest"):
        tagger("nearest", agreement=1.0)
