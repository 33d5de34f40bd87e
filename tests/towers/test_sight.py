"""Sight: pixels or captions behind one interface, and nothing is seen where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures import picture_loader
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.visual_prefix import pooled_maps
from mnerkit.towers import text_tower, vision_tower
from mnerkit.towers.frozen.cached_inputs import KnownPictures
from mnerkit.towers.fusion import sight as sight_module
from mnerkit.towers.fusion.captions import STAGES
from mnerkit.towers.fusion.sight import Absent, Sight
from mnerkit.towers.fusion.stage_maps import StageMaps
from mnerkit.towers.interface import Pooling

Folder = Callable[[str], str]
VISIONS = ("tiny", "vit", "clip", "random:resnet18")
FACTS = CorpusFacts(("PER",), ("red", "house", "a", "and", "blue"))


def sight_of(spec: str, folder_of: Folder, freeze: bool = False) -> Sight:
    torch.manual_seed(0)
    if spec in ("bert", "words"):
        tower: Any = text_tower("tiny" if spec == "words" else folder_of(spec), facts=FACTS, freeze=freeze)
    else:
        tower = vision_tower(spec if spec in ("tiny", "random:resnet18") else folder_of(spec), freeze=freeze)
    return Sight(tower)


def batch_of(sight: Sight, rows: slice = slice(0, 4)) -> Batch:
    data = MnerData(variant="multi", limit=8)
    reader = text_tower("tiny", facts=FACTS).reader
    data.connect(sight.needs(reader, ("whole", "objects"), max_images=3, max_objects=2))
    return data.collator()(data.posts("train")[rows])


@pytest.mark.parametrize("spec", [*VISIONS, "bert", "words"])
@pytest.mark.parametrize("stages", [False, True])
def test_shapes_are_those_that_the_attributes_say(folder_of: Folder, spec: str, stages: bool) -> None:
    sight = sight_of(spec, folder_of).eval()
    batch = batch_of(sight)
    for seen in (sight.whole(batch, stages), sight.objects(batch, stages)):
        (b, k), states = seen.mask.shape, seen.states
        r = states.regions.shape[1]
        assert b == 4 and seen.image.shape == (b, k) and seen.region_mask.shape == (b, k, r)
        assert states.pooled.shape == (b * k, sight.pooled_width) and seen.pooled.shape == (b, k, sight.pooled_width)
        assert states.regions.shape == (b * k, r, sight.width) and seen.regions.shape == (b, k, r, sight.width)
        if stages:
            assert tuple(each.shape[:2] for each in states.stages) == tuple((b * k, w) for w in sight.stage_widths)
        assert (seen.region_mask.any(2) == seen.mask).all()
        assert seen.mask.any() == (k > 0)
        for part in (states.pooled, states.regions, *states.stages):
            assert not part[~seen.mask.flatten()].any()
    assert sight.kind == ("captions" if spec in ("bert", "words") else "pixels")
    assert len(sight.stage_widths) == (STAGES if spec in ("tiny", "random:resnet18", "bert") else 0)
    if sight.kind == "captions":
        assert sight.objects(batch).mask.shape == (4, 0)


@pytest.mark.parametrize("pooling", [(2, "adaptive"), (3, "released")])
@pytest.mark.parametrize("absent", ["mask", "zeros"])
def test_stages_are_pooled_before_they_are_copied(
    folder_of: Folder, monkeypatch: pytest.MonkeyPatch, pooling: Pooling, absent: Absent
) -> None:
    sight = sight_of("random:resnet18", folder_of).eval()
    sight.absent = absent
    batch = batch_of(sight)
    whole, pooled = StageMaps.of(sight, batch), StageMaps.of(sight, batch, pooling=pooling)
    for mine, theirs in zip(pooled.maps, pooled_maps(whole.maps, *pooling), strict=True):
        assert torch.equal(mine, theirs)
    monkeypatch.setattr(sight_module, "_scattered", lambda states, *_: pytest.fail(f"copied {states.stages[0].shape}"))
    if absent == "mask":
        with pytest.raises(pytest.fail.Exception, match=r"copied .*, 64, 2, 2\]|copied .*, 64, 3, 3\]"):
            StageMaps.of(sight, batch, pooling=pooling)


@pytest.mark.parametrize("spec", ["tiny", "random:resnet18"])
def test_masked_pictures_have_no_part_in_what_others_are(folder_of: Folder, spec: str) -> None:
    sight = sight_of(spec, folder_of).train()
    batch = batch_of(sight)
    assert batch.images is not None and batch.image_mask is not None and not batch.image_mask.all()
    expected = sight.whole(batch).states.regions
    statistics = [value.clone() for name, value in sight.state_dict().items() if "running" in name]
    again = sight_of(spec, folder_of).train()
    batch.images[~batch.image_mask] = 5.0
    torch.testing.assert_close(again.whole(batch).states.regions, expected)
    for now, then in zip((v for n, v in again.state_dict().items() if "running" in n), statistics, strict=True):
        torch.testing.assert_close(now, then)


@pytest.mark.parametrize("spec", [*VISIONS, "bert", "words"])
def test_a_batch_without_pictures_leaves_no_parameter_unused_and_no_statistics_behind(
    folder_of: Folder, spec: str
) -> None:
    sight, used = sight_of(spec, folder_of).train(), sight_of(spec, folder_of).train()
    batch, full = batch_of(sight), batch_of(used)
    for mask in (batch.image_mask, batch.crop_mask, batch.caption_mask):
        if mask is not None:
            mask.fill_(False)
    before = {name: value.clone() for name, value in sight.state_dict().items() if "running" in name}
    whole, objects = sight.whole(batch, stages=True), sight.objects(batch, stages=True)
    assert not whole.states.pooled.any() and not objects.states.regions.any()
    assert all(torch.equal(value, sight.state_dict()[name]) for name, value in before.items())
    (
        whole.states.pooled.sum() + whole.states.regions.sum() + sum(each.sum() for each in whole.states.stages)
    ).backward()
    seen = used.whole(full, stages=True).states
    (seen.pooled.sum() + seen.regions.sum() + sum(each.sum() for each in seen.stages)).backward()
    with_gradient = {name for name, each in used.named_parameters() if each.grad is not None}
    assert {name for name, each in sight.named_parameters() if each.grad is not None} >= with_gradient
    assert all(not each.grad.any() for each in sight.parameters() if each.grad is not None)


@pytest.mark.parametrize("spec", ["vit", "random:resnet18", "bert"])
def test_a_frozen_tower_is_asked_once_and_says_the_same(
    folder_of: Folder, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sight = sight_of(spec, folder_of, freeze=True)
    batch = batch_of(sight)
    stages = spec == "bert"  # stages of a caption are kept, those of pictures are not
    first = sight.whole(batch, stages)
    assert not first.states.pooled.requires_grad
    monkeypatch.setattr(sight.tower, "_read" if stages else "_states", None)
    again = sight.whole(batch, stages)
    torch.testing.assert_close(again.states.regions, first.states.regions)
    for one, other in zip(again.states.stages, first.states.stages, strict=True):
        torch.testing.assert_close(one, other)
    trained = sight_of(spec, folder_of).eval().whole(batch, stages)
    torch.testing.assert_close(trained.states.pooled, first.states.pooled, atol=1e-5, rtol=1e-4)
    for one, other in zip(trained.states.stages if stages else (), first.states.stages, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_objects_that_a_frozen_tower_knows_are_seen_without_decoding(
    folder_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sight = sight_of("vit", folder_of, freeze=True).eval()
    data = MnerData(variant="multi", limit=6)
    needs = sight.needs(text_tower("tiny", facts=FACTS).reader, ("whole", "objects"), max_images=3, max_objects=2)
    data.connect(needs, known=KnownPictures([sight.tower]))
    posts = data.posts("train")
    before = data.collator()(posts)
    assert before.crops is not None
    expected = sight.objects(before), sight.whole(before)
    monkeypatch.setattr(picture_loader, "read_pixels", None)
    after = data.collator()(posts)
    assert after.crops is None and after.images is None
    for now, then in zip((sight.objects(after), sight.whole(after)), expected, strict=True):
        torch.testing.assert_close(now.states.regions, then.states.regions)
        assert torch.equal(now.mask, then.mask) and torch.equal(now.image, then.image)


class Blind(Tagger):
    """A method that looks by Sight alone."""

    def __init__(self, text: str, vision: str, **training: Any) -> None:
        super().__init__(**training)
        self.text, self.vision = text, vision

    def make_encoder(self) -> Any:
        text = self.text_tower("text", self.text, max_tokens=32, word_pool="mean")
        self.eye = self.sight("vision", self.vision, text, augment=True)
        return text

    def needs(self) -> Needs:
        return self.eye.needs(self.towers["text"].reader, ("whole",), max_images=2)


def blind(text: str, vision: str, towers: dict[str, Any] | None = None) -> Blind:
    tagger = Blind(text, vision, head=load_head_class("crf")())
    tagger.build(FACTS, towers=towers)
    return tagger


def test_a_tagger_s_sight_is_its_vision_tower_or_a_copy_of_its_text_tower(folder_of: Folder) -> None:
    pixels = blind("tiny", "tiny")
    assert pixels.eye.kind == "pixels" and pixels.eye.augment and pixels.needs().views == {"whole"}
    captions = blind(folder_of("bert"), "captions")
    text, copy = captions.towers["text"], captions.towers["vision"]
    assert copy is not text and copy.frozen and not text.frozen and copy.external
    assert captions.needs().views == {"captions"} and captions.needs().picture is None
    assert copy.reader.max_tokens == text.reader.max_tokens == 32 and copy.word_pool == "mean"  # type: ignore[union-attr]
    for one, other in zip(text.parameters(), copy.parameters(), strict=True):
        assert torch.equal(one, other)
    again = blind(folder_of("bert"), "captions", captions.record()["towers"])
    assert again.towers["vision"].frozen and again.eye.kind == "captions"
    # a tower with new weights knows nothing: its copy is trained
    assert not blind("tiny", "captions").towers["vision"].frozen


def test_pictures_move_in_training_alone_and_never_where_the_tower_is_frozen() -> None:
    tagger = blind("tiny", "tiny")
    batch = batch_of(tagger.eye)
    tagger.eye.train()
    assert not torch.equal(tagger.eye.whole(batch).states.regions, tagger.eye.whole(batch).states.regions)
    tagger.eye.eval()
    assert torch.equal(tagger.eye.whole(batch).states.regions, tagger.eye.whole(batch).states.regions)
    assert not Sight(vision_tower("tiny", freeze=True), augment=True).augment
