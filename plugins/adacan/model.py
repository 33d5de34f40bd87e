"""AdaCAN: words look at regions, what they see looks at words, and a filter weighs what both found (Zhang et al. 2018).

B posts of W words and R regions, k the width of the text tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.nn.additive_attention import AdditiveAttention
from mnerkit.nn.gates import Gate
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit_plugins.adacan.options import AdacanOptions


class Filter(nn.Module):
    """`s tanh(W_9 m + b)` with `s = sigmoid(w_s [W_7 h; W_8 m + b] + b)`: how much m has to do with the word h.

    Args:
        width: k.
        weighs: whether there is s; else it is 1.
    """

    def __init__(self, width: int, weighs: bool) -> None:
        super().__init__()
        self.take = nn.Linear(width, width)  # W_9
        self.weighs = weighs
        if weighs:
            self.of_word = nn.Linear(width, width, bias=False)  # W_7
            self.of_seen = nn.Linear(width, width)  # W_8
            self.score = nn.Linear(2 * width, 1)  # w_s

    def forward(self, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, W, k) of words h and what they saw m, (B, W, k) each, and s (B, W, 1)."""
        s = torch.ones_like(h[..., :1])
        if self.weighs:
            s = torch.sigmoid(self.score(torch.cat([self.of_word(h), self.of_seen(m)], -1)))
        return s * torch.tanh(self.take(m)), s


class AdacanEncoder(Encoder):
    """[h; u]: each word, and what it found in the picture and in the text.

    Args:
        text: the text tower.
        sight: reads the pictures; None without, and then the states are the text tower's.
        o: the options.
    """

    by_post = True

    def __init__(self, text: TextTower, sight: Sight | None, o: AdacanOptions) -> None:
        super().__init__()
        k = text.width
        self.text, self.options = text, o
        self.sight: Sight | None = sight
        self.dropout = nn.Dropout(o.dropout)
        self.width = k if sight is None else 2 * k
        if sight is None:
            return
        self.region_map = nn.Linear(sight.width, k)  # W_d
        self.visual = AdditiveAttention(k, o.score)  # w, W_1, W_2
        self.textual = AdditiveAttention(k, o.score) if o.text_attention else None  # w', W_3, W_4
        self.of_picture, self.of_text = nn.Linear(k, k), nn.Linear(k, k)  # W_5, W_6
        self.gate = Gate(k, o.gate, bias=True)  # w_g
        self.filter = Filter(k, o.filter)

    def attend(self, batch: Batch, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What words (B, W, k) see of the picture and of the text, both as wide, and by which weights.

        Returns:
            v^ and h^ (B, W, k), the weights of the regions (B, W, R), and which posts have regions (B, 1, 1).
        """
        assert self.sight is not None
        pictures = self.sight.whole(batch)
        regions, mask = pictures.regions.flatten(1, 2), pictures.region_mask.flatten(1, 2)  # (B, R, d), (B, R)
        v = torch.tanh(self.region_map(regions))  # (B, R, k)
        seen, weights = self.visual(h, v, mask)
        words = h if self.textual is None else self.textual(seen, h, batch.text.read_mask)[0]
        return seen, words, weights, mask.any(1).view(-1, 1, 1)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        mask = batch.text.read_mask.unsqueeze(-1)  # (B, W, 1)
        h = self.dropout(self.text(batch.text).words)  # (B, W, k)
        if self.sight is None:
            return WordStates((h * mask).unsqueeze(0))
        seen, words, weights, has_regions = self.attend(batch, h)
        m, g = self.gate(torch.tanh(self.of_picture(seen)), torch.tanh(self.of_text(words)))
        u, s = self.filter(h, m)
        states = torch.cat([h, u * has_regions], -1) * mask  # u is 0 in a post without pictures
        traces = {}
        if trace:
            traces = {"gate": g.mean(-1), "filter": s.squeeze(-1)}
            if self.sight.kind == "pixels":  # words of a caption are no regions of a picture
                traces["attention"] = weights
        return WordStates(states.unsqueeze(0), trace=traces)
