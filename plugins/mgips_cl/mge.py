"""Multi-granularity extractor: rows and columns of one modality, weighted by the other (MGIPS-CL, Eq. 5-9)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.nn.attention import joint_linear
from mnerkit_plugins.mgips_cl.options import Align, MgipsOptions


class LengthMap(nn.Module):
    """Maps sequences to another length: mixes positions, not features.

    Args:
        length: maximum number of input positions.
        out_length: maximum number of output positions.
        align: `linear` mixes positions by a learnt matrix, of which shorter sequences use a part; `interpolate`
            stretches the real positions of each row over the output positions; `cross_attn` lets each output position
            attend to the input.
    """

    def __init__(self, length: int, out_length: int, align: Align) -> None:
        super().__init__()
        self.align, self.length, self.out_length = align, length, out_length
        if align == "linear":
            self.weight = nn.Parameter(torch.empty(out_length, length).uniform_(-1, 1) * length**-0.5)
            self.bias = nn.Parameter(torch.zeros(out_length))

    def forward(self, x: Tensor, mask: Tensor, like: Tensor, like_mask: Tensor, heads: int = 1) -> Tensor:
        """Map (B, a, k d) to (B, b, k d).

        Args:
            x: the input, k vectors for each position.
            mask: (B, a) bool; padded positions do not affect the result.
            like: (B, b, d), a sequence of the output length, the queries of `cross_attn`.
            like_mask: (B, b) bool.
            heads: of `cross_attn`, in d.

        Raises:
            ValueError: a sequence is longer than its maximum.
        """
        length, out_length = mask.shape[1], like_mask.shape[1]
        if self.align == "linear":
            if length > self.length or out_length > self.out_length:
                limits = f"{self.length} to {self.out_length}"
                raise ValueError(f"expected lengths up to {limits}, not {length} to {out_length}")
            weight = self.weight[:out_length, :length].expand(len(x), -1, -1)
            return torch.baddbmm(self.bias[:out_length, None], weight, x * mask.unsqueeze(-1))
        if self.align == "interpolate":
            return interpolation(mask, like_mask).to(x.dtype) @ x
        size = like.shape[-1] // heads
        queries, keys = (
            each.unflatten(-1, (-1, size)).transpose(1, 2) for each in (like, x)
        )  # (B, heads, b | a, size)
        queries = queries.repeat(1, keys.shape[1] // heads, 1, 1)
        scores = queries @ keys.transpose(-1, -2) * size**-0.5  # (B, k heads, b, a)
        return (masked_softmax(scores, mask[:, None, None, :], -1) @ keys).transpose(1, 2).flatten(2)


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the real positions; zeros if there are none."""
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim) * mask


def interpolation(mask: Tensor, out_mask: Tensor) -> Tensor:
    """Weights (B, b, a) that stretch each row's real positions linearly over its output positions.

    The centre of each output position is interpolated between the centres of the two nearest real input positions;
    padding has no weight.

    Args:
        mask: (B, a) bool, real positions, not necessarily right-padded.
        out_mask: (B, b) bool.
    """
    length, out_length = mask.sum(1, keepdim=True), out_mask.sum(1, keepdim=True).clamp_min(1)  # (B, 1)
    rank = (out_mask.cumsum(1) - 1).clamp_min(0)
    place = ((rank + 0.5) * length / out_length - 0.5).clamp_min(0)
    place = torch.minimum(place, (length - 1).clamp_min(0).to(place))  # (B, b)
    number = (mask.cumsum(1) - 1).unsqueeze(1)  # (B, 1, a)
    weights = (1 - (place.unsqueeze(-1) - number).abs()).clamp_min(0)
    return weights * mask.unsqueeze(1) * out_mask.unsqueeze(-1)


