"""Collation: posts become exactly the tensors that a method asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnerkit.data.batches.batch import normalised
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures import decoding
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import DataError
from mnerkit.towers.text.vocabulary import VocabularyReader

READER = VocabularyReader(["new", "york", "and", "ann", "a", "red", "house"])
TAGS = TagSet(("PER", "LOC"))
FORMAT = PictureFormat(6)


def picture(value: int, name: str = "x.jpg", caption: str | None = None) -> ImageRef:
    return ImageRef(name, pixels=np.full((9, 12, 3), value, dtype=np.uint8), caption=caption)


POSTS = [
    Post("a", ("New", "York"), ("B-LOC", "I-LOC"), (picture(255, caption="a red house"),)),
    Post("b", ("Ann",), ("B-PER",), (ImageRef("lost.jpg", caption="a"),)),
    Post("c", ("Ann", "and", "New", "York"), ("B-PER", "O", "B-LOC", "I-LOC"), (picture(0), picture(255), picture(9))),
    Post("d", ("and",), ("O",)),
]


def collator(
    *views: str, out_of_play: str = "error", tagset: TagSet = TAGS, as_bytes: bool = False, **needs: object
) -> Collator:
    options: dict = {"picture": FORMAT, "caption_reader": READER, "max_images": 2, **needs}
    return Collator(
        Needs(READER, frozenset(views), **options), PictureLoader(FORMAT), tagset, out_of_play, as_bytes=as_bytes
    )


def test_tags_are_numbered_and_padded_with_zero():
    batch = collator()(POSTS)
    assert batch.tags is not None
    assert batch.tags.tolist() == [[3, 4, 0, 0], [1, 0, 0, 0], [1, 0, 3, 4], [0, 0, 0, 0]]
    assert batch.text.word_mask.sum(1).tolist() == [2, 1, 4, 1]
    assert batch.query.all() and batch.posts == POSTS and len(batch) == 4


def test_nothing_is_built_that_was_not_asked_for():
    batch = collator()(POSTS)
    unasked = (batch.images, batch.image_mask, batch.crops, batch.boxes, batch.captions, batch.caption_mask)
    assert all(each is None for each in unasked)


def test_posts_without_tags_make_a_batch_without_tags():
    assert collator()([*POSTS, Post("e", ("Ann",))]).tags is None


def test_a_tag_outside_the_set_is_an_error_unless_it_is_out_of_play():
    only_loc = TagSet(("LOC",))
    with pytest.raises(DataError, match="B-PER"):
        collator(tagset=only_loc)(POSTS)
    batch = collator(tagset=only_loc, out_of_play="O")(POSTS)
    assert batch.tags is not None and batch.tags[2].tolist() == [0, 0, 1, 2]


def test_a_missing_picture_is_masked_and_zero():
    batch = collator("whole")(POSTS)
    assert batch.images is not None and batch.image_mask is not None
    assert batch.images.shape == (4, 2, 3, 6, 6)
    assert batch.image_mask.tolist() == [[True, False], [False, False], [True, True], [False, False]]
    assert (batch.images[~batch.image_mask] == 0).all()
    assert torch.allclose(batch.images[0, 0], torch.ones(3, 6, 6))
    assert torch.allclose(batch.images[2, 0], -torch.ones(3, 6, 6))


def test_the_image_axis_has_a_place_even_where_no_post_has_a_picture():
    batch = collator("whole", "grid", "captions")([POSTS[3]])
    assert batch.images is not None and batch.images.shape[:2] == (1, 1)
    assert batch.crops is not None and batch.crops.shape[:2] == (1, 9)
    assert batch.caption_mask is not None and not batch.caption_mask.any()


def test_grid_cells_are_row_major_and_know_their_image_and_box():
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4, 4:] = 255  # the upper right quarter
    posts = [Post("q", ("Ann",), ("B-PER",), (picture(0), ImageRef("q.png", pixels=pixels))), POSTS[0]]
    batch = collator("grid", grid=2)(posts)
    assert batch.crops is not None and batch.crop_mask is not None
    assert batch.crop_image is not None and batch.boxes is not None and batch.image_mask is not None
    assert batch.crops.shape == (2, 8, 3, 6, 6)
    assert batch.crop_image[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert batch.crops[0].mean((1, 2, 3)).tolist() == pytest.approx([-1, -1, -1, -1, -1, 1, -1, -1])
    assert batch.boxes[0, 5].tolist() == [0.5, 0, 1, 0.5]
    assert batch.boxes[0, 6].tolist() == [0, 0.5, 0.5, 1]
    assert batch.crop_mask.tolist() == [[True] * 8, [True] * 4 + [False] * 4]
    assert batch.image_mask.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("view", ["grid", "objects"])
def test_a_picture_in_two_views_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str) -> None:
    shades = {"a.png": 255, "b.png": 0}
    for name, shade in shades.items():
        Image.new("RGB", (9, 12), (shade,) * 3).save(tmp_path / name)
    posts = [Post(name, ("Ann",), ("O",), (ImageRef(name, path=tmp_path / name),)) for name in shades]
    decode, decoded = decoding.decode, []
    monkeypatch.setattr(decoding, "decode", lambda ref: decoded.append(ref.name) or decode(ref))
    batch = collator("whole", view)(posts)
    assert decoded == ["a.png", "b.png"]
    assert batch.images is not None and batch.crops is not None
    assert batch.images.mean((1, 2, 3, 4)).tolist() == batch.crops.mean((1, 2, 3, 4)).tolist() == [1, -1]


def test_bytes_are_normalised_as_single_pictures_are() -> None:
    raw = np.tile(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3), (1, 2, 1, 1, 1))
    format = PictureFormat(16, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = normalised(torch.from_numpy(raw), torch.tensor([[True, False]]), format)
    assert np.array_equal(found[0, 0].numpy(), format.normalised(raw[0, 0])) and not found[0, 1].any()


@pytest.mark.parametrize("view", ["grid", "objects"])
def test_bytes_become_the_same_numbers_on_the_device(view: str) -> None:
    expected, batch = collator("whole", view)(POSTS), collator("whole", view, as_bytes=True)(POSTS)
    assert batch.images is not None and batch.images.dtype == batch.crops.dtype == torch.uint8  # type: ignore[union-attr]
    some = batch.select(torch.tensor([2, 0]))
    assert torch.equal(some.pictures("whole").decoded, expected.select(torch.tensor([2, 0])).images.flatten(0, 1))  # type: ignore
    batch.to("cpu").to("cpu")
    for name in ("images", "crops"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
        assert getattr(batch, name).is_contiguous()


def test_captions_stand_one_row_a_picture():
    batch = collator("captions")(POSTS)
    assert batch.captions is not None and batch.caption_mask is not None
    assert [tuple(words) for words in batch.captions.words] == [("a", "red", "house"), (), ("a",), (), (), (), (), ()]
    assert batch.caption_mask.tolist() == [[True, False], [True, False], [False, False], [False, False]]


def test_the_second_segment_is_the_captions_words():
    class Seen(VocabularyReader):
        second: object = None

        def collate(self, rows, second=None):
            Seen.second = second
            return super().collate(rows)

    reader = Seen(["ann"])
    captioned = Post("a", ("Ann",), ("B-PER",), (picture(1, caption="a house"), picture(2, caption="red")))
    collate = Collator(Needs(reader, frozenset({"second"}), max_images=2), None, TAGS)
    collate([captioned, POSTS[3]])
    assert Seen.second == [["a", "house", "red"], []]
    assert collate.length(captioned) == 4


def test_an_episode_is_support_then_query_with_its_own_tags():
    batch = collator("whole").episode(POSTS[:2], POSTS[2:3], ("LOC",), number=7)
    assert batch.posts == POSTS[:3] and batch.episode == 7
    assert batch.query.tolist() == [False, False, True]
    assert batch.tagset == TagSet(("LOC",))
    assert batch.tags is not None
    assert batch.tags.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2]]


def test_a_row_does_not_depend_on_its_batch_mates():
    collate = collator("whole", "grid", "captions")
    alone, together = collate([POSTS[0]]), collate(POSTS)
    assert torch.equal(alone.images[0, 0], together.images[0, 0])  # type: ignore[index]
    assert torch.equal(alone.crops[0, :9], together.crops[0, :9])  # type: ignore[index]
    assert torch.equal(alone.text.word_ids[0, :2], together.text.word_ids[0, :2])  # type: ignore[index]


def test_a_broken_picture_counts_as_missing_and_is_noted_with_its_reason(tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    post = Post("a", ("Ann",), ("B-PER",), (ImageRef("bad.jpg", path=tmp_path / "bad.jpg"),))
    collate = collator("whole")
    batch = collate([post])
    assert batch.image_mask is not None and not batch.image_mask.any()
    assert list(batch.notes["broken"]) == ["bad.jpg"]
    assert "broken" not in collate([POSTS[0]]).notes


@pytest.mark.parametrize(
    ("views", "loader"), [(("wholes",), PictureLoader(FORMAT)), (("grid",), None), (("captions",), None)]
)
def test_needs_that_can_not_be_met_are_refused_at_once(views, loader):
    with pytest.raises(ValueError, match="view"):
        Collator(Needs(READER, frozenset(views)), loader, TAGS)


def test_rows_that_are_selected_take_their_pictures_and_captions_along():
    batch = collator("whole", "grid", "captions", grid=2)(POSTS)
    order = torch.tensor([2, 0])
    chosen, alone = batch.select(order), collator("whole", "grid", "captions", grid=2)([POSTS[2], POSTS[0]])
    assert [post.id for post in chosen.posts] == ["c", "a"]
    for view in ("whole", "grid"):
        some, same = chosen.pictures(view), alone.pictures(view)
        assert some.sources == same.sources and torch.equal(some.pixels(), same.pixels())
    assert chosen.captions is not None and alone.captions is not None
    assert chosen.captions.words == alone.captions.words
    assert torch.equal(chosen.caption_mask, alone.caption_mask) and torch.equal(chosen.tags, alone.tags)


def test_the_places_of_real_pictures_and_words_are_known_before_a_batch_is_moved() -> None:
    batch = collator("whole", "captions")(POSTS)
    known = batch.known_places
    assert known is not None and batch.places is known
    assert known.of("images").tolist() == [0, 4, 5] and known.posts("images").tolist() == [0, 2]
    assert known.query.tolist() == known.queries == [0, 1, 2, 3] and not len(known.support)
    assert known.words().tolist() == [0, 1, 4, 8, 9, 10, 11, 12]
    assert batch.to("cpu").places is known
    moved = batch.to("meta")  # nothing can be read there
    assert moved.places is known and moved.places.of("images").device.type == "meta"


def test_a_mask_that_was_changed_has_other_places() -> None:
    batch = collator("whole")(POSTS)
    assert batch.image_mask is not None
    assert batch.places.posts("images").tolist() == [0, 2]
    batch.image_mask[0] = False
    assert batch.places.posts("images").tolist() == [2]
    batch.image_mask = torch.ones_like(batch.image_mask)
    assert batch.places.posts("images").tolist() == [0, 1, 2, 3]


def test_pinned_tensors_are_copied_to_a_device_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, waited = collator("whole")(POSTS), []
    pinned, to = [batch.images, batch.text.word_mask], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda value: any(value is each for each in pinned))

    def recorded(value: torch.Tensor, *args: object, **kwargs: bool) -> torch.Tensor:
        if not kwargs["non_blocking"]:
            waited.append(value)
        return to(value, *args, **kwargs)  # type: ignore[arg-type, call-overload, no-any-return]

    monkeypatch.setattr(torch.Tensor, "to", recorded)
    tags = batch.tags
    batch.to("cpu")
    assert any(each is tags for each in waited)
    assert not any(each is value for each in waited for value in pinned)
