"""The tiny towers: independent of company, of any size, and soon of one mind about words and pictures."""

import numpy as np
import pytest
import torch

from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.text.tiny import TinyText
from mnerkit.towers.tiny_pretraining import grid_cells, pretrain
from mnerkit.towers.vision.augment import flipped_and_shifted
from mnerkit.towers.vision.tiny_cnn import TinyVision, patch_colours

POSTS = generate("default", "train", 48)
FACTS = CorpusFacts.of(types_of("default"), POSTS)


def _towers(seed=0):
    torch.manual_seed(seed)
    return TinyText(FACTS), TinyVision()


def _pixels(posts):
    loader = PictureLoader(TinyVision().picture)
    return torch.from_numpy(np.stack([loader.whole(post.images[0]) for post in posts]))


def test_word_states_do_not_depend_on_padding_or_batch_mates():
    text = _towers()[0].eval()
    rows = [post.words for post in POSTS[:6]]
    together = text(text.reader.collate(rows))
    for number, row in enumerate(rows):
        alone = text(text.reader.collate([row]))
        torch.testing.assert_close(together.words[number, : len(row)], alone.words[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(together.pooled[number], alone.pooled[0], atol=1e-6, rtol=1e-5)
        assert not together.words[number, len(row) :].any()


def test_a_row_without_words_has_a_state_of_zeros():
    text = _towers()[0].eval()
    states = text(text.reader.collate([(), ("look", "at", "this")]))
    assert not states.words[0].any() and not states.pooled[0].any() and states.words[1].any()


def test_regions_and_pooled_vectors_do_not_depend_on_batch_mates():
    vision = _towers()[1].eval()
    pixels = _pixels(POSTS[:4])
    together, alone = vision(pixels), vision(pixels[2:3])
    torch.testing.assert_close(together.regions[2:3], alone.regions, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.pooled[2:3], alone.pooled, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "grid"), [(64, 64, (8, 8)), (32, 48, (4, 6)), (24, 24, (3, 3)), (9, 7, (2, 1))]
)
def test_pictures_of_any_size_have_a_region_for_each_patch(height, width, grid):
    states = _towers()[1].eval()(torch.randn(2, 3, height, width))
    assert states.grid == grid
    assert states.regions.shape == (2, grid[0] * grid[1], 96)
    assert states.pooled.shape == (2, 96)


def test_stages_are_a_pyramid():
    stages = _towers()[1].eval()(torch.randn(1, 3, 64, 64)).stages
    assert [stage.shape[1:] for stage in stages] == [(16, 32, 32), (32, 16, 16), (96, 8, 8), (96, 8, 8)]


def test_a_region_changes_with_its_own_patch_and_not_with_a_far_one():
    vision = _towers()[1].eval()
    pixels = torch.zeros(1, 3, 64, 64)
    changed = pixels.clone()
    changed[..., :8, :8] = 1.0
    difference = (vision(pixels).regions - vision(changed).regions).abs().sum(-1).view(8, 8)
    assert difference[0, 0] > 0 and difference[7, 7] == 0


def test_glances_leave_the_batch_statistics_of_whole_pictures_alone():
    vision = _towers()[1].train()
    before = {name: value.clone() for name, value in vision.named_buffers()}
    vision.glance(torch.randn(4, 3, 24, 24))
    assert all(torch.equal(value, before[name]) for name, value in vision.named_buffers())


def test_a_coloured_patch_has_its_chroma():
    pixels = torch.zeros(1, 3, 16, 16)
    pixels[:, 0, :8, :8] = 3.0  # red on black
    colours = patch_colours(pixels, (2, 2))[0, :, 0, 0]
    assert colours.tolist() == pytest.approx([3, 0, 0, 2, -1, -1, 2, -1, -1, -2, 1, 1])


def test_grid_cells_are_those_of_the_grid_view_row_by_row():
    pixels = torch.zeros(1, 3, 66, 66)
    pixels[:, :, 22:44, 44:] = 1.0  # second row, third column
    means = grid_cells(pixels).mean((1, 2, 3))
    assert means.argmax() == 5 and means.sum() == pytest.approx(means[5].item(), abs=1e-4)


def test_augmentation_moves_pixels_and_makes_none():
    torch.manual_seed(0)
    pixels = torch.rand(8, 3, 20, 20)
    moved = flipped_and_shifted(pixels)
    assert not torch.equal(moved, pixels)
    torch.testing.assert_close(moved.flatten(2).sort(-1).values, pixels.flatten(2).sort(-1).values)


@pytest.fixture(scope="module")
def trained():
    text, vision = _towers()
    freeze(text), freeze(vision)
    losses = []
    figures = pretrain(text, vision, POSTS, epochs=4, batch_size=16, progress=lambda _, loss: losses.append(loss))
    return text, vision, losses, figures


def test_pretraining_lowers_its_loss(trained):
    _, _, losses, figures = trained
    assert len(losses) == 4 and losses[-1] < 0.9 * losses[0]
    assert figures["loss"] == losses[-1] and {"words", "captions"} <= figures.keys()


@pytest.mark.parametrize(("most", "epochs"), [(12, 4), (8, 2), (7, 2), (3, 1), (1, 1)])
def test_many_pictures_are_gone_through_less_often_and_once_at_least(most, epochs, monkeypatch):
    monkeypatch.setattr("mnerkit.towers.tiny_pretraining.MOST_STEPS", most)
    seen = []
    pretrain(*_towers(), POSTS[:12], epochs=4, batch_size=4, progress=lambda epoch, _: seen.append(epoch))
    assert seen == list(range(epochs))


def test_frozen_towers_are_frozen_again_after_pretraining(trained):
    text, vision, _, _ = trained
    for tower in (text, vision):
        assert tower.frozen and not tower.training
        assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_pretraining_is_a_function_of_words_pictures_and_seed_and_leaves_the_random_state_alone(trained):
    """Not of tags or ground truth, which these posts lack."""
    bare = [Post(post.id, post.words, images=post.images) for post in POSTS]
    text, vision = _towers()
    torch.manual_seed(7)
    pretrain(text, vision, bare, epochs=4, batch_size=16)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert drawn == torch.rand(1)
    torch.testing.assert_close(text.word.weight, trained[0].word.weight)
    torch.testing.assert_close(vision.colour.weight, trained[1].colour.weight)


def test_pictures_without_captions_are_enough_for_pretraining():
    posts = [Post(post.id, post.words, images=(ImageRef("x", pixels=post.images[0].pixels),)) for post in POSTS[:8]]
    assert pretrain(*_towers(), posts, epochs=1)["loss"] > 0


def test_without_pictures_nothing_is_trained():
    text, vision = _towers()
    before = text.word.weight.clone()
    assert pretrain(text, vision, [Post("x", ("a", "b"))]) == {}
    assert torch.equal(text.word.weight, before)


def test_pretraining_leaves_out_missing_pictures():
    text, vision = _towers()
    pretrain(text, vision, [*POSTS[:8], Post("x", ("a",), images=(ImageRef("gone.jpg"),))], epochs=1)
