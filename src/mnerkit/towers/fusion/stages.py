"""The stage maps of a post's images and objects, as methods with a visual prefix read them (HVPNet, GMF)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight


@dataclass
class StageMaps:
    """What is seen of B posts with k pictures each: their images first, then the objects in these.

    Attributes:
        maps: (R, c_i, h_i, w_i) each, of the R pictures of the batch that are real.
        rows: (R,) long, number b * k + j of each.
        mask: (B, k) bool, which pictures are real.
        words: (R, C) bool, which positions of a caption are real; None for pixels.
        images: the first so many of the k are whole images.
    """

    maps: tuple[Tensor, ...]
    rows: Tensor
    mask: Tensor
    words: Tensor | None
    images: int

    @classmethod
    def of(cls, sight: Sight, batch: Batch, images: bool = True, objects: bool = True) -> StageMaps:
        """Look at the images of each post, and at the objects in them.

        Args:
            sight: pixels (views `whole` and `objects`) or captions; with captions there are no objects.
            batch: the posts.
            images: whether to look at the images.
            objects: whether to look at the objects.
        """
        looks = [sight.whole] * images + [sight.objects] * (objects and sight.kind == "pixels")
        seen = [look(batch, stages=True) for look in looks]
        real = [torch.nonzero(each.mask.flatten()).flatten() for each in seen]
        mask = torch.cat([each.mask for each in seen], 1)  # (B, k)
        total, before, rows = mask.shape[1], 0, []
        for each, chosen in zip(seen, real, strict=True):
            size = each.mask.shape[1]
            rows.append(chosen // max(size, 1) * total + before + chosen % max(size, 1))
            before += size
        parts = [[stage[chosen] for stage in each.states.stages] for each, chosen in zip(seen, real, strict=True)]
        maps = tuple(torch.cat(stage) for stage in zip(*parts, strict=True))
        words = None
        if sight.kind == "captions":
            words = seen[0].region_mask.flatten(0, 1)[real[0]]
        return cls(maps, torch.cat(rows), mask, words, seen[0].mask.shape[1] if images else 0)

    def position_mask(self, positions: int) -> Tensor:
        """(R, P) bool, which positions of each real picture are real: all of them, or the words of its caption."""
        return self.mask.new_ones(len(self.rows), positions) if self.words is None else self.words

    def spread(self, values: Tensor) -> Tensor:
        """(R, ...) to (B, k, ...), zeros for pictures that are not real."""
        places = values.new_zeros(self.mask.numel(), *values.shape[1:])
        return places.index_copy(0, self.rows, values).unflatten(0, self.mask.shape)

    def prefix(self, keys_values: Tensor) -> Prefix:
        """The prefix of each post, its pictures' positions one after the other.

        Args:
            keys_values: (R, L, P, 2d), keys and values of each layer.
        """
        positions = keys_values.shape[2]
        mask = self.spread(self.position_mask(positions)).flatten(1)  # (B, kP)
        joined = self.spread(keys_values).transpose(1, 2).flatten(2, 3)  # (B, L, kP, 2d)
        keys, values = joined.chunk(2, -1)
        return Prefix(keys.unbind(1), values.unbind(1), mask)


def idle(modules: Iterable[nn.Module]) -> Tensor:
    """0 with a gradient of zeros for every weight of some modules: of a batch that gives them nothing to do."""
    weights = [weight.sum() for module in modules for weight in module.parameters() if weight.requires_grad]
    return torch.stack(weights).sum() * 0.0 if weights else torch.zeros(())
