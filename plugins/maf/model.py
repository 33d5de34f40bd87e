"""MAF: picture and text are matched, what words see is scaled by the match, and both are aligned (Xu et al. 2022).

B posts of W words (or pieces) and R regions, d the width of the text tower.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.errors import UsageError
from mnerkit.nn.attention import TransformerLayers
from mnerkit.nn.contrast import info_nce
from mnerkit.nn.gates import Gate
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import PieceTower
from mnerkit_plugins.maf.options import MafOptions


class Regions(NamedTuple):
    """What is seen of B posts: regions (B, R, c) with their mask (B, R), and the mean image (B, c')."""

    x: Tensor
    mask: Tensor
    pooled: Tensor

    @property
    def present(self) -> Tensor:
        """Which posts have a picture, (B,) bool."""
        return self.mask.any(1)


class MafEncoder(Encoder):
    """H = [S; g N]: words S, and N = P Z, what they see, as far as the picture belongs to the text.

    Raises:
        UsageError: `heads` does not divide the text tower's width.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight, o: MafOptions) -> None:
        super().__init__()
        d = text.width
        if d % o.heads:
            raise UsageError(f"--model.heads {o.heads} does not divide the width {d} of tower {text.spec}")
        self.text, self.sight, self.options, self.dropout = text, sight, o, nn.Dropout(o.dropout)
        self.width, self.flat = 2 * d, o.match and o.match_pool == "flat"
        if isinstance(text, PieceTower) and self.flat:
            text.keep_layers = True  # else a frozen tower returns no states of padding
        self.region_map = nn.Linear(sight.width, d)  # W_v
        self.visual = TransformerLayers(o.visual_layers, d, o.heads, o.hidden, o.dropout)  # TL
        self.gate = Gate(d, bias="both") if o.gate else None  # W_1, W_2
        self.matching = nn.Linear(2 * d * (o.max_tokens if self.flat else 1), 2) if o.match else None  # W_m
        self.sentence = nn.Linear(d, d) if o.align and o.align_text == "pooler" else None  # W_p
        self.align_text = _mlp(d, d) if o.align else None  # W_3, W_4
        self.align_image = _mlp(sight.pooled_width, d) if o.align else None  # W_5, W_6

    # ------------------------------------------------------------------ what is read

    def regions(self, batch: Batch) -> Regions:
        """The regions of all images of each post, and the mean of the images' vectors."""
        seen = self.sight.whole(batch)
        real = seen.mask.unsqueeze(-1)
        pooled = (seen.pooled * real).sum(1) / real.sum(1).clamp_min(1)
        return Regions(seen.regions.flatten(1, 2), seen.region_mask.flatten(1, 2), pooled)

    def words(self, text: TextBatch) -> tuple[Tensor, Tensor]:
        """States of the words (B, W, d), or with `flat` of all `max_tokens` pieces; and the sentence's (B, d)."""
        states = self.text(padded(text, self.options.max_tokens) if self.flat else text)
        if self.flat:
            assert states.pieces is not None
            return states.pieces, states.pooled
        return states.words, states.pooled

    # ------------------------------------------------------------------ matching and alignment

    def draw(self, size: int, posts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of posts and pictures of the matching task.

        Args:
            size: B.
            posts: (P,) long, the posts with a picture; the others neither give nor take at random draws.

        Returns:
            The post that gives each one its picture (B,), its own number but for negatives; labels (B,), 1: own; the
            posts (N,) that are given another one's.
        """
        o, device = self.options, posts.device
        partner, label = torch.arange(size, device=device), torch.ones(size, dtype=torch.long, device=device)
        if o.draw == "last":
            swapped = partner[:0]
            if size > o.negative_count:
                first, half = size - o.negative_count, o.negative_count // 2
                label[first:] = 0  # of an odd number the last one, too, though it keeps its own
                one, other = partner[first : first + half].clone(), partner[first + half : first + 2 * half].clone()
                partner[one], partner[other] = other, one
                swapped = torch.cat((one, other))
            return partner, label, swapped
        count = max(2, round(o.negative_share * len(posts))) if len(posts) > 2 and o.negative_share else 0
        rows = posts[torch.randperm(len(posts), device=device)[:count]]
        partner[rows], label[rows] = rows.roll(1), 0
        return partner, label, rows.sort().values

    def scores(self, s: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        """Scores (B, 2) of no match and match, of words S and what they see Z (B, W, d) with real words `mask`."""
        assert self.matching is not None
        both = torch.cat([s, z], -1)
        if self.flat:
            return self.matching(both.flatten(1))
        real = mask.unsqueeze(-1)
        return self.matching((both * real).sum(1) / real.sum(1).clamp_min(1))

    def aligned(self, sentence: Tensor, image: Tensor, posts: Tensor) -> Tensor:
        """L_align of the sentences (B, d) and images (B, c') of the `posts` (P,)."""
        assert self.align_text is not None and self.align_image is not None
        o = self.options
        c = sentence if self.sentence is None else torch.tanh(self.sentence(sentence))
        weight = o.lambda_c if o.lambda_c_on == "t2i" else 1 - o.lambda_c
        return info_nce(self.align_text(c), self.align_image(image), o.tau, weight, posts)

    # ------------------------------------------------------------------ forward pass

    def exchanged(self, s: Tensor, z: Tensor, v: Tensor, seen: Tensor, partner: Tensor, rows: Tensor) -> Tensor:
        """Z~ (B, W, d): what words see of their partner's pictures, or the partner's states (`negatives`)."""
        if self.options.negatives == "states":
            return z[partner]
        if not len(rows):
            return z
        return z.index_copy(0, rows, self.visual(s[rows], seen[partner[rows]], v[partner[rows]]))

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        o, count, losses = self.options, batch.text.read_mask.shape[1], dict[str, Tensor]()
        mask = batch.text.read_mask
        states, sentence = self.words(batch.text)
        s, seen = self.dropout(states), self.regions(batch)
        v = self.region_map(seen.x)
        z = own = self.visual(s, seen.mask, v)
        if self.training and self.matching is not None:
            partner, label, negatives = self.draw(len(batch), self.sight.posts(batch))
            other = self.exchanged(s, own, v, seen.mask, partner, negatives)
            wrong = functional.cross_entropy(self.scores(s, other, mask), label, reduction="none")
            losses["match"] = (wrong * seen.present).sum() / seen.present.sum().clamp_min(1)
            z = other if o.ner_on_negatives else own
        if self.training and o.align:
            losses["align"] = self.aligned(sentence, seen.pooled, self.sight.posts(batch))
        p = s.new_ones(len(batch)) if self.matching is None else self.scores(s, z, mask).softmax(-1)[:, 1]
        n = p.view(-1, 1, 1) * z
        g = torch.ones_like(n) if self.gate is None else self.gate.share(s, n)
        h = torch.cat([s, g * n], -1)[:, :count] * mask.unsqueeze(-1)
        traces = {}
        if trace:
            attention = self.visual.weights(s, seen.mask, v)[:, :count]
            traces = {"gate": g.mean(-1)[:, :count], "match": p}
            if self.sight.kind == "pixels":  # words of a caption are no regions of a picture
                traces["attention"] = attention
        return WordStates(h.unsqueeze(0), losses, trace=traces)


def padded(text: TextBatch, length: int) -> TextBatch:
    """The batch with padding up to `length` pieces in each row."""
    assert text.input_ids is not None and text.attn_mask is not None
    assert text.type_ids is not None and text.piece_word is not None
    behind = (0, max(0, length - text.input_ids.shape[1]))
    ids, mask, types = (functional.pad(each, behind) for each in (text.input_ids, text.attn_mask, text.type_ids))
    words = functional.pad(text.piece_word, behind, value=-1)
    return replace(text, input_ids=ids, attn_mask=mask, type_ids=types, piece_word=words)


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
