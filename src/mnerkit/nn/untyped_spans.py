"""Spans without types: from tags to spans and back, their detection by a CRF, and scheduled sampling.

Spans of B rows of W words are a map (B, W) from words to the number of their span within the row, left to right, and -1
for words of none. Untyped tags are numbered O, B, I.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.nn.linear_chain import CRF, crf_nll, viterbi

SpanRepair = Literal["lenient", "strict"]
SamplingUnit = Literal["sentence", "batch"]
ROLES = 3  # O, B, I


def spans_of(tags: Tensor, mask: Tensor, repair: SpanRepair = "lenient") -> Tensor:
    """The spans that BIO tags mean, types looked at only to tell where one ends.

    Args:
        tags: (B, W) long: O is 0, B of type k is 1 + 2k, I is 2 + 2k; any number where padded.
        mask: (B, W) bool, real words, first in their row.
        repair: an orphan I (at the start, after O, or after another type) starts a span (`lenient`), or it and what
            continues it belong to none (`strict`).

    Returns:
        (B, W) long, the number of each word's span, or -1.
    """
    tags = tags.masked_fill(~mask, 0)
    kind = (tags + 1) // 2  # 0 for O
    begins = tags % 2 == 1
    before = nn.functional.pad(kind, (1, 0))[:, :-1]
    continues = (tags > 0) & ~begins & (kind == before)
    starts = (tags > 0) & ~continues
    run = starts.cumsum(1) - 1  # (B, W), the last run that started
    inside = tags > 0
    if repair == "strict":
        # a run counts if it starts with B; runs are numbered anew without the others
        counts = torch.zeros_like(begins).scatter_reduce(1, run.clamp_min(0), begins & starts, "amax")
        inside = inside & counts.gather(1, run.clamp_min(0))
        run = (starts & begins).cumsum(1) - 1
    return run.masked_fill(~inside, -1)


def tags_of_spans(spans: Tensor) -> Tensor:
    """Untyped tags O, B, I of the words, (B, W) long, from `spans` (B, W)."""
    inside = spans >= 0
    first = inside & (spans != nn.functional.pad(spans, (1, 0), value=-1)[:, :-1])
    return inside.long() * 2 - first.long()


def bounds_of_spans(spans: Tensor) -> tuple[Tensor, Tensor]:
    """First word and the word behind the last one of each span, (B, N, 2) long, and which are real, (B, N) bool.

    N is at least 1.
    """
    count = max(1, int(spans.max()) + 1) if spans.numel() else 1
    of = spans.unsqueeze(1) == torch.arange(count, device=spans.device).view(1, -1, 1)  # (B, N, W)
    first = of.int().argmax(-1)
    return torch.stack((first, first + of.sum(-1)), -1), of.any(-1)


class SpanTask(nn.Module):
    """Span detection: a linear layer and a CRF over untyped tags (GEI, Eq. 3-4).

    Args:
        width: d of the states that it reads.

    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, ROLES)
        self.crf = CRF(ROLES, batch_first=True)

    def emissions(self, states: Tensor) -> Tensor:
        """(B, W, d) to (B, W, 3) float32."""
        with torch.autocast(states.device.type, enabled=False):
            return self.linear(states.float())

    def loss(self, emissions: Tensor, tags: Tensor, mask: Tensor, given: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of untyped `tags` (B, W), a mean over rows with words; 0 where there is none.

        Args:
            emissions: (B, W, 3).
            tags: (B, W) long.
            mask: (B, W) bool, right-padded.
            given: (B, W) bool, words whose tag is known; None: all.
        """
        losses = crf_nll(emissions, tags, mask, self.crf.scores(), given)
        return losses.sum() / mask.any(1).sum().clamp_min(1)

    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The likeliest untyped tags, (B, W) long, O where padded. No gradient passes them."""
        tags = torch.zeros(mask.shape, dtype=torch.long)
        for row, path in enumerate(viterbi(emissions, mask, self.crf.scores())):
            tags[row, : len(path)] = torch.tensor(path, dtype=torch.long)
        return tags.to(mask.device)


@dataclass(frozen=True)
class ScheduledSampling:
    """Gold spans give way to predicted ones while training (GEI; after Bengio et al., 2015).

    Attributes:
        unit: the coin is tossed for each sentence, or once a batch.
        start: last epoch (the first one is 1) with gold spans alone.
        end: from this epoch on the share of predicted spans is `most`; it grows linearly in between.
        most: largest share.
    """

    unit: SamplingUnit = "sentence"
    start: int = 2
    end: int = 6
    most: float = 0.9

    def share(self, epoch: int) -> float:
        """Share of predicted spans in an epoch; the first one is 1."""
        if self.end <= self.start:
            return self.most if epoch > self.start else 0.0
        return self.most * min(1.0, max(0.0, (epoch - self.start) / (self.end - self.start)))

    def choose(self, gold: Tensor, predicted: Tensor, epoch: int) -> Tensor:
        """`predicted` spans (B, W) in a share of the rows, `gold` ones in the others; drawn from the global state."""
        share = self.share(epoch)
        coins = torch.rand(len(gold) if self.unit == "sentence" else 1, 1, device=gold.device)
        return torch.where(coins < share, predicted, gold)
