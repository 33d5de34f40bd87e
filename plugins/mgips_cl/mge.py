"""Multi-granularity extractor: rows and columns of one modality weighed by the other (MGIPS-CL, Eq. 5-9)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit_plugins.mgips_cl.options import Align, MgipsOptions


class LengthMap(nn.Module):
    """Sequences of one length to another: positions are mixed, features are not.

    Args:
        length: most positions of the input.
        wanted: most positions of the output.
        align: `linear` mixes positions by a learnt matrix, of which shorter sequences use a part; `interpolate`
            stretches the real positions of each row over those that are wanted; `cross_attn` lets each wanted position
            look at the input.
    """

    def __init__(self, length: int, wanted: int, align: Align) -> None:
        super().__init__()
        self.align, self.length, self.wanted = align, length, wanted
        if align == "linear":
            self.weight = nn.Parameter(torch.empty(wanted, length).uniform_(-1, 1) * length**-0.5)
            self.bias = nn.Parameter(torch.zeros(wanted))

    def forward(self, x: Tensor, mask: Tensor, like: Tensor, like_mask: Tensor) -> Tensor:
        """Map (B, heads, a, d) to (B, heads, b, d).

        Args:
            x: the input.
            mask: (B, a) bool; a padded position has no part in the result.
            like: (B, heads, b, d), the sequence of the wanted length, which `cross_attn` asks with.
            like_mask: (B, b) bool.

        Raises:
            ValueError: sequences longer than was promised.
        """
        have, wanted = mask.shape[1], like_mask.shape[1]
        if self.align == "linear":
            if have > self.length or wanted > self.wanted:
                found = f"{have} to {wanted}"
                raise ValueError(f"lengths up to {self.length} to {self.wanted} were promised, not {found}")
            x = x * mask[:, None, :, None]
            return self.weight[:wanted, :have] @ x + self.bias[:wanted, None]
        if self.align == "interpolate":
            return interpolation(mask, like_mask).to(x.dtype).unsqueeze(1) @ x
        scores = like @ x.transpose(-1, -2) * x.shape[-1] ** -0.5  # (B, heads, b, a)
        return masked_softmax(scores, mask[:, None, None, :], -1) @ x


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the real places; zeros where none is real."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim) * mask


def interpolation(mask: Tensor, wanted: Tensor) -> Tensor:
    """Weights (B, b, a) that stretch each row's real positions linearly over its wanted ones.

    The middle of each wanted position is read between the middles of the two nearest real ones; padding has no weight.

    Args:
        mask: (B, a) bool, real positions, wherever they stand.
        wanted: (B, b) bool.
    """
    have, want = mask.sum(1, keepdim=True), wanted.sum(1, keepdim=True).clamp_min(1)  # (B, 1)
    rank = (wanted.cumsum(1) - 1).clamp_min(0)
    place = ((rank + 0.5) * have / want - 0.5).clamp_min(0)
    place = torch.minimum(place, (have - 1).clamp_min(0).to(place))  # (B, b)
    number = (mask.cumsum(1) - 1).unsqueeze(1)  # (B, 1, a)
    weights = (1 - (place.unsqueeze(-1) - number).abs()).clamp_min(0)
    return weights * mask.unsqueeze(1) * wanted.unsqueeze(-1)


class Mge(nn.Module):
    """A target sequence joined by what a source sequence tells of its tokens (rows) and features (columns).

    M_im = f1(Linear1(text side)) * f2(Linear2(image side)), both of the text's length (Eq. 5); weights of rows and
    columns are softmaxes of M_im w3 and M_im^T w4 (Eq. 6); they weigh the values, which come from the source (Eq. 7);
    the sum goes back to the target's length and through a last projection (Eq. 8). Around that stands one pre-norm
    block with a residual and a feed-forward network.

    Args:
        width: d of both.
        texts: most text positions.
        images: most image positions.
        target: which of the two the target is.
        o: the options. Each of the `mge_heads` has weights of its own from its own slice of the features.
    """

    def __init__(self, width: int, texts: int, images: int, target: Literal["image", "text"], o: MgipsOptions) -> None:
        super().__init__()
        self.target, self.options = target, o
        size = width // o.mge_heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.mix_target, self.mix_source = nn.Linear(size, size), nn.Linear(size, size)  # W_a, W_b
        self.row = nn.Linear(size, 1, bias=False)  # a bias would leave the softmax as it is
        self.column = nn.Parameter(torch.randn(texts if o.column_reading == "transpose" else size) * 0.02)
        self.to_text = LengthMap(images, texts, o.length_align)
        self.to_image = LengthMap(texts, images, o.length_align) if target == "image" else None
        self.dropout = nn.Dropout(o.dropout)
        self.ffn_norm = nn.LayerNorm(width) if o.mge_ffn else None
        self.ffn = (
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) if o.mge_ffn else None
        )

    def forward(
        self, target: Tensor, source: Tensor, target_mask: Tensor, source_mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Join.

        Args:
            target: (B, a, d).
            source: (B, b, d).
            target_mask: (B, a) bool.
            source_mask: (B, b) bool.

        Returns:
            (B, a, d), and the weights: `row` (B, heads, c) and `column` (B, heads, d / heads), c the text's length.
        """
        o = self.options
        # CLIP's last states are no norm's output, unlike BERT's: the source is brought to one scale without weights
        reads, gives = self.norm(target), functional.layer_norm(source, source.shape[-1:])
        text_mask = source_mask if self.target == "image" else target_mask
        query, key = self._split(self.query(reads)), self._split(self.key(gives))  # (B, h, a | b, d/h)
        value = self._split(self.value(gives if o.mge_value == "source" else reads))
        if self.target == "image":
            query = self._aligned(query, target_mask, key, text_mask)
            if o.mge_value == "target":
                value = self._aligned(value, target_mask, key, text_mask)
        else:
            key = self._aligned(key, source_mask, query, text_mask)
            if o.mge_value == "source":
                value = self._aligned(value, source_mask, query, text_mask)
        seen = text_mask[:, None, :, None]
        mutual = self.mix_target(query) * self.mix_source(key) * seen  # (B, h, c, d/h)             Eq. 5
        row, column = self.weights(mutual, text_mask)  # (B, h, c, 1), (B, h, 1, d/h)               Eq. 6
        weight = row * float(o.use_row) + column * float(o.use_col)
        joined = weight * value * seen  # (B, h, c, d/h)                                            Eq. 7
        if self.to_image is not None:
            joined = self.to_image(joined, text_mask, self._split(self.query(reads)), target_mask)
        return self._block(target, self.out(self._joined(joined))), {
            "row": row.squeeze(-1),
            "column": column.squeeze(2).expand(-1, -1, value.shape[-1]),
        }

    def weights(self, mutual: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of rows (B, h, c, 1) and of columns (B, h, 1, d/h), from M_im (Eq. 6)."""
        row = masked_softmax(self.row(mutual), text_mask[:, None, :, None], 2)
        if self.options.column_reading == "literal":
            column = (mutual @ self.column).unsqueeze(-1).softmax(-1)[:, :, :1]  # one element: always 1
        else:
            column = (self.column[: mutual.shape[2]] @ mutual).unsqueeze(2).softmax(-1)
        return row, column + self.options.column_bias

    def _aligned(self, x: Tensor, mask: Tensor, like: Tensor, like_mask: Tensor) -> Tensor:
        """Of the image's length to that of the text, and GELU."""
        return functional.gelu(self.to_text(x, mask, like, like_mask))

    def _block(self, target: Tensor, extracted: Tensor) -> Tensor:
        residual = self.options.interweave_residual
        x = self.dropout(extracted)  #                                                              Eq. 8
        if residual == "inside":
            x = target + x
        if self.ffn is not None and self.ffn_norm is not None:
            x = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return target + x if residual == "eq10" else x

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.options.mge_heads, -1)).transpose(1, 2)

    @staticmethod
    def _joined(x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)
