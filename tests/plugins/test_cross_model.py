"""The cross-attention encoder: what it sees, what it ignores, and that it learns to bind words to regions."""

import pytest
import torch

from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.towers.text.tiny import TinyText
from mnerkit.towers.vision.tiny_cnn import TinyVision
from mnerkit_plugins.cross.model import CrossEncoder
from mnerkit_plugins.cross.options import CrossOptions

TYPES = types_of("default")
POSTS = generate("multi", "train", 8)
FACTS = CorpusFacts.of(TYPES, generate("multi", "train", 100))


def _encoder(seed=0, **options):
    torch.manual_seed(seed)
    return CrossEncoder(TinyText(FACTS), TinyVision(), CrossOptions(**options)).eval()


def _batch(encoder, posts, max_images=4):
    needs = Needs(encoder.text.reader, frozenset({"whole"}), encoder.vision.picture, max_images=max_images)
    return Collator(needs, PictureLoader(encoder.vision.picture), TagSet(TYPES))(posts)


@pytest.mark.parametrize("options", [{}, {"attention": "dot"}, {"heads": 4}, {"gate": False}])
def test_a_post_is_read_alike_alone_and_among_longer_ones(options):
    encoder = _encoder(**options)
    together = encoder(_batch(encoder, POSTS)).states[0]
    for number, post in enumerate(POSTS[:4]):
        alone = encoder(_batch(encoder, [post])).states[0, 0]
        torch.testing.assert_close(together[number, : len(post.words)], alone, atol=1e-5, rtol=1e-4)
        assert not together[number, len(post.words) :].any()


def test_attention_is_a_distribution_over_the_regions_of_real_pictures():
    encoder = _encoder()
    trace = encoder(_batch(encoder, POSTS), trace=True).trace
    attention = trace["attention"]
    assert attention.shape[2] == 4 * 64 and trace["gate"].shape == attention.shape[:2]
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))
    for row, post in enumerate(POSTS):
        assert not attention[row, :, 64 * len(post.images) :].any()


def test_without_trace_nothing_is_kept():
    encoder = _encoder()
    assert encoder(_batch(encoder, POSTS)).trace == {}


def test_a_post_without_pictures_sees_nothing_and_is_still_read():
    encoder = _encoder()
    bare = Post("bare", POSTS[0].words, POSTS[0].tags)
    encoded = encoder(_batch(encoder, [bare, POSTS[1]]), trace=True)
    assert not encoded.trace["attention"][0].any()
    assert encoded.states[0, 0].isfinite().all() and encoded.states[0, 0].any()


def test_matching_prefers_the_right_pictures_once_words_and_regions_agree():
    """Queries and keys that carry the number of their post match it best, whatever the padding."""
    encoder = _encoder(matching=0.5)
    batch = _batch(encoder, POSTS)
    own = torch.eye(8)[:, None, :].expand(8, 5, 8)
    seen = torch.ones(8, 5, dtype=torch.bool)
    words = torch.eye(8)[:, None, :].expand(8, batch.text.word_mask.shape[1], 8)
    right = encoder.match(words, own, batch, seen)
    wrong = encoder.match(words, own.roll(1, 0), batch, seen)
    assert right < 0.01 < wrong


def test_matching_of_a_single_post_is_zero():
    encoder = _encoder(matching=0.5)
    assert encoder(_batch(encoder, POSTS[:1])).losses["matching"] == 0


def test_augmentation_happens_in_training_alone():
    encoder = _encoder(dropout=0.0)
    batch = _batch(encoder, POSTS)
    torch.testing.assert_close(encoder(batch).states, encoder(batch).states)
    seen = []
    encoder.vision.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(batch)
    encoder.train()(batch)
    assert torch.equal(seen[0], batch.images.flatten(0, 1)) and not torch.equal(seen[1], seen[0])


def test_a_batch_without_pictures_names_the_missing_view():
    encoder = _encoder()
    batch = _batch(encoder, POSTS)
    batch.images = None
    with pytest.raises(ValueError, match="'whole'"):
        encoder(batch)
