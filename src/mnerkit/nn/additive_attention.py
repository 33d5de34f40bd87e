"""Additive attention.

Bahdanau et al., 2015, "Neural Machine Translation by Jointly Learning to Align and Translate".
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.nn.attention import masked_softmax

Score = Literal["add", "separable"]


class AdditiveAttention(nn.Module):
    """`softmax_j(w tanh(P_q q_i + P_v v_j + b)) v_j`: a score that joins query and key inside one tanh.

    Args:
        width: d of queries and keys.
        score: `separable` scores the concatenation `w [tanh(P_q q_i + b); tanh(P_v v_j)] + b'`, a sum of a number of
            the query and one of the key. The softmax drops the former, so that every query gets the same weights.

    """

    def __init__(self, width: int, score: Score = "add") -> None:
        super().__init__()
        self.query = nn.Linear(width, width)  # P_q
        self.key = nn.Linear(width, width, bias=False)  # P_v
        self.joint = score == "add"
        # the bias of the separable score is as idle as its query, and belongs to the parameters that are counted
        self.score = nn.Linear(width, 1, bias=False) if self.joint else nn.Linear(2 * width, 1)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the keys.

        Args:
            queries: (B, N, d).
            keys: (B, M, d).
            mask: (B, M) bool, real keys.

        Returns:
            (B, N, d) and the weights (B, N, M), both 0 in rows without keys.
        """
        q, v = self.query(queries).unsqueeze(2), self.key(keys).unsqueeze(1)  # (B, N, 1, d), (B, 1, M, d)
        if self.joint:
            scores = self.score(torch.tanh(q + v)).squeeze(-1)  # (B, N, M)
        else:
            of_query, of_key = self.score.weight.squeeze(0).chunk(2)
            scores = torch.tanh(q) @ of_query + torch.tanh(v) @ of_key + self.score.bias
        weights = masked_softmax(scores, mask.unsqueeze(1))
        return weights.to(keys.dtype) @ keys, weights
