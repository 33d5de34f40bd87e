"""Abstract transitions between tags, counted on some types and spread over others (Yang and Katiyar, 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from mnerkit.nn.linear_chain import Scores

# abstract transitions, grouped by where they start: at the beginning of a post, after O, after a word of a type
ABSTRACT = ("start-O", "start-I", "O-O", "O-I", "I-O", "I-same", "I-other")
GROUPS = ((0, 1), (2, 3), (4, 5, 6))
# probability of a transition that never occurred: small, but no path is impossible
FLOOR = 1e-6


def count_transitions(posts: Iterable[Sequence[int | None]]) -> list[int]:
    """Count each transition of `ABSTRACT` in IO classes of posts: 0 is O, other numbers are types, None is unknown."""
    counts = dict.fromkeys(ABSTRACT, 0)
    for classes in posts:
        for previous, current in pairwise([-1, *classes]):
            if previous is None or current is None:
                continue
            start = "start" if previous == -1 else "I" if previous else "O"
            end = "O" if not current else "I" if start != "I" else "same" if previous == current else "other"
            counts[f"{start}-{end}"] += 1
    return list(counts.values())


def shares_of(counts: Tensor) -> Tensor:
    """Counts (7,) in the order of `ABSTRACT` as shares of their group; a group without counts has equal ones."""
    shares = counts.double().clone()
    for group in GROUPS:
        part = shares[list(group)]
        shares[list(group)] = part / part.sum() if bool(part.sum() > 0) else torch.full_like(part, 1 / len(group))
    return shares


def spread(
    counts: Tensor,
    num_types: int,
    tau: float,
    floor: Literal["clamp", "zeros"] = "clamp",
    one_type: Literal["proper", "released"] = "proper",
) -> Scores:
    """Log transition probabilities between O and `num_types` types.

    Each share of a group (start, O, I) is divided among the tags that the transition can lead to and raised to the
    power `tau`; then rows are normalised.

    Args:
        counts: (7,) in the order of `ABSTRACT`.
        num_types: N > 0.
        tau: values below 1 flatten the probabilities, values above 1 sharpen them.
        floor: what becomes 1e-6: probabilities below it (`clamp`), or those that are zero (`zeros`).
        one_type: with `released` and a single type, all probabilities after a word of it are zero.

    Returns:
        Start (1 + N,) and transitions (1 + N, 1 + N) in float32; end is 0.
    """
    start_o, start_i, o_o, o_i, i_o, same, other = shares_of(counts).unbind()
    table = start_o.new_empty(2 + num_types, 1 + num_types)  # from: start, O, types
    table[0, 0], table[0, 1:] = start_o, start_i / num_types
    table[1, 0], table[1, 1:] = o_o, o_i / num_types
    table[2:, 0], table[2:, 1:] = i_o, other / max(1, num_types - 1)
    table[2:, 1:].diagonal().copy_(same.expand(num_types))
    table = table.pow(tau).masked_fill(table == 0, 0.0)
    # with one type there is no other type to go to, and those transitions may have had all the counts
    table = table / table.sum(1, keepdim=True).clamp_min(1e-300)
    if num_types == 1 and one_type == "released":
        table[2:] = 0.0
    table = table.clamp_min(FLOOR) if floor == "clamp" else table.masked_fill(table == 0, FLOOR)
    table = table.log().float()
    return Scores(table[0], table[1:], torch.zeros_like(table[0]))
