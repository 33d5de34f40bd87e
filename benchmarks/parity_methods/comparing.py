"""Our tensors beside those of a case."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

STATES, LOSSES = 2e-5, 1e-4
LOSS_NAMES = ("*loss*", "*grad*/*", "*nll*", "*crf_log_partition", "*crf_gold_score")


class At(NamedTuple):
    """A tensor of which only some entries have a meaning.

    Attributes:
        values: any shape.
        mask: bool, broadcast to that shape over trailing axes: (B, n) for values (B, n, d).
    """

    values: Tensor
    mask: Tensor


Ours = Tensor | At


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the case's tensor.
        difference: largest |a - b| / (1 + |b|); inf where a is NaN, an infinity differs, or ours has no such tensor.
        tolerance: largest difference that passes.
        remark: why the tolerance is another one, or what is the matter.
    """

    name: str
    difference: float
    tolerance: float
    remark: str = ""

    @property
    def passes(self) -> bool:
        return self.difference <= self.tolerance


def difference(ours: Ours, theirs: Tensor) -> float:
    """The largest |a - b| / (1 + |b|); inf where a tensor holds NaN or infinities differ in place or sign."""
    mask: Tensor | None = None
    if isinstance(ours, At):
        ours, mask = ours
    if ours.shape != theirs.shape:
        raise ValueError(f"ours is {tuple(ours.shape)}, not {tuple(theirs.shape)}")
    a, b = ours.detach().double(), theirs.double()
    if mask is not None:
        mask = mask.bool().reshape(*mask.shape, *(1,) * (a.dim() - mask.dim())).expand_as(a)
        a, b = a[mask], b[mask]
        if not len(a):
            raise ValueError("the mask leaves nothing to compare")
    infinite = torch.isinf(a) | torch.isinf(b)
    if a.isnan().any() or b.isnan().any() or (a[infinite] != b[infinite]).any():
        return math.inf
    gaps = (a - b).abs() / (1 + b.abs())
    return float(gaps[~infinite].max()) if (~infinite).any() else 0.0


def tolerance_of(name: str, theirs: Tensor, table: Mapping[str, tuple[float, str]]) -> tuple[float, str]:
    """The tolerance of a tensor and its reason: the first pattern of `table` that fits, else by kind."""
    for pattern, entry in table.items():
        if fnmatch.fnmatchcase(name, pattern):
            return entry
    if not theirs.is_floating_point():
        return 0.0, ""
    return (LOSSES if any(fnmatch.fnmatchcase(name, each) for each in LOSS_NAMES) else STATES), ""


def compared(name: str, ours: Ours | None, theirs: Tensor, table: Mapping[str, tuple[float, str]]) -> Row:
    """Compare one tensor; a missing one, or one of another shape, is infinitely far off."""
    tolerance, reason = tolerance_of(name, theirs, table)
    if ours is None:
        return Row(name, math.inf, tolerance, "ours computes no such tensor, and no reason is listed")
    padded = isinstance(ours, At) and not ours.mask.all()
    remark = "; ".join(each for each in (reason, "apart from padding" if padded else "") if each)
    try:
        return Row(name, difference(ours, theirs), tolerance, remark)
    except ValueError as problem:
        return Row(name, math.inf, tolerance, str(problem))
