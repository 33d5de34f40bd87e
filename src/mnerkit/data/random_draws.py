"""Random draws that are pure functions of their keys: equal on every machine, rank and worker.

Those of `Dice` are the same with every numpy release, too: the probe corpus is drawn with it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np


def stream(*keys: int | str) -> random.Random:
    """Return a random stream that depends on `keys` alone (not on hash seeds, global state or earlier draws)."""
    return random.Random("/".join(map(str, keys)))


def permutation(length: int, *keys: int | str) -> list[int]:
    """Return the numbers below `length` in an order that depends on `keys` alone."""
    order = list(range(length))
    stream(*keys).shuffle(order)
    return order


Item = TypeVar("Item")


class Dice:
    """Integer draws from the raw stream of PCG64.

    numpy promises a stable stream for its bit generators, but not for the distributions of `Generator`; so only the
    former are used, and everything after them is integer arithmetic.

    Args:
        key: what the stream is a function of; non-negative integers.
    """

    _BLOCK = 256

    def __init__(self, key: Sequence[int]) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(list(key)))
        self._drawn: list[int] = []

    def below(self, count: int) -> int:
        """One of 0 .. count - 1."""
        if not self._drawn:
            self._drawn = self._bits.random_raw(self._BLOCK).tolist()
        return (self._drawn.pop() >> 32) * count >> 32

    def between(self, low: int, high: int) -> int:
        """One of low .. high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 draws."""
        return self.below(100) < percent

    def pick(self, items: Sequence[Item]) -> Item:
        """One of `items`."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """`items` in random order."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.below(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed

    def weighted(self, percents: Sequence[int]) -> int:
        """A position of `percents`, which sum to 100, drawn with those chances."""
        left = self.below(100)
        for position, percent in enumerate(percents):
            left -= percent
            if left < 0:
                return position
        raise ValueError(f"chances {tuple(percents)} do not sum to 100")

    def noise(self, shape: tuple[int, ...], deviation: int) -> np.ndarray:
        """int64 noise of zero mean and the given standard deviation: the sum of four uniform bytes, rescaled."""
        count = int(np.prod(shape))
        stream = self._bits.random_raw(-(-count // 2))
        drawn = stream.astype("<u8").view(np.uint8)[: 4 * count].astype(np.int64)
        total = drawn[0::4] + drawn[1::4] + drawn[2::4] + drawn[3::4]
        # four uniform bytes have mean 510 and standard deviation 148
        return ((total - 510) * deviation // 148).reshape(shape)
