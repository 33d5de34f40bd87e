"""The states of a post's pictures: from pixels by a vision tower, or from captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, PictureBatch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.nn.eval_mode import evaluating
from mnerkit.nn.visual_prefix import pooled_maps
from mnerkit.towers.fusion.captions import STAGES, CaptionAdapter
from mnerkit.towers.interface import ImageStates, Pooling, TextTower, VisionTower
from mnerkit.towers.text.piece_tower import PieceTower
from mnerkit.towers.vision.augment import flipped_and_shifted

CAPTIONS = "captions"
Absent = Literal["mask", "zeros"]


@dataclass
class Seen:
    """The states of B posts with k pictures (or objects) each.

    Attributes:
        states: B * k rows, row b * k + j is picture j of post b; zeros where masked.
        mask: (B, k) bool, which pictures are real.
        region_mask: (B, k, R) bool, which of their regions are real.
        image: (B, k) long, number of the image that each picture is or was cut from.
        rows: (R,) long, numbers b * k + j of the real pictures.
    """

    states: ImageStates
    mask: Tensor
    region_mask: Tensor
    image: Tensor
    rows: Tensor

    @property
    def pooled(self) -> Tensor:
        """(B, k, d_pooled)."""
        return self.states.pooled.unflatten(0, self.mask.shape)

    @property
    def regions(self) -> Tensor:
        """(B, k, R, d)."""
        return self.states.regions.unflatten(0, self.mask.shape)


class Sight(nn.Module):
    """Pixels or captions behind one interface; made by `Method.sight`.

    The tower reads only real pictures: a masked one costs nothing and does not change BatchNorm statistics. If a batch
    has no real picture, the states are zeros with a gradient of zero for the tower's weights, so that no rank leaves
    parameters unused.

    Args:
        tower: a vision tower; or a text tower, which reads captions instead of pictures.
        augment: mirror and shift pictures in training; has no effect on captions and with a frozen tower.
        absent: places without a picture are masked; or pictures of zeros, which are of the mean colour, and real.

    Attributes:
        reads: the vision tower, or the adapter around the text tower.
        kind: `pixels` or `captions`. With captions there are no objects, and stage maps have height 1.
        width: d of the regions.
        pooled_width: width of the pooled vector.
        stage_widths: channels of each stage map; empty for a tower without stages.
    """

    kind: Literal["pixels", "captions"]

    def __init__(self, tower: VisionTower | TextTower, augment: bool = False, absent: Absent = "mask") -> None:
        super().__init__()
        self.kind = "pixels" if isinstance(tower, VisionTower) else "captions"
        self.reads: VisionTower | CaptionAdapter = tower if isinstance(tower, VisionTower) else CaptionAdapter(tower)
        self.width, self.pooled_width = self.reads.width, self.reads.pooled_width
        self.stage_widths: tuple[int, ...] = (
            tower.stage_widths
            if isinstance(tower, VisionTower)
            else (tower.width,) * (STAGES if isinstance(tower, PieceTower) else 0)
        )
        self.augment = augment and isinstance(tower, VisionTower) and not tower.frozen
        self.absent = absent

    @property
    def tower(self) -> VisionTower | TextTower:
        """The tower that reads the pictures or the captions."""
        return self.reads.tower if isinstance(self.reads, CaptionAdapter) else self.reads

    @property
    def picture(self) -> PictureFormat | None:
        """Size and normalisation of the vision tower's pictures; None for captions."""
        return self.tower.picture if self.kind == "pixels" else None

    def needs(self, reader: Any, views: Iterable[str] = ("whole",), **limits: Any) -> Needs:
        """What batches must contain.

        Args:
            reader: reader of the method's text tower.
            views: `whole`, `objects` or both; replaced by `captions` for captions.
            limits: `max_images`, `max_objects`, `relevance` of `Needs`.
        """
        if self.kind == "captions":
            return Needs(reader, frozenset({"captions"}), caption_reader=self.tower.reader, **limits)
        return Needs(reader, frozenset(views), picture=self.picture, every_place=self.absent == "zeros", **limits)

    def whole(self, batch: Batch, stages: bool = False, regions: bool = True, pooling: Pooling | None = None) -> Seen:
        """Read the images of each post, (B, m) of them.

        Args:
            batch: a batch with the view `whole`, or `captions`.
            stages: whether to return stage maps.
            regions: whether to return regions. Without them (and stages), each picture has one region of zeros, and
                towers that pool without regions need not compute them.
            pooling: of the stage maps; a frozen tower caches what is pooled. None: whole maps, computed each time.
        """
        if self.kind == "captions":
            return self._captions(batch, stages)
        mask = _present(batch.image_mask, "whole")
        image = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return self._pictures(batch.pictures("whole"), mask, image, batch.places.of("images"), stages, regions, pooling)

    def objects(self, batch: Batch, stages: bool = False, regions: bool = True, pooling: Pooling | None = None) -> Seen:
        """Read the objects of each post, (B, o) of them, as in `whole`; (B, 0) with captions."""
        if self.kind == "captions":
            return self._nothing(batch, stages)
        mask, image = _present(batch.crop_mask, "objects"), _present(batch.crop_image, "objects")
        real = batch.places.of("crops")
        return self._pictures(batch.pictures("objects"), mask, image, real, stages, regions, pooling)

    def posts(self, batch: Batch) -> Tensor:
        """(P,) long, the posts of which `whole` reads an image."""
        if self.kind == "pixels" and self.absent == "zeros":
            return torch.arange(len(batch), device=batch.query.device)
        return batch.places.posts("captions" if self.kind == "captions" else "images")

    def blank(self) -> ImageStates:
        """The states of one grey picture (zeros once normalised), with stages; independent of the batch."""
        return _blank(self.tower, next(self.tower.parameters()))

    def _pictures(
        self,
        pictures: PictureBatch,
        mask: Tensor,
        image: Tensor,
        real: Tensor,
        stages: bool,
        regions: bool,
        pooling: Pooling | None,
    ) -> Seen:
        tower = self.tower
        assert isinstance(tower, VisionTower)
        rows, zeros = len(pictures), self.absent == "zeros"
        everything = torch.arange(rows, device=mask.device)
        if zeros and not (tower.constant and pictures.sources is not None):
            if pictures.decoded is None and not len(real):  # there is nothing to decode
                size = self.tower.picture.size
                pictures = PictureBatch(torch.zeros(rows, 3, size, size, device=mask.device), crops=pictures.crops)
            mask, real, zeros = torch.ones_like(mask), everything, False
        selected = pictures if len(real) == rows else pictures.select(real)
        if len(real) and self.augment and self.training:
            selected = PictureBatch(flipped_and_shifted(selected.pixels()), crops=selected.crops)

        def see(seen: PictureBatch) -> ImageStates:
            if stages:
                return _see_stages(tower, seen, pooling)
            return tower.see(seen) if regions else self._pooled(tower.see_pooled(seen))

        with torch.set_grad_enabled(torch.is_grad_enabled() and not tower.frozen):
            if not len(real):
                states = _blank(tower, mask, pooling)
            elif tower.drifting and self.training and (regions or stages):
                states = _by_place(see, selected, real % mask.shape[1])
            else:
                states = see(selected)
            if len(real) < rows:
                states = _scattered(states, real, rows)
            if zeros and len(real) < rows:  # a frozen tower reads the picture of zeros once
                side = tower.picture.size
                blank = see(PictureBatch(torch.zeros(1, 3, side, side, device=mask.device), crops=pictures.crops))
                states = _filled(states, blank, mask.flatten())
        if zeros:
            mask, real = torch.ones_like(mask), everything
        region_mask = mask.unsqueeze(-1).expand(*mask.shape, states.regions.shape[1])
        return Seen(states, mask, region_mask, image, real)

    def _pooled(self, pooled: Tensor) -> ImageStates:
        return ImageStates(pooled, pooled.new_zeros(len(pooled), 1, self.width), (1, 1))

    def _captions(self, batch: Batch, stages: bool) -> Seen:
        captions, mask = _present(batch.captions, "captions"), _present(batch.caption_mask, "captions")
        assert isinstance(self.reads, CaptionAdapter)
        tower = self.reads.tower
        with torch.set_grad_enabled(torch.is_grad_enabled() and not tower.frozen):
            states, words = self.reads(captions, stages)
        states = _masked(states, mask.flatten())
        image = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        words = words.view(*mask.shape, -1) & mask.unsqueeze(-1)
        return Seen(states, mask, words, image, batch.places.of("captions"))

    def _nothing(self, batch: Batch, stages: bool) -> Seen:
        like = next(self.tower.parameters())
        device, empty = batch.query.device, (len(batch), 0)
        maps = tuple(like.new_zeros(0, width, 1, 1, device=device) for width in self.stage_widths) if stages else ()
        regions, pooled = (like.new_zeros(*shape, device=device) for shape in ((0, 1, self.width), (0, self.width)))
        states = ImageStates(pooled, regions, (1, 1), maps, like.new_zeros(0, 2, self.width, device=device))
        mask = torch.zeros(empty, dtype=torch.bool, device=device)
        image = torch.zeros(empty, dtype=torch.long, device=device)
        return Seen(states, mask, mask.unsqueeze(-1), image, image.flatten())


