"""OCSGA: labels of objects are words, and the post's words read them by attention (Wu et al. 2020).

B posts of W words and L words of labels, k the width of the text tower, e that of its word vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn.attention import FeedForward, MultiHeadAttention, SubLayer, TransformerLayer
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.word_vectors import vector_width, word_vectors
from mnerkit_plugins.ocsga.options import OcsgaOptions


class ReleasedNorm(nn.Module):
    """`a (x - mean) / (std + 1e-6) + b` with the unbiased deviation, as the authors have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., k) to (..., k)."""
        return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.bias


class LabelLayer(nn.Module):
    """Labels attend to each other and then to the words; the last layer, which has words attend to the labels instead.

    Args:
        width: k.
        last: whether words ask labels.
        o: the options.
    """

    def __init__(self, width: int, last: bool, o: OcsgaOptions) -> None:
        super().__init__()
        p = o.layer_dropout
        self.own, self.guided = (MultiHeadAttention(width, o.heads, p) for _ in range(2))
        self.feedforward = FeedForward(width, o.hidden or 4 * width, p)
        self.look, self.read, self.think = (SubLayer(width, p) for _ in range(3))
        self.last, self.residual = last, o.last_residual or not last

    def forward(self, labels: Tensor, label_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Labels (B, L, k) after reading words (B, W, k); in the last layer what words have read, (B, W, k)."""
        labels = self.look(labels, lambda x: self.own(x, x, mask=label_mask)[0])
        query, keys, mask = (words, labels, label_mask) if self.last else (labels, words, word_mask)

        def read(x: Tensor) -> Tensor:
            return self.guided(x, keys, mask=mask)[0]

        if self.residual:
            return self.think(self.read(query, read), self.feedforward)
        # Z = LN(A(T, O)), Z = LN(F(Z))
        states = self._normed(self.read, read(query))
        return self._normed(self.think, self.feedforward(states))

    @staticmethod
    def _normed(layer: SubLayer, x: Tensor) -> Tensor:
        assert layer.norm is not None
        return layer.norm(layer.dropout(x))


class OcsgaEncoder(Encoder):
    """LN(H + Z): word states H, and Z, what they have read of the labels.

    Args:
        text: the text tower.
        o: the options.

    Raises:
        UsageError: `heads` does not divide the text tower's width.
    """

    by_post = True

    def __init__(self, text: TextTower, o: OcsgaOptions) -> None:
        super().__init__()
        k = text.width
        if k % o.heads:
            raise UsageError(f"--model.heads {o.heads} does not divide the width {k} of tower {text.spec}")
        self.text, self.options, self.width = text, o, k
        self.dropout = nn.Dropout(o.dropout)
        if not o.labels:
            return
        self.label_map = nn.Linear(vector_width(text), k)  # W_o
        self.word_layers = nn.ModuleList(
            TransformerLayer(k, o.heads, o.hidden, o.layer_dropout, activation=nn.ReLU)
            for _ in range(o.layers if o.self_attention else 0)
        )
        self.label_layers = nn.ModuleList(LabelLayer(k, each == o.layers - 1, o) for each in range(o.layers))
        if o.layer_norm == "released":
            for module in self.modules():
                if isinstance(module, SubLayer) and module.norm is not None:
                    module.norm = ReleasedNorm(k)  # type: ignore[assignment]
        self.norm = nn.LayerNorm(k) if o.norm == "layer" else nn.BatchNorm1d(k)

    def labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """O (B, L, k), the labels of all images of each post, and which are real (B, L)."""
        assert batch.captions is not None
        vectors, mask = word_vectors(self.text, batch.captions), batch.captions.read_mask  # (B m, l, e)
        if self.options.freeze_labels:
            vectors = vectors.detach()
        size = len(batch)
        return self.label_map(vectors).unflatten(0, (size, -1)).flatten(1, 2), mask.unflatten(0, (size, -1)).flatten(1)

    def read(self, h: Tensor, word_mask: Tensor, labels: Tensor, label_mask: Tensor) -> Tensor:
        """Z (B, W, k), what words H (B, W, k) read of labels O (B, L, k)."""
        some = label_mask.any(1, keepdim=True)
        if self.options.empty == "uniform":
            labels = torch.where(some.unsqueeze(-1), labels, self.label_map.bias)
            label_mask, some = label_mask | ~some, torch.ones_like(some)
        t = h
        for layer in self.word_layers:
            t = layer(t, word_mask)
        for layer in self.label_layers:
            labels = layer(labels, label_mask, t, word_mask)
        return labels * some.unsqueeze(-1)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        mask = batch.text.read_mask
        h = self.dropout(self.text(batch.text).words)  # (B, W, k)
        if self.options.labels:
            h = h + self.read(h, mask, *self.labels(batch))
            h = self.norm(h) if self.options.norm == "layer" else self.norm(h.flatten(0, 1)).view_as(h)
        return WordStates((h * mask.unsqueeze(-1)).unsqueeze(0))