class Mge(nn.Module):
    """Updates a target sequence from a source sequence, by weights of tokens (rows) and of features (columns).

    M_im = f1(Linear1(text side)) * f2(Linear2(image side)), both of the text's length (Eq. 5); weights of rows and
    columns are softmaxes of M_im w3 and M_im^T w4 (Eq. 6); they weigh the values, which come from the source (Eq. 7);
    the sum is mapped to the target's length and projected (Eq. 8), within a pre-norm block with a residual and a
    feed-forward network.

    Args:
        width: d of both.
        texts: maximum number of text positions.
        images: maximum number of image positions.
        target: which of the two the target is.
        o: the options. Each of the `mge_heads` computes weights from its own slice of the features.
        hidden: width of the feed-forward network; default: four times `width`.
        eps: added to the variance by the norms of a text-guided block as released, as by those of its tower.
    """

    def __init__(
        self,
        width: int,
        texts: int,
        images: int,
        target: Literal["image", "text"],
        o: MgipsOptions,
        hidden: int | None = None,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.target, self.options = target, o
        size, hidden = width // o.mge_heads, 4 * width if hidden is None else hidden
        self.post_norm = target == "text" and o.mge_text_block == "released"
        clip = target == "image" and o.mge_image_block == "released"
        norm = partial(nn.LayerNorm, width, eps=eps if self.post_norm else 1e-5)
        self.norm = norm()
        self.query, self.key = (nn.Linear(width, width) for _ in range(2))
        self.value = nn.Linear(width, width) if o.mge_value_map == "own" else None
        self.out = nn.Linear(width, width)
        self.mix_target, self.mix_source = nn.Linear(size, size), nn.Linear(size, size)  # W_a, W_b
        self.row = nn.Linear(size, 1, bias=False)  # a bias would not change the softmax
        self.column = nn.Parameter(torch.randn(texts if o.column_reading == "transpose" else size) * 0.02)
        self.to_text = LengthMap(images, texts, o.length_align)
        self.values_to_text = LengthMap(images, texts, o.length_align) if self.post_norm and self.value else None
        self.to_image = LengthMap(texts, images, o.length_align) if target == "image" else None
        self.dropout = nn.Dropout(0.0 if clip else o.dropout)
        self.ffn_norm = norm() if o.mge_ffn else None
        activation = QuickGelu() if clip else nn.GELU()
        self.ffn = nn.Sequential(nn.Linear(width, hidden), activation, nn.Linear(hidden, width)) if o.mge_ffn else None

    def forward(
        self, target: Tensor, source: Tensor, target_mask: Tensor, source_mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the target.

        Args:
            target: (B, a, d).
            source: (B, b, d).
            target_mask: (B, a) bool.
            source_mask: (B, b) bool.

        Returns:
            (B, a, d), and the weights: `row` (B, heads, c) and `column` (B, heads, d / heads), c the text's length.
        """
        o, to_text = self.options, self.target == "text"
        normed = target if self.post_norm else self.norm(target)
        if o.mge_source_norm == "unweighted":
            source = functional.layer_norm(source, source.shape[-1:])
        (text, text_mask), (image, image_mask) = (
            ((normed, target_mask), (source, source_mask))
            if to_text
            else ((source, source_mask), (normed, target_mask))
        )
        shown, in_rows = text_mask, text_mask  # pieces that the values, and those that the rows have
        if o.mge_pad == "released":
            shown = torch.ones_like(text_mask)
            in_rows = text_mask if to_text else shown
        of_text, of_image = (self.query, self.key) if to_text else (self.key, self.query)
        text_maps, image_maps = [of_text], [of_image]
        if self.value is not None:
            (text_maps if to_text == (o.mge_value == "target") else image_maps).append(self.value)
        # f1(Linear1(.)) and f2(Linear2(.)), (B, c, d) each, and the values, which are of one of the sides
        texts = joint_linear(text, text_maps).chunk(len(text_maps), -1)
        images = self._of_image(image_maps, image, image_mask, text, texts[0], shown)
        query, key = (texts[0], images[0]) if to_text else (images[0], texts[0])
        value = key if o.mge_value == "source" else query
        value = self._split((*texts[1:], *images[1:], value)[0])  # (B, c, h, d/h)
        real = shown[:, :, None, None]
        mutual = self.mix_target(self._split(query)) * self.mix_source(self._split(key)) * real  #   Eq. 5
        row, column = self.weights(mutual, in_rows)  # (B, c, h, 1), (B, 1, h, d/h)                 Eq. 6
        if self.post_norm:  # heads first, which is the order of the draws
            row, column = (self.dropout(each.transpose(1, 2).contiguous()).transpose(1, 2) for each in (row, column))
        joined = self.weigh(row, column, value)  # (B, c, h, d/h)                                   Eq. 7
        if self.to_image is None:
            joined = (joined * real).flatten(2)
        else:
            like = of_image(normed) if o.length_align == "cross_attn" else normed
            joined = self.to_image(joined.flatten(2), shown, like, target_mask, o.mge_heads)
        return self._block(target, self.out(joined)), {
            "row": row.squeeze(-1).transpose(1, 2),
            "column": column.squeeze(1).expand(-1, -1, value.shape[-1]),
        }

    def weights(self, mutual: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of rows (B, c, h, 1) and of columns (B, 1, h, d/h), from M_im (B, c, h, d/h) (Eq. 6)."""
        o = self.options
        row = masked_softmax(self.row(mutual), text_mask[:, :, None, None], 1)
        if o.column_reading == "literal":
            column = (mutual @ self.column).unsqueeze(-1).softmax(-1)[:, :1]  # one element: always 1
        else:
            by_token = self.column[: mutual.shape[1]].expand(len(mutual), 1, -1)  # (B, 1, c)
            column = (by_token @ mutual.flatten(2)).unflatten(-1, mutual.shape[2:]).softmax(-1)
        biased = o.column_bias and o.column_bias_side in ("both", self.target)
        return row, column + o.column_bias if biased else column

    def weigh(self, row: Tensor, column: Tensor, value: Tensor) -> Tensor:
        """The values weighed by the sum of both weights, or by those that the options leave (Eq. 7)."""
        o = self.options
        if o.use_row and o.use_col:
            return (row + column) * value
        # those left out still have a gradient, zero: a weight without one stops distributed training
        return (row * float(o.use_row) + column * float(o.use_col)) * value

    def _of_image(
        self, maps: Sequence[nn.Linear], image: Tensor, mask: Tensor, text: Tensor, like: Tensor, to: Tensor
    ) -> Sequence[Tensor]:
        """Projections of the image, mapped to the text's length with GELU, (B, c, d) each."""
        if self.post_norm:  # as released: first the length, then the projection
            lengths = (self.to_text, self.values_to_text)
            return [
                project(functional.gelu((length or self.to_text)(image, mask, text, to)))
                for project, length in zip(maps, lengths, strict=False)
            ]
        mapped = self.to_text(joint_linear(image, maps), mask, like, to, self.options.mge_heads)
        return functional.gelu(mapped).chunk(len(maps), -1)

    def _block(self, target: Tensor, extracted: Tensor) -> Tensor:
        residual = self.options.interweave_residual
        x = self.dropout(extracted)  #                                                              Eq. 8
        if residual == "inside":
            x = target + x
        if self.post_norm:
            x = self.norm(x)
        if self.ffn is not None and self.ffn_norm is not None:
            if self.post_norm:
                x = self.ffn_norm(x + self.dropout(self.ffn(x)))
            else:
                x = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return target + x if residual == "eq10" else x

    def _split(self, x: Tensor) -> Tensor:
        """(B, c, d) to (B, c, h, d/h)."""
        return x.unflatten(-1, (self.options.mge_heads, -1))


class QuickGelu(nn.Module):
    """CLIP's activation, x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
