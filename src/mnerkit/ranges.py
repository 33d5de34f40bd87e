"""Which numbers an option takes; a constructor says so in one line an option, and nothing is read before."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mnerkit.errors import UsageError

# of a whole number: what fits into 64 bits
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds, which belong to it unless it is said otherwise.

    Attributes:
        least: lower bound.
        most: upper bound.
        above: the lower bound itself is left out.
        below: the upper bound itself is left out.
    """

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        if isinstance(value, int) and abs(value) > LARGEST:  # no float can hold some of these
            return False
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return low and high and math.isfinite(value)

    def __str__(self) -> str:
        low = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        if math.isinf(self.most):
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.most:g}"


COUNT = Range(1)
WEIGHT = Range(0)
POSITIVE = Range(0, above=True)
SHARE = Range(0, 1)
DROPOUT = Range(0, 1, below=True)


def check(section: str, rule: Range, **given: float | None) -> None:
    """Refuse options outside their range; one that is None was not given.

    Args:
        section: what stands before the options' names: `model`, `model.head`, `data`.
        rule: the range.
        given: the options by name.

    Raises:
        UsageError: naming the first option, its value and the range.
    """
    for name, value in given.items():
        if value is not None and value not in rule:
            raise UsageError(f"--{section}.{name} {value}: give {rule}")
