"""The scores from which a head decodes: emissions of the words, and transitions if it has any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mnerkit.data.corpus.post import Entity
from mnerkit.nn.linear_chain import Scores, Segment, segment_probabilities, viterbi


@dataclass(frozen=True)
class Chain:
    """Scores of the tags of each word of some rows.

    Attributes:
        emissions: (R, W, K) log-scores of the tags or, with `io`, of the classes O and one a type.
        mask: (R, W) bool, words that the tower read.
        transitions: scores of the transitions; None if each word is decoded by itself.
        io: whether classes take the place of BIO tags. Adjacent words of one class are one entity.
    """

    emissions: Tensor
    mask: Tensor
    transitions: Scores | None = None
    io: bool = False

    def decode(self) -> list[list[int]]:
        """The best BIO tag numbers of the words of each row that were read; of equal ones the first."""
        if self.transitions is not None:
            best = viterbi(self.emissions, self.mask, self.transitions)
        else:
            best = most_likely(self.emissions, self)
        return from_io(best) if self.io else best

    def probabilities(self, decoded: Sequence[Sequence[int]], spans: Sequence[Sequence[Entity]]) -> list[list[float]]:
        """The probability of each decoded entity with its type, in the order of the entities of each row.

        With transitions it is the probability, over all tag sequences, that exactly these words have the entity's tags
        and that it ends there; without, the product of the probabilities of its words' tags.

        Args:
            decoded: BIO tag numbers of each row, as `decode` returns them, or with O behind them.
            spans: the entities of each row (`data.corpus.tags.entities`).
        """
        segments = [[self._segment(row, decoded[row], span) for span in entities] for row, entities in enumerate(spans)]
        flat = [segment for row in segments for segment in row]
        if self.transitions is not None:
            values = iter(segment_probabilities(self.emissions, self.mask, self.transitions, flat))
            return [[next(values) for _ in row] for row in segments]
        if not flat:
            return [[] for _ in segments]
        words = [
            (segment.row, segment.start + place, tag) for segment in flat for place, tag in enumerate(segment.tags)
        ]
        rows, places, tags = torch.tensor(words, device=self.emissions.device).t()
        log_p = self.emissions[rows, places].log_softmax(-1).gather(1, tags.unsqueeze(1)).squeeze(1)
        owner = torch.tensor([number for number, segment in enumerate(flat) for _ in segment.tags], device=log_p.device)
        sums = iter(log_p.new_zeros(len(flat)).index_add(0, owner, log_p).exp().tolist())
        return [[next(sums) for _ in row] for row in segments]

    def _segment(self, row: int, tags: Sequence[int], span: Entity) -> Segment:
        """An entity as a path of the chain: its BIO tags, which may begin with I, or its class at each word."""
        kind = (tags[span.start] + 1) // 2
        if self.io:
            return Segment(row, span.start, (kind,) * (span.end - span.start), kind, also_before=True)
        return Segment(row, span.start, tuple(tags[span.start : span.end]), 2 * kind)


class Masked(Protocol):
    """Rows of words."""

    @property
    def mask(self) -> Tensor:
        """(R, W) bool, words that the tower read."""


def most_likely(scores: Tensor, words: Masked) -> list[list[int]]:
    """Indices of the highest of the scores (R, W, K) of each word that was read; of equal ones the first."""
    rows = torch.cat((scores.argmax(-1), words.mask.sum(1, keepdim=True)), 1).tolist()  # one read for both
    return [row[: row[-1]] for row in rows]


def from_io(classes: Iterable[Sequence[int]]) -> list[list[int]]:
    """BIO tags of IO classes (0 is O, k is the k-th type): adjacent words of one type are one entity."""
    return [
        [kind and 2 * kind - (previous != kind) for previous, kind in zip([0, *row], row, strict=False)]
        for row in classes
    ]
