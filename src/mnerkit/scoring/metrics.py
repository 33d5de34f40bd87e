"""Entity scores as a torchmetrics metric: counts that add up over batches and ranks.

The pure functions are defined in `counts` and `significance`, which import no torch; this module exports them too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics import Metric

from mnerkit.scoring.counts import RULES, Tags, confusion, count_entities, entity_scores, named_scores, prf, report
from mnerkit.scoring.significance import paired_test

__all__ = ["EntityScores", "confusion", "count_entities", "entity_scores", "paired_test", "prf", "report"]


class EntityScores(Metric):
    """The scores of `entity_scores`, accumulated over batches and ranks.

    Args:
        types: entity types that get scores of their own. Entities of other types count in the micro scores only.

    """

    full_state_update = False
    higher_is_better = True
    totals: torch.Tensor
    by_type: torch.Tensor

    def __init__(self, types: Sequence[str] = ()) -> None:
        super().__init__()
        self.types = tuple(types)
        rules = len(RULES)
        self.add_state("totals", torch.zeros(rules, 3, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("by_type", torch.zeros(rules, len(self.types), 3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, gold: Tags, predicted: Tags) -> None:
        """Count the entities of some posts, given as one list of BIO tags for each post."""
        totals, by_type = np.zeros(self.totals.shape, dtype=np.int64), np.zeros(self.by_type.shape, dtype=np.int64)
        for number, rule in enumerate(RULES):
            for kind, counts in count_entities(gold, predicted, rule).items():
                totals[number] += counts
                if kind in self.types:
                    by_type[number, self.types.index(kind)] += counts
        self.totals += torch.from_numpy(totals).to(self.totals.device)
        self.by_type += torch.from_numpy(by_type).to(self.by_type.device)

    def compute(self) -> dict[str, float]:
        """Scores by name, in percent."""
        totals, by_type = self.totals.tolist(), self.by_type.tolist()
        return named_scores(
            dict(zip(RULES, totals, strict=True)),
            {
                kind: {rule: by_type[number][place] for number, rule in enumerate(RULES)}
                for place, kind in enumerate(self.types)
            },
        )