def _present(value: Any, view: str) -> Any:
    if value is None:
        raise ValueError(f"the batch lacks the view {view!r}")
    return value


def _masked(states: ImageStates, mask: Tensor) -> ImageStates:
    """The states with zeros where `mask` (N,) is false."""

    def masked(part: Tensor) -> Tensor:
        return part * mask.view(-1, *(1,) * (part.dim() - 1))

    tokens = None if states.tokens is None else masked(states.tokens)
    stages = tuple(masked(stage) for stage in states.stages)
    return ImageStates(masked(states.pooled), masked(states.regions), states.grid, stages, tokens)


def _scattered(states: ImageStates, rows: Tensor, count: int) -> ImageStates:
    """Scatter the first states to their rows among `count`; zeros elsewhere."""

    def spread(part: Tensor) -> Tensor:
        return part.new_zeros(count, *part.shape[1:]).index_copy(0, rows, part[: len(rows)])

    return ImageStates(
        spread(states.pooled),
        spread(states.regions),
        states.grid,
        tuple(spread(stage) for stage in states.stages),
        None if states.tokens is None else spread(states.tokens),
    )


def _filled(states: ImageStates, blank: ImageStates, mask: Tensor) -> ImageStates:
    """The states with those of one picture where `mask` (N,) is false; without tokens."""

    def filled(part: Tensor, one: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *(1,) * (part.dim() - 1)), part, one)

    stages = tuple(map(filled, states.stages, blank.stages))
    return ImageStates(filled(states.pooled, blank.pooled), filled(states.regions, blank.regions), states.grid, stages)


