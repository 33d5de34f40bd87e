"""Spans without types: from tags to spans and back, their detection by a CRF, and scheduled sampling.

The spans of B rows of W words are a tensor (B, W) with the number of each word's span within the row, from left to
right, and -1 for words outside all spans. Untyped tags are numbered O, B, I.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mnerkit.nn.linear_chain import CRF, crf_nll, viterbi_tags

SpanRepair = Literal["lenient", "strict"]
SamplingUnit = Literal["sentence", "batch"]
ROLES = 3  # O, B, I


def spans_of(tags: Tensor, mask: Tensor, repair: SpanRepair = "lenient") -> Tensor:
    """The spans of BIO tags; types only decide where a span ends.

    Args:
        tags: (B, W) long: O is 0, B of type k is 1 + 2k, I is 2 + 2k; any number where padded.
        mask: (B, W) bool, real words, right-padded.
        repair: with `lenient`, an orphan I (at the start, after O, or after another type) starts a span; with `strict`,
            it and the tags that continue it belong to no span.

    Returns:
        (B, W) long, the number of each word's span, or -1.
    """
    tags = tags.masked_fill(~mask, 0)
    kind = (tags + 1) // 2  # 0 for O
    begins = tags % 2 == 1
    previous = nn.functional.pad(kind, (1, 0))[:, :-1]
    continues = (tags > 0) & ~begins & (kind == previous)
    starts = (tags > 0) & ~continues
    run = starts.cumsum(1) - 1  # (B, W), the last run that started
    inside = tags > 0
    if repair == "strict":
        # only runs that start with B count; renumber them
        counts = torch.zeros_like(begins).scatter_reduce(1, run.clamp_min(0), begins & starts, "amax")
        inside = inside & counts.gather(1, run.clamp_min(0))
        run = (starts & begins).cumsum(1) - 1
    return run.masked_fill(~inside, -1)


def tags_of_spans(spans: Tensor) -> Tensor:
    """Untyped tags O, B, I of the words, (B, W) long, from `spans` (B, W)."""
    inside = spans >= 0
    first = inside & (spans != nn.functional.pad(spans, (1, 0), value=-1)[:, :-1])
    return inside.long() * 2 - first.long()


def without_types(tags: Tensor, types: int) -> Tensor:
    """Tag numbers of `types` types and others (`TagSet`) untyped: O 0, B 1, I 2, then the others; same shape."""
    typed = torch.where(tags > 0, 2 - tags % 2, 0)
    return torch.where(tags > 2 * types, tags - 2 * types + 2, typed)


def bounds_of_spans(spans: Tensor) -> tuple[Tensor, Tensor]:
    """First word and word after the last one of each span, (B, N, 2) long, and which spans are real, (B, N) bool.

    N is at least 1.
    """
    count = max(1, int(spans.max()) + 1) if spans.numel() else 1
    members = spans.unsqueeze(1) == torch.arange(count, device=spans.device).view(1, -1, 1)  # (B, N, W)
    first = members.int().argmax(-1)
    return torch.stack((first, first + members.sum(-1)), -1), members.any(-1)


class SpanTask(nn.Module):
    """Span detection: a linear layer and a CRF over untyped tags (GEI, Eq. 3-4).

    Args:
        width: d of the input states.
        others: number of tags beside O, B and I, such as those of pieces that begin no word.

    """

    def __init__(self, width: int, others: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, ROLES + others)
        self.crf = CRF(ROLES + others, batch_first=True)

    def emissions(self, states: Tensor) -> Tensor:
        """(B, W, d) to (B, W, 3 + others) float32."""
        with torch.autocast(states.device.type, enabled=False):
            return self.linear(states.float())

    def loss(self, emissions: Tensor, tags: Tensor, mask: Tensor, observed: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of untyped `tags` (B, W), averaged over rows with words; 0 if there are none.

        Args:
            emissions: (B, W, 3 + others).
            tags: (B, W) long.
            mask: (B, W) bool, right-padded.
            observed: (B, W) bool, words whose tag is known; None: all.
        """
        losses = crf_nll(emissions, tags, mask, self.crf.scores(), observed)
        return losses.sum() / mask.any(1).sum().clamp_min(1)

    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The most likely untyped tags, (B, W) long, O where padded; without a gradient."""
        return viterbi_tags(emissions, mask, self.crf.scores())


@dataclass(frozen=True)
class ScheduledSampling:
    """Scheduled sampling: predicted spans gradually replace gold ones in training (GEI; after Bengio et al., 2015).

    Attributes:
        unit: draw for each sentence, or once for a batch.
        start: last epoch (the first one is 1) with gold spans only.
        end: from this epoch on the share of predicted spans is `most`; it grows linearly in between.
        most: largest share.
    """

    unit: SamplingUnit = "sentence"
    start: int = 2
    end: int = 6
    most: float = 0.9

    def share(self, epoch: int) -> float:
        """Share of predicted spans in an epoch; epochs are counted from 1."""
        if self.end <= self.start:
            return self.most if epoch > self.start else 0.0
        return self.most * min(1.0, max(0.0, (epoch - self.start) / (self.end - self.start)))

    def choose(self, gold: Tensor, predicted: Tensor, epoch: int) -> Tensor:
        """Take `predicted` spans (B, W) in a share of the rows, `gold` ones in the others, by torch's global state."""
        share = self.share(epoch)
        coins = torch.rand(len(gold) if self.unit == "sentence" else 1, 1, device=gold.device)
        return torch.where(coins < share, predicted, gold)
