"""The contrastive part: sequences to vectors, and the two losses (Eq. 14-17)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.nn.contrast import TopK, cosines, nce, pair_cosines
from mnerkit_plugins.mgips_cl.options import MgipsOptions, Pool

WEIGHTS = {"t2v": 1.0, "v2t": 0.0, "both": 0.5}  # weight of the direction text -> image


class SequenceVector(nn.Module):
    """f or g of Eq. 14: a sequence to one vector.

    Args:
        width: d.
        length: maximum number of positions.
        pool: masked mean, Linear and GELU; a Linear over the positions and GELU; or the first token, Linear and GELU.
        masked: leave padding out.
    """

    def __init__(self, width: int, length: int, pool: Pool, masked: bool = True) -> None:
        super().__init__()
        self.pool, self.masked = pool, masked
        self.map = nn.Linear(length, 1) if pool == "length_linear" else nn.Linear(width, width)
        self.activation = nn.GELU()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(B, n, d) to (B, d)."""
        if not self.masked:
            mask = torch.ones_like(mask)
        states = states * mask.unsqueeze(-1)
        if self.pool == "length_linear":
            weight = self.map.weight[0, : states.shape[1]]
            return self.activation(weight @ states + self.map.bias)
        vector = states[:, 0] if self.pool == "cls" else states.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return self.activation(self.map(vector))


class ImplicitContrast(nn.Module):
    """Losses `ips` (Eq. 15-16) and `cl` (Eq. 17) over the batches of all ranks.

    Args:
        width: d.
        texts: maximum number of text positions.
        images: maximum number of image positions.
        o: the options.
    """

    def __init__(self, width: int, texts: int, images: int, o: MgipsOptions) -> None:
        super().__init__()
        self.options, self.weight = o, WEIGHTS[o.cl_direction]
        self.positives = TopK(o.ips_k, o.ips_clamp_k, o.ips_exclude_own, o.detach_topk_index, o.ips_variant == "merged")
        self.text, self.image = (SequenceVector(width, n, o.cl_pool, o.cl_pool_mask) for n in (texts, images))

    def forward(
        self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor, valid: Tensor
    ) -> dict[str, Tensor]:
        """The losses by name.

        Args:
            text: (B, n, d).
            text_mask: (B, n) bool.
            image: (B, m', d).
            image_mask: (B, m') bool.
            valid: (P,) long, posts with an image.
        """
        vectors = self.text(text, text_mask), self.image(image, image_mask)
        similarity = pair_cosines(*vectors, valid) / self.options.tau  # (N, N), rows texts        Eq. 14
        losses = {}
        if self.options.use_ips:
            losses["ips"] = nce(similarity, self.weight, self.positives)  #                         Eq. 15-16
        if self.options.use_cl:
            losses["cl"] = nce(similarity, self.weight)  #                                          Eq. 17
        return losses

    @torch.no_grad()
    def similarity(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Cosines (B, B) of this batch, rows texts, for figures."""
        return cosines(self.text(text, text_mask), self.image(image, image_mask))
