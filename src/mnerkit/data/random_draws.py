"""Random draws that are pure functions of their keys: equal on every machine, rank and worker."""

from __future__ import annotations

import random


def stream(*keys: int | str) -> random.Random:
    """Return a random stream that depends on `keys` alone (not on hash seeds, global state or earlier draws)."""
    return random.Random("/".join(map(str, keys)))


def permutation(length: int, *keys: int | str) -> list[int]:
    """Return the numbers below `length` in an order that depends on `keys` alone."""
    order = list(range(length))
    stream(*keys).shuffle(order)
    return order
