"""Linear chains as a product of matrices over tags, taken two by two: a tree of depth log2(W) in place of W steps.

For devices on which starting an operation costs more than the operation. A word is the matrix (K from, K to) of the
scores of coming to each of its tags, and padding is the unit matrix. The log partition is the product of a row's
matrices in the log semiring, the best path their product in the max-plus semiring. `chain_sweeps` holds the sweeps that
are faster on a CPU; the public functions are in `linear_chain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# zero of the two semirings; finite, so that no difference of two of them is a NaN
NEVER = -1e30
_forced = False


def used_on(device: torch.device) -> bool:
    """Whether chains on a device are computed by trees."""
    return _forced or device.type != "cpu"


@contextmanager
def forced() -> Iterator[None]:
    """Compute chains by trees on the CPU, too: to test and count what another device would do."""
    global _forced
    before, _forced = _forced, True
    try:
        yield
    finally:
        _forced = before


def _matrices(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
    """The matrix of each word, (B, W, K, K). All rows of a first word's matrix are the same."""
    tags = len(start)
    into = torch.cat((start.expand(1, tags, tags), transitions.expand(mask.shape[1] - 1, tags, tags)))
    unit = torch.full_like(transitions, NEVER).fill_diagonal_(0.0)
    return torch.where(mask[..., None, None], emissions.unsqueeze(2) + into, unit)


def _pairs(level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The left and the right matrices (B, n, K, K) of the pairs, and what is left over: one matrix or none."""
    even = level.shape[1] // 2 * 2
    return level[:, 0:even:2], level[:, 1:even:2], level[:, even:]


def _through(left: Tensor, right: Tensor) -> Tensor:
    """Scores of the ways from a tag through another to a third, (B, n, K, K, K)."""
    return left.unsqueeze(-1) + right.unsqueeze(-3)


def _interleaved(left: Tensor, right: Tensor, rest: Tensor) -> Tensor:
    """The values of a level (B, n, ...) from those of its pairs and of what was left over."""
    both = torch.stack((left, right), dim=2).flatten(1, 2)
    return torch.cat((both, rest), dim=1) if rest.shape[1] else both


class LogPartition(torch.autograd.Function):
    """Log partition (B,) of emissions (B, W, K) and a right-padded mask (B, W); 0 for a row without words.

    The gradient goes down the same tree: the probability of each matrix's entries becomes that of its two factors'.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        """Multiply matrices two by two."""
        levels = [_matrices(emissions, mask, start, transitions)]
        while levels[-1].shape[1] > 1:
            left, right, rest = _pairs(levels[-1])
            product = torch.logsumexp(_through(left, right), dim=-2)
            levels.append(torch.cat((product, rest), dim=1) if rest.shape[1] else product)
        last = levels[-1][:, 0, 0] + end  # (B, K)
        log_z = torch.logsumexp(last, dim=1)
        ctx.save_for_backward(mask, last, log_z, *levels)
        return log_z.masked_fill(~mask[:, 0], 0.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Probabilities of tags and of pairs of tags, weighted by the gradient of each row."""
        mask, last, log_z, *levels = ctx.saved_tensors
        ends = (last - log_z.unsqueeze(1)).exp_() * gradient.masked_fill(~mask[:, 0], 0.0).unsqueeze(1)  # (B, K)
        weights = nn.functional.pad(ends[:, None, None], (0, 0, 0, ends.shape[1] - 1))  # (B, 1, K, K)
        for factors, product in zip(levels[-2::-1], levels[:0:-1], strict=True):
            left, right, rest = _pairs(factors)
            count = left.shape[1]
            shares = (_through(left, right) - product[:, :count].unsqueeze(-2)).exp_()  # (B, n, K, K, K)
            shares *= weights[:, :count].unsqueeze(-2)
            weights = _interleaved(shares.sum(-1), shares.sum(-3), weights[:, count : count + rest.shape[1]])
        weights = weights.masked_fill(~mask[..., None, None], 0.0)  # (B, W, K, K)
        by_word = weights.sum(2)
        return by_word, by_word[:, 0].sum(0), weights[:, 1:].sum((0, 1)), ends.sum(0), None


def best_paths(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> list[list[int]]:
    """Best tag sequences of emissions (B, W, K) and mask (B, W); the device is waited for once."""
    mask, tags = mask.bool(), len(start)
    level = _matrices(emissions, mask, start, transitions)
    choices = []
    while level.shape[1] > 1:
        left, right, rest = _pairs(level)
        product, through = _through(left, right).max(dim=-2)
        choices.append(through.flatten(-2))
        level = torch.cat((product, rest), dim=1) if rest.shape[1] else product
    to = (level[:, 0, 0] + end).argmax(-1, keepdim=True)  # (B, n): the tag to which a matrix leads
    source = torch.zeros_like(to)
    for through in reversed(choices):
        count = through.shape[1]
        pair = (source[:, :count] * tags + to[:, :count]).unsqueeze(-1)
        between = through.gather(-1, pair).squeeze(-1)
        source = _interleaved(source[:, :count], between, source[:, count:])
        to = _interleaved(between, to[:, :count], to[:, count:])
    *columns, lengths = torch.cat((to, mask.sum(1, keepdim=True)), dim=1).t().tolist()
    return [list(row[:length]) for row, length in zip(zip(*columns, strict=True), lengths, strict=True)]
