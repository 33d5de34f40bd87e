"""Stage maps of a post's pictures, and the prefix that is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Pooling


@dataclass
class StageMaps:
    """Stage maps of B posts with k pictures each: first the images, then the objects in them.

    Attributes:
        maps: (R, c_i, h_i, w_i) each, of the R real pictures of the batch.
        rows: (R,) long, number b * k + j of each.
        mask: (B, k) bool, which pictures are real.
        words: (R, C) bool, which positions of a caption are real; None for pixels.
        images: number of whole images, the first of the k pictures.
        full: whether every position of every picture is real.
    """

    maps: tuple[Tensor, ...]
    rows: Tensor
    mask: Tensor
    words: Tensor | None
    images: int
    full: bool

    @classmethod
    def of(
        cls, sight: Sight, batch: Batch, images: bool = True, objects: bool = True, pooling: Pooling | None = None
    ) -> StageMaps:
        """Read the images of each post, and the objects in them.

        Args:
            sight: pixels (views `whole` and `objects`) or captions; with captions there are no objects.
            batch: the posts.
            images: whether to read the images.
            objects: whether to read the objects.
            pooling: how the caller pools the maps; those of pixels are pooled so already. None: whole maps.
        """
        readers = [sight.whole] * images + [sight.objects] * (objects and sight.kind == "pixels")
        groups = [reader(batch, stages=True, pooling=pooling) for reader in readers]
        real = [group.rows for group in groups]
        mask = torch.cat([group.mask for group in groups], 1)  # (B, k)
        total, offset, rows = mask.shape[1], 0, []
        for group, chosen in zip(groups, real, strict=True):
            size = group.mask.shape[1]
            rows.append(chosen // max(size, 1) * total + offset + chosen % max(size, 1))
            offset += size
        parts = [_chosen(group.states.stages, chosen) for group, chosen in zip(groups, real, strict=True)]
        maps = tuple(torch.cat(stage) if len(stage) > 1 else stage[0] for stage in zip(*parts, strict=True))
        words, full = None, sum(map(len, real)) == mask.numel()
        if sight.kind == "captions":
            words = groups[0].region_mask.flatten(0, 1)[real[0]]
            full = batch.places.whole_captions
        return cls(maps, torch.cat(rows), mask, words, groups[0].mask.shape[1] if images else 0, full)

    def and_none(self) -> StageMaps:
        """The pictures of the posts, which follow once more without pictures: 2B posts."""
        return replace(self, mask=torch.cat([self.mask, torch.zeros_like(self.mask)]), full=False)

    def position_mask(self, positions: int) -> Tensor:
        """(R, P) bool, which positions of each real picture are real: all, or the words of its caption."""
        return self.mask.new_ones(len(self.rows), positions) if self.words is None else self.words

    def spread(self, values: Tensor) -> Tensor:
        """(R, ...) to (B, k, ...), zeros for masked pictures."""
        places = values.new_zeros(self.mask.numel(), *values.shape[1:])
        return places.index_copy(0, self.rows, values).unflatten(0, self.mask.shape)

    def prefix(self, keys_values: Tensor) -> Prefix:
        """The prefix of each post: the positions of its pictures one after the other.

        Args:
            keys_values: (R, L, P, 2d), keys and values of each layer.
        """
        positions = keys_values.shape[2]
        mask = self.spread(self.position_mask(positions)).flatten(1)  # (B, kP)
        joined = self.spread(keys_values).transpose(1, 2).flatten(2, 3)  # (B, L, kP, 2d)
        keys, values = joined.chunk(2, -1)
        return Prefix(keys.unbind(1), values.unbind(1), mask, some=len(self.rows) > 0, full=self.full)


def _chosen(stages: Sequence[Tensor], rows: Tensor) -> Sequence[Tensor]:
    """The rows of these numbers, in increasing order, of every map."""
    return [stage if len(rows) == len(stage) else stage[rows] for stage in stages]


def idle(modules: Iterable[nn.Module]) -> Tensor:
    """0 with a gradient of zeros for every weight of some modules, for a batch that does not use them."""
    weights = [weight.sum() for module in modules for weight in module.parameters() if weight.requires_grad]
    return torch.stack(weights).sum() * 0.0 if weights else torch.zeros(())