def _by_place(see: Callable[[PictureBatch], ImageStates], pictures: PictureBatch, place: Tensor) -> ImageStates:
    """The states of pictures read place by place, so that statistics of a batch are those of one place at a time.

    Args:
        see: the tower.
        pictures: N of them.
        place: (N,) long, the place of each within its post.
    """
    groups = [torch.nonzero(place == number).flatten() for number in place.unique()]
    parts = [see(pictures.select(rows)) for rows in groups]
    back = torch.cat(groups).argsort()

    def together(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([*tensors])[back]

    return ImageStates(
        together(part.pooled for part in parts),
        together(part.regions for part in parts),
        parts[0].grid,
        tuple(together(maps) for maps in zip(*(part.stages for part in parts), strict=True)),
        None if parts[0].tokens is None else together(part.tokens for part in parts if part.tokens is not None),
    )


def _see_stages(tower: VisionTower, pictures: PictureBatch, pooling: Pooling | None) -> ImageStates:
    """The states with stages, pooled at once, so that no whole map is copied to its row."""
    states = tower.see_stages(pictures, pooling)
    return states if pooling is None else replace(states, stages=tuple(pooled_maps(states.stages, *pooling)))


def _blank(tower: Any, like: Tensor, pooling: Pooling | None = None) -> ImageStates:
    """The states of one grey picture; only their shapes and their gradient path to the weights are used."""
    side = tower.picture.size
    with evaluating(tower):
        return _see_stages(tower, PictureBatch(torch.zeros(1, 3, side, side, device=like.device)), pooling)
